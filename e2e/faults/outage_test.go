package faults

import (
	"context"
	"fmt"
	"testing"
	"time"
)

var outage = scenario{
	name:  "outage",
	fault: "the upstream fails everything for 60 s",
	load:  "500 reads per second",
	must:  "at most 1.10 attempts per call from 5 s on; 99 % of the calls succeed from 5 s after the recovery on",
}

func TestOutage(t *testing.T) {
	r := outage.begin(t)
	up := startFake(t, behaviour{})
	callers := startFacade(t, []string{up.url}, append(apart, "--plan=unlimited")...).callers(t, 4)
	before, down, after := form(500*time.Millisecond, 5*time.Second), form(3*time.Second, 60*time.Second), form(3500*time.Millisecond, 20*time.Second)
	settled := form(time.Second, 5*time.Second)
	calls := load{rate: form(100.0, 500.0), length: before + down + after, call: func(ctx context.Context, n int) outcome {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return callers[n%len(callers)].read(ctx, fmt.Sprintf("alice|1|peer%d", n))
	}}.begin(t.Context())
	calls.until(t.Context(), before)
	up.become(behaviour{down: true})
	calls.until(t.Context(), before+down)
	up.become(behaviour{})
	recovery := before + down
	records := calls.wait()

	asked := within(records, before+settled, recovery)
	attempts := up.ledger.came(apiGet, calls.started.Add(before+settled), calls.started.Add(recovery))
	r.figure("attempts per call", float64(len(attempts))/float64(len(asked)), "", atMost(1.10))
	if n := len(where(within(records, 0, before), broken)); n > 0 {
		t.Errorf("%d calls failed before the outage", n)
	}
	r.figure("succeeded at all after the recovery", float64(len(where(within(records, recovery, recovery+after), succeeded))), " calls", atLeast(1))
	late := within(records, recovery+5*time.Second, recovery+after)
	r.timed("succeeded from 5 s after the recovery on", share(late, succeeded)*100, " %", atLeast(99))
	r.sayf("all well %s s after the recovery", digits((lastFailure(records) - recovery).Seconds()))
	r.sayf("answers during the outage at p99 after %s ms", digits(milliseconds(percentile(times(asked, record.took), 0.99))))
	r.write()
}

// lastFailure returns when the last call that failed was due.
func lastFailure(records []record) (last time.Duration) {
	for _, f := range where(records, broken) {
		last = max(last, f.due)
	}
	return last
}

var instant = scenario{
	name:  "failing instant",
	fault: "1,000 calls fail in one instant",
	load:  "1,000 reads at once; callers repeat exactly when they are told to",
	must:  "no 10 ms hold more than 5 % of the repetitions, those of the service and those of the callers",
}

func TestFailingInstant(t *testing.T) {
	r := instant.begin(t)
	const most = 1000
	calls := form(200, most)
	fall := make(chan struct{})
	up := startFake(t, behaviour{firstFail: fall})
	callers := startFacade(t, []string{up.url}, append(apart, "--plan=unlimited", fmt.Sprint("--max-in-flight=", 2*most))...).callers(t, 8)
	ended := make(chan struct{})
	answered := make([]bool, calls)
	go func() {
		defer close(ended)
		each(t, calls, calls, func(i int) {
			for range patience {
				o := insist(t.Context(), func(ctx context.Context) outcome {
					return callers[i%len(callers)].read(ctx, fmt.Sprintf("alice|1|peer%d", i))
				})
				if answered[i] = o.ok(); o.ok() {
					return
				}
			}
		})
	}()
	// The client keeps at most so many connections; the rest fails right behind.
	held := func() int { return len(up.ledger.came(apiGet, time.Time{}, time.Now())) }
	if !await(t.Context(), 2*time.Second, func() bool { return held() >= min(calls, 512) }) {
		r.sayf("only %d calls were under way at the upstream when it failed", held())
	}
	close(fall)
	<-ended

	var repetitions, first []arrival
	for _, a := range up.ledger.came(apiGet, time.Time{}, time.Now()) {
		if a.nth > 1 {
			repetitions = append(repetitions, a)
		} else {
			first = append(first, a)
		}
	}
	unanswered := 0
	for _, ok := range answered {
		if !ok {
			unanswered++
		}
	}
	r.figure("never answered", float64(unanswered), "", atMost(0))
	r.timed("fullest 10 ms", float64(fullestSlot(repetitions, 10*time.Millisecond))/float64(len(repetitions))*100, " % of the repetitions", atMost(5))
	if len(repetitions) > 0 {
		spread := repetitions[len(repetitions)-1].at.Sub(repetitions[0].at)
		r.sayf("%d calls failed and %d repetitions came within %s s", len(first), len(repetitions), digits(spread.Seconds()))
	}
	r.write()
}

var burst = scenario{
	name:  "burst of reads",
	fault: "the upstream allows 100 calls per second",
	load:  "1,000 GetConversation at once, each of another conversation",
	must:  "all answered within 0.5 s",
}

func TestBurstOfReads(t *testing.T) {
	r := burst.begin(t)
	const calls = 1000
	up := startFake(t, behaviour{rate: 100, service: 10 * time.Millisecond})
	f := startFacade(t, []string{up.url}, "--plan=standard")
	callers := f.callers(t, 4)
	for _, c := range callers { // makes the connections
		if o := c.read(t.Context(), "alice|1|nobody"); !o.ok() {
			t.Fatal(o.err)
		}
	}
	up.ledger.forget()
	begun := time.Now()
	results := make([]record, calls)
	each(t, calls, calls, func(i int) {
		ctx, cancel := context.WithTimeout(t.Context(), form(30*time.Second, 5*time.Second))
		defer cancel()
		o := callers[i%len(callers)].read(ctx, fmt.Sprintf("alice|1|peer%d", i))
		results[i] = record{outcome: o, n: i, end: time.Since(begun)}
	})
	took := time.Duration(0)
	for _, c := range results {
		took = max(took, c.end)
	}
	single, merged := len(up.ledger.came(apiGet, begun, time.Now())), len(up.ledger.came(apiBatchGet, begun, time.Now()))
	r.figure("answered", share(results, succeeded)*calls, "", atLeast(calls))
	r.figure("calls of the upstream", float64(single+merged), "", atMost(100))
	r.timed("the last after", milliseconds(took), " ms", atMost(500))
	r.sayf("%d of the upstream's calls were for one conversation, %d for many", single, merged)
	if failed := reasons(results); len(failed) > 0 {
		r.sayf("failed: %v", failed)
	}
	r.write()
}

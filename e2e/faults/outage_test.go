package faults

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var outage = scenario{
	name:  "outage",
	fault: "the upstream fails everything for 60 s",
	load:  "500 reads per second",
	must:  "at most 1.10 attempts per call from 5 s on; 99 % of the calls succeed from 5 s after the recovery on",
}

func TestOutage(t *testing.T) {
	testmode.Beside(t)
	r := outage.begin(t)
	up := startFake(t, behaviour{})
	callers := startFacade(t, []string{up.url}, apart...).callers(t, 4)
	before, down, after := form(500*time.Millisecond, 5*time.Second), form(3*time.Second, 60*time.Second), form(3500*time.Millisecond, 20*time.Second)
	settled := form(time.Second, 5*time.Second)
	calls := load{rate: form(100.0, 500.0), length: before + down + after, call: func(ctx context.Context, n int) outcome {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return callers[n%len(callers)].read(ctx, peer(n))
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
	if n := len(where(records, func(c record) bool { return broken(c) && c.end < before })); n > 0 {
		t.Errorf("%d calls failed before the outage", n)
	}
	r.must(callers[0].well(t), "calls fail after the recovery")
	if late := within(records, recovery+5*time.Second, recovery+after); len(late) > 0 { // as the short form has none
		r.timed("succeeded from 5 s after the recovery on", share(late, succeeded)*100, " %", atLeast(99))
	}
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
	testmode.Beside(t)
	r := instant.begin(t)
	calls := form(200, 1000)
	fall := make(chan struct{})
	up := startFake(t, behaviour{fall: fall})
	callers := startFacade(t, []string{up.url}, append(apart, fmt.Sprint("--max-in-flight=", 2*calls))...).callers(t, 8)
	ended := make(chan struct{})
	made := make([][]time.Time, calls) // when the calls of each conversation began
	answered := make([]bool, calls)
	go func() {
		defer close(ended)
		each(t, calls, calls, func(i int) {
			for len(made[i]) < patience && !answered[i] {
				made[i] = append(made[i], time.Now())
				answered[i] = insist(t.Context(), func(ctx context.Context) outcome {
					return callers[i%len(callers)].read(ctx, peer(i))
				}).ok()
			}
		})
	}()
	// The service has its own idea of how many calls it lets through at a time; the
	// rest fails by being refused.
	held := func() int { return len(up.ledger.came(apiGet, time.Time{}, time.Now())) }
	for before := 0; before == 0 || before != held(); pause(t.Context(), 300*time.Millisecond) {
		before = held()
	}
	r.Logf("%d calls under way at the upstream", held())
	close(fall)
	<-ended

	unanswered, byCallers := 0, []time.Time(nil)
	for i := range calls {
		if !answered[i] {
			unanswered++
		}
		byCallers = append(byCallers, made[i][1:]...)
	}
	byService := repetitions(up.ledger.came(apiGet, time.Time{}, time.Now()), made)
	all := slices.Concat(byCallers, byService)
	r.figure("never answered", float64(unanswered), "", atMost(0))
	r.timed("fullest 10 ms", float64(fullestSlot(all, 10*time.Millisecond))/float64(max(1, len(all)))*100, " % of the repetitions", atMost(5))
	r.sayf("%d repetitions by the service, %d by the callers, within %s s", len(byService), len(byCallers),
		digits(slices.MaxFunc(all, time.Time.Compare).Sub(slices.MinFunc(all, time.Time.Compare)).Seconds()))
	r.write()
}

func peer(i int) string { return fmt.Sprintf("alice|1|peer%d", i) }

// repetitions returns when the service tried again by itself: all requests for a
// conversation during one call but the first.
func repetitions(arrivals []arrival, made [][]time.Time) []time.Time {
	at := make(map[string][]time.Time)
	for _, a := range arrivals {
		at[a.intention] = append(at[a.intention], a.at)
	}
	var again []time.Time
	for i, begins := range made {
		for j, begin := range begins {
			during := slices.DeleteFunc(slices.Clone(at[peer(i)]), func(when time.Time) bool {
				return when.Before(begin) || j+1 < len(begins) && !when.Before(begins[j+1])
			})
			if len(during) > 1 {
				again = append(again, during[1:]...)
			}
		}
	}
	return again
}

var burst = scenario{
	name:  "burst of reads",
	fault: "the upstream allows 100 calls per second",
	load:  "1,000 GetConversation at once, each of another conversation",
	must:  "all answered within 0.5 s",
}

func TestBurstOfReads(t *testing.T) {
	testmode.Beside(t)
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
		ctx, cancel := context.WithTimeout(t.Context(), form(20*time.Second, 5*time.Second))
		defer cancel()
		o := callers[i%len(callers)].read(ctx, peer(i))
		results[i] = record{outcome: o, n: i, end: time.Since(begun)}
	})
	took := time.Duration(0)
	for _, c := range results {
		took = max(took, c.end)
	}
	single, merged := len(up.ledger.came(apiGet, begun, time.Now())), len(up.ledger.came(apiBatchGet, begun, time.Now()))
	r.timed("answered", share(results, succeeded)*calls, "", atLeast(calls))
	r.figure("calls of the upstream", float64(single+merged), "", atMost(form(500.0, 100)))
	r.timed("the last after", milliseconds(took), " ms", atMost(500))
	r.sayf("%d of the upstream's calls were for one conversation, %d for many", single, merged)
	if failed := reasons(results); len(failed) > 0 {
		r.sayf("failed: %s", tally(failed))
	}
	r.write()
}

package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var failover = scenario{
	name:  "failover",
	fault: "the main endpoint goes silent for 15 s, is healed for 45 s, then goes silent every other 3 s for 60 s",
	load:  "300 reads per second, deadlines of 1, 2 and 5 s",
	must:  "at most 1 % of the calls fail from 2 s on; at most one switch of endpoints in 10 s",
}

const switchesMetric = "yunxin_facade_upstream_endpoint_switches_total"

func TestFailover(t *testing.T) {
	testmode.Beside(t)
	r := failover.begin(t)
	for _, m := range []mode{swallow, deaf} {
		// In the short form one way of going silent will do.
		if full || m == deaf {
			t.Run(m.String(), func(t *testing.T) { r.failOver(t, m) })
		}
	}
	r.write()
}

// failOver takes the service through the scenario, with one of the ways to go
// silent.
func (r *report) failOver(t *testing.T, m mode) {
	t.Helper()
	r.TB = t
	prefer, backup := startFake(t, behaviour{}), startFake(t, behaviour{})
	p := startProxy(t, strings.TrimPrefix(prefer.url, "http://"))
	f := startFacade(t, []string{"http://" + p.address(), backup.url}, apart...)
	callers := f.callers(t, 4)
	deadlines := []time.Duration{time.Second, 2 * time.Second, 5 * time.Second}
	well, silent, healed, flapping := form(500*time.Millisecond, 5*time.Second), form(2500*time.Millisecond, 15*time.Second),
		form(3500*time.Millisecond, 45*time.Second), form(500*time.Millisecond, 60*time.Second)
	flap := form(500*time.Millisecond, 3*time.Second)
	calls := load{rate: form(60.0, 300.0), length: well + silent + healed + flapping, call: func(ctx context.Context, n int) outcome {
		ctx, cancel := context.WithTimeout(ctx, deadlines[n%len(deadlines)])
		defer cancel()
		return callers[n%len(callers)].read(ctx, peer(n))
	}}.begin(t.Context())
	switches := f.watchSwitches(t, calls.started)

	calls.until(t.Context(), well)
	p.set(t, fault{mode: m})
	calls.until(t.Context(), well+silent)
	p.set(t, fault{})
	for at, down := well+silent+healed, true; at < well+silent+healed+flapping; at, down = at+flap, !down {
		calls.until(t.Context(), at)
		p.set(t, fault{mode: map[bool]mode{true: m, false: pass}[down]})
	}
	records := calls.wait()
	p.set(t, fault{})
	moved := switches()

	took := backup.ledger.came(apiGet, calls.started, time.Now())
	r.figure(m.String()+": calls that the backup got", float64(len(took)), "", atLeast(1))
	late := within(records, well+2*time.Second, well+silent+healed+flapping)
	r.timed("failed from 2 s on", share(late, broken)*100, " %", atMost(1))
	r.sayf("outside of 2 s after each begin of a silence %s %%", digits(share(where(late, func(c record) bool {
		return c.due < well+silent+healed || (c.due-well-silent-healed)%(2*flap) >= 2*time.Second
	}), broken)*100))
	r.sayf("failed in the first 2 s %s %%", digits(share(within(records, well, well+2*time.Second), broken)*100))
	least := 10.0
	for i := 1; i < len(moved); i++ {
		least = min(least, (moved[i] - moved[i-1]).Seconds())
	}
	r.figure("least time between two switches (10 s or more count as that)", least, " s", atLeast(9.9))
	r.sayf("%d switches, after %s s", len(moved), seconds(moved))
	for at := time.Duration(0); at < well+silent+healed+flapping; at += flap {
		if some := within(records, at, at+flap); share(some, broken) > 0 {
			t.Logf("%v: of %d failed %v", at, len(some), reasons(some))
		}
	}
}

func seconds(times []time.Duration) string {
	var texts []string
	for _, at := range times {
		texts = append(texts, fmt.Sprintf("%.1f", at.Seconds()))
	}
	return strings.Join(texts, ", ")
}

// watchSwitches notes when the calls move to another endpoint. The function that
// it returns ends that and tells the times since the begin.
func (f facade) watchSwitches(tb testing.TB, begin time.Time) func() []time.Duration {
	tb.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var (
		watch  sync.WaitGroup
		moved  []time.Duration
		absent bool
	)
	watch.Go(func() {
		last := 0.0
		for more := true; more; more = pause(ctx, 50*time.Millisecond) {
			// Not under ctx: whoever ends the watch while a page is read would cut it.
			count, ok := f.metric(context.WithoutCancel(ctx), tb, switchesMetric)
			if !ok {
				absent = true
				return
			}
			for ; last < count; last++ {
				moved = append(moved, time.Since(begin))
			}
		}
	})
	return func() []time.Duration {
		stop()
		watch.Wait()
		if absent {
			tb.Errorf("there is no metric %s", switchesMetric)
		}
		return slices.Clone(moved)
	}
}

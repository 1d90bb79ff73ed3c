package faults

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"
)

var quota = scenario{
	name:  "quota",
	fault: "the upstream allows 100 calls per second",
	load:  "400 reads per second: 220 of one caller, 60 of each of three others",
	must:  "at most 105 sent in any second; Jain's index of fairness at least 0.95; whoever waits as long as RetryInfo says gets in",
}

func TestQuota(t *testing.T) {
	r := quota.begin(t)
	up := startFake(t, behaviour{rate: 100})
	callers := startFacade(t, []string{up.url}, append(apart, "--plan=standard")...).callers(t, 4)
	length := form(3*time.Second, 60*time.Second)
	rates := []float64{220, 60, 60, 60}
	got := make([]float64, len(callers))
	var (
		runs      []*run
		mu        sync.Mutex
		refused   int
		untold    int // refusals that do not say when to come again
		returned  int // calls that came again when they were told to
		letIn     int
		latest    time.Duration
		repeating sync.WaitGroup
	)
	for i, c := range callers {
		call := func(ctx context.Context, n int) outcome {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return c.read(ctx, fmt.Sprintf("caller%d|1|peer%d", i, n))
		}
		runs = append(runs, load{rate: rates[i], length: length, call: func(ctx context.Context, n int) outcome {
			o := call(ctx, n)
			if o.ok() || o.reason != "QUOTA_EXCEEDED" {
				return o
			}
			mu.Lock()
			defer mu.Unlock()
			refused++
			if !o.again || o.wait <= 0 {
				untold++
				return o
			}
			latest = max(latest, o.wait)
			if refused%20 == 0 { // more would be a load of its own
				repeating.Go(func() {
					pause(ctx, o.wait)
					again := call(ctx, n+1_000_000)
					mu.Lock()
					defer mu.Unlock()
					returned++
					if again.ok() {
						letIn++
					}
				})
			}
			return o
		}}.begin(t.Context()))
	}
	var all []record
	for i, run := range runs {
		records := run.wait()
		all = append(all, records...)
		got[i] = float64(len(where(records, succeeded)))
	}
	took := time.Since(runs[0].started)
	repeating.Wait()

	sent := up.ledger.came(apiGet, runs[0].started, time.Now())
	r.timed("most in any second", float64(mostWithin(sent, time.Second)), "", atMost(105))
	during := up.ledger.came(apiGet, runs[0].started, runs[0].started.Add(took))
	r.figure("sent per second of the whole time", math.Round(float64(len(during))/took.Seconds()), "", atMost(105))
	r.timed("of 100 allowed", float64(len(where(all, succeeded)))/took.Seconds(), " used", atLeast(90))
	r.figure("fairness", jain(got), "", atLeast(0.95))
	r.figure("refusals without RetryInfo", float64(untold), "", atMost(0))
	r.figure("of those who waited were let in", 100*float64(letIn)/float64(max(1, returned)), " %", atLeast(100))
	r.sayf("%d of %d calls refused, told to wait at most %s s; %d came again", refused, len(all), digits(latest.Seconds()), returned)
	r.sayf("not refused, but failed: %d", len(where(all, func(c record) bool { return broken(c) && c.reason != "QUOTA_EXCEEDED" })))
	t.Logf("by caller %v, failed %v", got, reasons(all))
	r.write()
}

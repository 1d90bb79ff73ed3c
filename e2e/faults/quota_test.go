package faults

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var quota = scenario{
	name:  "quota",
	fault: "the upstream allows 100 calls per second",
	load:  "400 reads per second: 220 of one caller, 60 of each of three others",
	must:  "at most 105 sent in any second; Jain's index of fairness at least 0.95; of those who come again when RetryInfo says, at least 80 % are let in within two tries",
}

func TestQuota(t *testing.T) {
	testmode.Beside(t)
	r := quota.begin(t)
	// Few of those who are refused come again, and then all of them do: what RetryInfo
	// says must hold in both.
	few := r.crowd(form(1500*time.Millisecond, 30*time.Second), 20)
	r.timed("most in any second", float64(few.most), "", atMost(105))
	r.figure("sent per second", math.Round(few.perSecond), "", atMost(105))
	r.timed("of what is allowed", few.perSecond, " % used", atLeast(90))
	r.figure("fairness", few.fairness, "", atLeast(0.95))
	r.figure("refusals without RetryInfo", float64(few.untold), "", atMost(0))
	few.toldTheTruth(r, "few")
	all := r.crowd(form(time.Second, 15*time.Second), 1)
	r.figure("if all come again, fairness", all.fairness, "", atLeast(0.95))
	r.timed("most in any second", float64(all.most), "", atMost(105))
	all.toldTheTruth(r, "all")
	r.write()
}

// A crowd is four callers who together ask for four times the quota.
type crowd struct {
	callers []*caller
	oneIn   int // one in so many comes again when it is told to

	mu        sync.Mutex
	refused   int
	untold    int // refusals that do not say when to come again
	returned  int
	letIn     int
	answers   map[int][]time.Time // of those who came again, by caller
	longest   time.Duration
	failed    map[string]int // how calls failed other than by the quota
	repeating sync.WaitGroup

	fairness, perSecond float64
	most                int // in any second
}

func (c *crowd) toldTheTruth(r *report, who string) {
	r.Helper()
	r.figure(fmt.Sprintf("of %d who came again, %s of those refused, were let in within two tries", c.returned, who),
		100*float64(c.letIn)/float64(max(1, c.returned)), " %", atLeast(form(50.0, 80)))
	r.sayf("told to wait at most %s s", digits(c.longest.Seconds()))
	if len(c.failed) > 0 {
		r.sayf("failed otherwise: %s", tally(c.failed))
	}
}

// crowd lets loose a crowd upon a service of its own, and returns when the last of
// it has its answer. One in so many comes again.
func (r *report) crowd(length time.Duration, oneIn int) *crowd {
	r.Helper()
	up := startFake(r, behaviour{rate: 100})
	callers := startFacade(r, []string{up.url}, append(apart, "--plan=standard")...).callers(r, 4)
	c := &crowd{callers: callers, oneIn: oneIn, failed: make(map[string]int), answers: make(map[int][]time.Time)}
	got := make([]float64, len(callers))
	var runs []*run
	for i, rate := range []float64{220, 60, 60, 60} {
		runs = append(runs, load{rate: rate, length: length, call: func(ctx context.Context, n int) outcome {
			return c.ask(ctx, i, n)
		}}.begin(r.Context()))
	}
	begin := runs[0].started
	for i, run := range runs {
		got[i] = float64(len(where(run.wait(), func(r record) bool { return r.ok() && r.end < length })))
	}
	c.repeating.Wait()
	for i, answers := range c.answers { // one caller's new calls may take the turns of its old ones
		for _, at := range answers {
			if at.Before(begin.Add(length)) {
				got[i]++
			}
		}
	}
	sent := up.ledger.came(apiGet, begin, begin.Add(length))
	c.fairness, c.perSecond = jain(got), float64(len(sent))/length.Seconds()
	c.most = mostWithin(up.ledger.came(apiGet, begin, time.Now()), time.Second)
	r.Logf("answered %v, refused %d", got, c.refused)
	return c
}

// ask makes one call of a caller, and sees to it that it comes again.
func (c *crowd) ask(ctx context.Context, i, n int) outcome {
	o := c.try(ctx, i, n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.ok() || o.reason != "QUOTA_EXCEEDED" {
		c.count(o)
		return o
	}
	c.refused++
	if !o.again || o.wait <= 0 {
		c.untold++
		return o
	}
	// The suite's short form has no time for long waits.
	if c.refused%c.oneIn != 0 || o.wait > form(2500*time.Millisecond, 2*time.Minute) {
		return o
	}
	c.longest = max(c.longest, o.wait)
	c.repeating.Go(func() {
		pause(ctx, o.wait)
		again := c.try(ctx, i, n+1_000_000)
		if again.again && again.wait > 0 {
			pause(ctx, again.wait)
			again = c.try(ctx, i, n+2_000_000)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.returned++
		if again.ok() {
			c.letIn++
			c.answers[i] = append(c.answers[i], time.Now())
		}
		c.count(again)
	})
	return o
}

func (c *crowd) try(ctx context.Context, i, n int) outcome {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.callers[i].read(ctx, fmt.Sprintf("caller%d|1|peer%d", i, n))
}

func (c *crowd) count(o outcome) {
	if !o.ok() && o.reason != "QUOTA_EXCEEDED" {
		c.failed[o.code.String()+" "+o.reason]++
	}
}

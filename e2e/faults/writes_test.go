package faults

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var keyedWrites = scenario{
	name:  "keyed writes",
	fault: "the upstream executes 10 % of the calls and loses the answer, resets 5 % before, answers 5 % with HTTP 502",
	load:  "100,000 messages with an idempotency key, repeated under it until they are acknowledged",
	must:  "each acknowledged message executed exactly once: 0 lost, 0 doubled",
}

var plainWrites = scenario{
	name:  "plain writes",
	fault: "the same, and the upstream knows no trace id again",
	load:  "50,000 messages without a key, repeated only if the answer says so",
	must:  "no message arrives twice; what is said not to have been sent has not arrived",
}

// unreliable is the upstream of both scenarios.
var unreliable = behaviour{lost: 0.10, reset: 0.05, gateway: 0.05}

// patience is how often a caller repeats a message before it gives up, which none
// must.
const patience = 40

func TestKeyedWrites(t *testing.T) {
	testmode.Beside(t)
	r := keyedWrites.begin(t)
	b := unreliable
	b.once = true
	up := startFake(t, b)
	callers := startFacade(t, []string{up.url}).callers(t, 4)
	messages := form(1000, 100_000)
	var calls, gaveUp atomic.Int64
	acknowledged := make([]bool, messages)
	each(t, messages, form(250, 500), func(i int) {
		text := "message " + strconv.Itoa(i)
		for range patience {
			calls.Add(1)
			o := insist(t.Context(), func(ctx context.Context) outcome { return callers[i%4].send(ctx, "key-"+strconv.Itoa(i), text) })
			if o.ok() {
				acknowledged[i] = true
				return
			}
			if !o.again {
				t.Errorf("%s: %v says nothing of repeating", text, o.err)
			}
		}
		gaveUp.Add(1)
	})
	lost, doubled := 0, 0
	for i, ok := range acknowledged {
		e := up.ledger.entry("message " + strconv.Itoa(i))
		if ok && e.commits == 0 {
			lost++
		}
		if e.commits > 1 {
			doubled++
		}
	}
	r.figure("lost", float64(lost), "", atMost(0))
	r.figure("doubled", float64(doubled), "", atMost(0))
	r.figure("given up by their callers", float64(gaveUp.Load()), "", atMost(0))
	r.sayf("%d messages took %d calls and %d attempts", messages, calls.Load(), len(up.ledger.came(apiSend, time.Time{}, time.Now())))
	r.write()
}

// insist makes a call and then waits as long as it is told to before the next one.
func insist(ctx context.Context, call func(context.Context) outcome) outcome {
	each, cancel := context.WithTimeout(ctx, 10*time.Second)
	o := call(each)
	cancel()
	if !o.ok() && o.again {
		pause(ctx, o.wait)
	}
	return o
}

func TestPlainWrites(t *testing.T) {
	r := plainWrites.begin(t)
	up := startFake(t, unreliable)
	callers := startFacade(t, []string{up.url}).callers(t, 4)
	messages := form(1000, 50_000)
	last := make([]outcome, messages)
	refused := make([]int, messages) // times that a message was said not to have been sent
	each(t, messages, form(50, 200), func(i int) {
		for range patience {
			last[i] = insist(t.Context(), func(ctx context.Context) outcome { return callers[i%4].send(ctx, "", fmt.Sprintf("message %d", i)) })
			if last[i].ok() || !last[i].again {
				return
			}
			refused[i]++
		}
	})
	var wrong untruths
	unknown, unsent := 0, 0
	for i, o := range last {
		e := up.ledger.entry(fmt.Sprintf("message %d", i))
		wrong.judge(t, o, e)
		if o.reason == "OUTCOME_UNKNOWN" {
			unknown++
		}
		if e.arrivals == 0 {
			unsent++
		}
	}
	wrong.report(r)
	r.figure("never arrived", float64(unsent)/float64(messages)*100, " %", atMost(1))
	r.sayf("outcome unknown %.1f %%, as many as fail", float64(unknown)/float64(messages)*100)
	r.write()
}

// untruths are answers about messages that are not true of them.
type untruths struct{ twice, lost, hidden int }

// judge compares what a caller heard in the end with what became of its message.
func (u *untruths) judge(tb testing.TB, o outcome, e entry) {
	tb.Helper()
	switch {
	case e.arrivals > 1 || e.commits > 1:
		u.twice++
	case o.ok() && e.commits == 0:
		u.lost++
	case !o.ok() && o.reason != "OUTCOME_UNKNOWN" && e.arrivals > 0:
		u.hidden++
		tb.Logf("a message arrived, but: %v", o.err)
	}
}

func (u *untruths) report(r *report) {
	r.Helper()
	r.figure("arrived twice", float64(u.twice), "", atMost(0))
	r.figure("acknowledged and not executed", float64(u.lost), "", atMost(0))
	r.figure("arrived, but said to be unsent", float64(u.hidden), "", atMost(0))
}

package quota

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

const (
	singleClass    = upstreamv1.QuotaClass_QUOTA_CLASS_UNSPECIFIED
	batchSendClass = upstreamv1.QuotaClass_QUOTA_CLASS_BATCH_SEND
	broadcastClass = upstreamv1.QuotaClass_QUOTA_CLASS_BROADCAST
)

func perSecond(calls int) Rate { return Rate{Calls: calls, Per: time.Second} }

func perMinute(calls int) Rate { return Rate{Calls: calls, Per: time.Minute} }

// rest lets time pass in a bubble.
func rest(d time.Duration) { <-time.After(d) }

// takeFree reports whether there was a token, and takes it.
func takeFree(q *Quota) bool {
	q.mu.Lock()
	free := q.queue.waiting == 0 && q.opens(q.now()) <= q.now()
	q.mu.Unlock()
	if !free {
		return false
	}
	w, _, err := q.join("free", -1)
	return w == nil && err == nil
}

// drain takes what a bucket has, and returns how much that was.
func drain(q *Quota) (tokens int) {
	for takeFree(q) {
		q.Accepted()
		tokens++
	}
	return tokens
}

// TestRetryAfter tells what is told to a call that is refused, and that it is
// true if nobody else comes, up to the round that is under way then.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		rate    Rate
		burst   int
		waiting string // a letter for each call
		caller  string
		want    time.Duration
	}{
		{"per second", perSecond(100), 5, strings.Repeat("a", 100), "a", 1010 * time.Millisecond},
		{"rare", perSecond(1), 1, "aaaaa", "a", 6 * time.Second},
		{"another caller", perSecond(1), 1, "aaabbcc", "d", 4 * time.Second},
		{"in the second round", perSecond(1), 1, "abacaa", "b", 5 * time.Second},
		{"batch send", perMinute(120), 6, strings.Repeat("a", 10), "a", 5500 * time.Millisecond},
		{"broadcast", perMinute(10), 1, "", "a", 6 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := New(tt.rate, singleClass)
				if n := drain(q); n != tt.burst {
					t.Errorf("burst of %d", n)
				}
				var group sync.WaitGroup
				for _, caller := range tt.waiting {
					group.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						defer cancel()
						if _, err := q.waitFor(ctx, string(caller)); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				// Patience is half of it.
				ctx, cancel := context.WithTimeout(t.Context(), 2*min(tt.want-1, time.Second))
				retryAfter, err := q.waitFor(ctx, tt.caller)
				cancel()
				if early := tt.want - retryAfter; !errors.Is(err, ErrExceeded) || early > 0 || early < -(beat+time.Millisecond+jitter+q.interval) {
					t.Fatalf("%v, again after %s", err, retryAfter)
				}
				rest(retryAfter)
				begin := time.Now()
				if retryAfter, err := q.waitFor(t.Context(), tt.caller); err != nil || time.Since(begin) > 4*q.interval { // a round
					t.Errorf("%v after %s, again after %s", err, time.Since(begin), retryAfter)
				}
				group.Wait()
				if len(q.queue.callers) > 0 {
					t.Errorf("%d callers kept", len(q.queue.callers))
				}
			})
		})
	}
}

// TestReservations checks that calls which are refused are told different times, even
// if nothing changes; and that a reservation expires for which nobody comes.
func TestReservations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perMinute(60), broadcastClass)
		drain(q)
		refuse := func(want time.Duration) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			retryAfter, err := q.waitFor(ctx, "a")
			if late := retryAfter - want; !errors.Is(err, ErrExceeded) || late < 0 || late > (beat+time.Millisecond+jitter) {
				t.Fatalf("%v, again after %s", err, retryAfter)
			}
		}
		for n := range 120 {
			refuse(time.Duration(n+1) * time.Second)
		}
		refuse(121 * time.Second) // nothing is reserved that far ahead
		refuse(121 * time.Second)
		if n := len(q.queue.callers["a"].reserved); n != 120 {
			t.Errorf("%d reservations", n)
		}
		rest(10*time.Second + beat + time.Millisecond + jitter)
		begin := time.Now()
		for range 3 { // for two reservations, and because there is a token
			if _, err := q.waitFor(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("after %s", took)
		}
		rest(121*time.Second + grace)
		if _, err := q.waitFor(t.Context(), "b"); err != nil || len(q.queue.callers) > 0 {
			t.Errorf("%v, %d callers", err, len(q.queue.callers))
		}
	})
}

// TestLongLine checks that the calls of one caller do not pile up, however long
// they have time, and keep nobody else out.
func TestLongLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perSecond(100_000), singleClass)
		drain(q)
		for range maxWaiting {
			q.queue.push(q.queue.of("a"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if retryAfter, err := q.waitFor(ctx, "a"); !errors.Is(err, ErrExceeded) || retryAfter < maxWaiting*q.interval {
			t.Errorf("%v, again after %s", err, retryAfter)
		}
		if _, err := q.waitFor(ctx, "b"); err != nil {
			t.Error(err)
		}
		rest(time.Second)
	})
}

func TestPatience(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rate      Rate
		remaining time.Duration // 0: no deadline
		want      time.Duration
	}{
		{perSecond(100), 0, time.Second},
		{perSecond(100), 100 * time.Millisecond, 50 * time.Millisecond},
		{perSecond(100), 3 * time.Second, time.Second},
		{perSecond(100), time.Minute, 6 * time.Second},
		{perSecond(100), time.Hour, 30 * time.Second},
		{perMinute(120), 0, 5 * time.Second},
		{perMinute(120), time.Minute, 10 * time.Second},
		{perMinute(10), time.Minute, 30 * time.Second},
		{Rate{}, 0, time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			q := New(tt.rate, singleClass)
			q.take(q.now())
			q.Refused()
			rest(q.Pause())
			q.take(q.now()) // a trial without an end
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if tt.remaining > 0 {
				ctx, cancel = context.WithTimeout(ctx, tt.remaining)
			}
			defer cancel()
			if patience := q.longestWait(ctx); patience != tt.want {
				t.Errorf("%v, %s: patience of %s", tt.rate, tt.remaining, patience)
			}
			begin := time.Now()
			retryAfter, err := q.waitFor(ctx, "a")
			if took := time.Since(begin); took != tt.want || tt.want < lostAfter && (!errors.Is(err, ErrExceeded) || retryAfter != firstPause) {
				t.Errorf("%v, %s: %v after %s, again after %s", tt.rate, tt.remaining, err, took, retryAfter)
			}
			if q.queue.waiting > 0 || q.timer.Stop() {
				t.Error("somebody waits")
			}
		})
	}
}

// TestPatienceJust checks that a turn which comes in the moment in which the
// patience ends is not missed.
func TestPatienceJust(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perSecond(1), singleClass)
		drain(q)
		for range 30 {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if retryAfter, err := q.waitFor(ctx, "a"); err != nil {
				t.Errorf("%v, again after %s", err, retryAfter)
			}
			cancel()
		}
	})
}

// TestCancel checks that a call whose context ends leaves the line, and takes no
// token.
func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perSecond(1), singleClass)
		drain(q)
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for n, caller := range "aaaab" {
			ctx, want := ctx, error(nil)
			switch n {
			case 1, 2:
				want = context.Canceled
			default:
				ctx = t.Context()
			}
			group.Go(func() {
				long, stop := context.WithTimeout(ctx, time.Minute)
				defer stop()
				_, err := q.waitFor(long, string(caller))
				if took := time.Since(begin); !errors.Is(err, want) || want != nil && took != 500*time.Millisecond || want == nil && took > 3*time.Second {
					t.Errorf("%d: %v after %s", n, err, took)
				}
			})
			synctest.Wait()
		}
		rest(500 * time.Millisecond)
		cancel()
		group.Wait()
		if took := time.Since(begin); took != 3*time.Second || len(q.queue.callers) > 0 {
			t.Errorf("three calls after %s", took)
		}
		rest(time.Second)
		if retryAfter, err := q.waitFor(ctx, "a"); retryAfter != 0 || !errors.Is(err, context.Canceled) || drain(q) != 1 {
			t.Errorf("%v, again after %s", err, retryAfter)
		}
	})
}

// TestCancelServed tells of a call that was let through in the moment in which
// its context ended: its token serves another, but only once.
func TestCancelServed(t *testing.T) {
	t.Parallel()
	for late, want := range map[time.Duration]int{0: 1, 9 * time.Millisecond: 1, 10 * time.Millisecond: 0} {
		synctest.Test(t, func(t *testing.T) {
			q := New(perSecond(100), singleClass)
			w := q.queue.push(q.queue.of("a"))
			q.serve(q.now())
			rest(late)
			drain(q)
			q.leave(w)
			if n := drain(q); n != want || q.breaker.inProgress != 0 {
				t.Errorf("%d tokens after %s, %d calls", n, late, q.breaker.inProgress)
			}
		})
	}
}

func TestPressed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perSecond(100), singleClass)
		for left := 5; left > 0; left-- {
			if q.Pressed() != (left == 1) {
				t.Errorf("%d tokens: %t", left, q.Pressed())
			}
			takeFree(q)
		}
		if !q.Pressed() {
			t.Error("no token")
		}
		q = New(Rate{}, singleClass)
		takeFree(q)
		if q.Pressed() {
			t.Error("no limit")
		}
		q.Refused()
		if !q.Pressed() {
			t.Error("a pause")
		}
	})
}

// TestPauses tells how long calls pause, in a play of calls and their answers.
func TestPauses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		class upstreamv1.QuotaClass
		play  string // r, a, u: a call that is refused, accepted, not answered
		want  []int  // seconds of pause after each
	}{
		{"doubles", singleClass, "rrrra", []int{1, 2, 4, 8, 0}},
		{"at most", singleClass, "rrrrrrrrrr", []int{1, 2, 4, 8, 16, 32, 64, 120, 120, 120}},
		{"half of what worked", singleClass, "rrrraarra", []int{1, 2, 4, 8, 0, 0, 4, 8, 0}},
		{"half again", singleClass, "rrrrararara", []int{1, 2, 4, 8, 0, 4, 0, 2, 0, 1, 0}},
		{"not below the first", singleClass, "rara", []int{1, 0, 1, 0}},
		{"without an answer", singleClass, "ruura", []int{1, 1, 1, 2, 0}},
		{"per minute", batchSendClass, "rrara", []int{60, 120, 0, 60, 0}},
		{"per minute", broadcastClass, "rrr", []int{60, 120, 120}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := New(perSecond(100), tt.class)
				for n, answer := range tt.play {
					if !takeFree(q) {
						t.Fatalf("%d: not let through", n)
					}
					if q.breaker.open && takeFree(q) {
						t.Fatalf("%d: two trials", n)
					}
					switch answer {
					case 'r':
						q.Refused()
					case 'a':
						q.Accepted()
					case 'u':
						q.Unanswered() // the next trial may begin, so there is nothing to wait for
						continue
					}
					if pause := q.Pause(); pause.Seconds() != float64(tt.want[n]) {
						t.Fatalf("%d: pause of %s", n, pause)
					}
					rest(q.Pause() - 1)
					if q.breaker.open && takeFree(q) {
						t.Fatalf("%d: let through in the pause", n)
					}
					rest(1)
				}
			})
		})
	}
}

// TestPauseInFlight checks that refusals of calls which were let through before a
// pause do not make it longer, and that a trial begins only after they have ended.
func TestPauseInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perSecond(100), singleClass)
		for range 5 {
			takeFree(q)
		}
		q.Refused()
		rest(500 * time.Millisecond)
		q.Refused()
		q.Accepted()
		q.Unanswered()
		if pause := q.Pause(); pause != 500*time.Millisecond {
			t.Errorf("pause of %s", pause)
		}
		rest(time.Second)
		if takeFree(q) || q.Pause() != firstPause {
			t.Error("a trial before the last call has ended")
		}
		q.Refused()
		if !takeFree(q) || takeFree(q) {
			t.Error("no trial, or two")
		}
		q.Refused()
		if pause := q.Pause(); pause != 2*time.Second {
			t.Errorf("pause of %s", pause)
		}
		rest(q.Pause())
		if !takeFree(q) {
			t.Error("no trial")
		}
		rest(lostAfter - 1)
		if takeFree(q) {
			t.Error("two trials")
		}
		rest(1)
		if !takeFree(q) || takeFree(q) {
			t.Error("the lost trial has no successor, or two")
		}
		q.Accepted()
		if q.Pause() != 0 || q.breaker.inProgress != 0 || drain(q) != 4 {
			t.Error("the pause goes on")
		}
	})
}

// TestPauseWaiting checks that whoever has the time waits for the end of a pause,
// behind the trial, and that others are told when it ends.
func TestPauseWaiting(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	tests := []struct {
		rate   Rate
		after  time.Duration   // told, from the end of the pause
		served []time.Duration // calls that wait
	}{
		{perSecond(100), 40 * ms, []time.Duration{1000 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 1510 * ms, 1520 * ms}},
		{Rate{}, 0, []time.Duration{1000 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 1500 * ms, 1500 * ms}},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			q := New(tt.rate, singleClass)
			takeFree(q)
			takeFree(q)
			q.Refused()
			begin := time.Now()
			var group sync.WaitGroup
			var mu sync.Mutex
			var served []time.Duration
			for range tt.served {
				group.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // patience 2s
					defer cancel()
					if _, err := q.waitFor(ctx, "a"); err != nil {
						t.Error(err)
					}
					mu.Lock()
					first := len(served) == 0
					served = append(served, time.Since(begin))
					mu.Unlock()
					if first { // the trial
						rest(500 * ms)
						q.Unanswered()
						return
					}
					q.Accepted()
				})
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for i, want := range []time.Duration{tt.after, 0} {
				retryAfter, err := q.waitFor(ctx, "ab"[i:i+1])
				if late := retryAfter - q.Pause() - want; !errors.Is(err, ErrExceeded) || late < 0 || late > (beat+time.Millisecond+jitter) || time.Since(begin) > 0 {
					t.Errorf("%v after %s, again after %s", err, time.Since(begin), retryAfter)
				}
			}
			rest(500 * ms)
			q.Refused() // the other that was let through before
			group.Wait()
			slices.Sort(served)
			if !slices.Equal(served, tt.served) {
				t.Error(tt.rate, served)
			}
			if tt.rate.Calls > 0 { // there are reservations
				rest(2 * grace)
				q.queue.expire(q.now())
			}
			if len(q.queue.callers) > 0 || q.queue.waiting > 0 {
				t.Errorf("left: %d wait, %+v", q.queue.waiting, q.queue)
			}
		})
	}
}

func TestNewQuotas(t *testing.T) {
	t.Parallel()
	table := map[string]Use{
		"/p.S/Send":      {"POST /send", singleClass},
		"/p.S/Pin":       {"POST /pin", singleClass},
		"/p.S/Unpin":     {"POST /pin", singleClass},
		"/p.S/BatchSend": {"POST /batch", batchSendClass},
		"/p.S/Broadcast": {"POST /broadcast", broadcastClass},
	}
	tests := []struct {
		plan                                  string
		rates                                 map[string]Rate
		send, pin, unpin, batch, broadcast, e string // time between calls; error
	}{
		{"", nil, "0s", "0s", "0s", "0s", "0s", ""},
		{PlanUnlimited, nil, "0s", "0s", "0s", "0s", "0s", ""},
		{PlanStandard, nil, "10.638298ms", "10.638298ms", "10.638298ms", "530.973452ms", "6s", ""},
		{PlanAdvanced, nil, "10.638298ms", "10.638298ms", "10.638298ms", "530.973452ms", "6s", ""},
		{PlanFlagship, nil, "2.12766ms", "2.12766ms", "2.12766ms", "319.148937ms", "1.276595745s", ""},
		{PlanDedicated, nil, "212.766µs", "212.766µs", "212.766µs", "31.914894ms", "63.829788ms", ""},
		{"", map[string]Rate{"single": perSecond(3), "Send": perMinute(1)}, "1m0s", "333.333334ms", "333.333334ms", "0s", "0s", ""},
		{PlanStandard, map[string]Rate{"batch-send": {}, "Unpin": perSecond(1)}, "10.638298ms", "1s", "1s", "0s", "6s", ""},
		{PlanStandard, map[string]Rate{"Pin": perSecond(2), "Unpin": perSecond(2), "broadcast": perMinute(60)}, "10.638298ms", "500ms", "500ms", "530.973452ms", "1.052631579s", ""},
		{plan: "basic", e: `plan "basic": must be standard, advanced, flagship, dedicated, unlimited`},
		{rates: map[string]Rate{"Pin": perSecond(2), "Unpin": perSecond(3)}, e: "quotas of Pin and Unpin: both are POST /pin of the upstream, which has one quota"},
		{rates: map[string]Rate{"batch": perSecond(2), "/p.S/Send": perSecond(2)}, e: "quota of \"/p.S/Send\": no such RPC or class of operations\nquota of \"batch\": no such RPC or class of operations"},
		{rates: map[string]Rate{"Send": {-1, time.Second}}, e: "quota of Send: -1 calls per 1s cannot be kept; the time must be above 0 and at most 24h0m0s"},
		{rates: map[string]Rate{"Send": {1, 0}}, e: "quota of Send: 1 calls per 0s cannot be kept; the time must be above 0 and at most 24h0m0s"},
		{rates: map[string]Rate{"Send": {1, 25 * time.Hour}}, e: "quota of Send: 1 calls per 25h0m0s cannot be kept; the time must be above 0 and at most 24h0m0s"},
	}
	for _, tt := range tests {
		quotas, err := Table(Config{tt.plan, tt.rates}, table)
		if err != nil || tt.e != "" {
			if quotas != nil || err == nil || err.Error() != tt.e {
				t.Errorf("%v: %v", tt, err)
			}
			continue
		}
		for method, want := range map[string]string{"Send": tt.send, "Pin": tt.pin, "Unpin": tt.unpin, "BatchSend": tt.batch, "Broadcast": tt.broadcast} {
			if got := quotas["/p.S/"+method].interval.String(); got != want {
				t.Errorf("%s %v: %s between calls of %s", tt.plan, tt.rates, got, method)
			}
		}
		if len(quotas) != len(table) || quotas["/p.S/Pin"] != quotas["/p.S/Unpin"] || quotas["/p.S/Pin"] == quotas["/p.S/Send"] {
			t.Errorf("%s %v: what is one operation, and what is not", tt.plan, tt.rates)
		}
	}
	table["/p.S/Unpin"] = Use{"POST /pin", broadcastClass}
	if _, err := Table(Config{}, table); err == nil {
		t.Error("an operation with two classes")
	}
}

// BenchmarkQuota is a call that need not wait, and its answer.
func BenchmarkQuota(b *testing.B) {
	for name, rate := range map[string]Rate{"limited": perSecond(1_000_000_000), "unlimited": {}} {
		b.Run(name, func(b *testing.B) {
			q := New(rate, singleClass)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := q.waitFor(b.Context(), "a"); err != nil {
					b.Fatal(err)
				}
				q.Accepted()
			}
		})
	}
}

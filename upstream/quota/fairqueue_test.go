package quota

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// A throng is what became of the calls of some callers.
type throng struct {
	mu    sync.Mutex
	begin time.Time
	in    map[int]int // by caller
	times []time.Duration
	late  time.Duration // that calls come again after they were told to

	again, againIn int // calls that came again when told, and those of them that got in within two tries
}

// call makes a call, and, if it is refused, two more when it was told to. It reports
// whether one was let through, and makes none after the end.
func (g *throng) call(ctx context.Context, q *Quota, caller int, end time.Duration) bool {
	for n := range 3 {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		retryAfter, err := q.waitFor(ctx, fmt.Sprint(caller))
		cancel()
		now := time.Since(g.begin)
		g.mu.Lock()
		if n == 1 {
			g.again++
		}
		if err == nil {
			q.Accepted()
			g.in[caller]++
			g.times = append(g.times, now)
			g.againIn += min(n, 1)
		}
		g.mu.Unlock()
		if err == nil || n == 2 || now+retryAfter > end {
			return err == nil && now < end
		}
		rest(retryAfter + g.late)
	}
	return true
}

// most returns the largest number of calls in one window of time.
func (g *throng) most(window time.Duration) (most int) {
	slices.Sort(g.times)
	first := 0
	for last, at := range g.times {
		for at-g.times[first] > window {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// fairness is Jain's index: 1 if all callers got the same.
func (g *throng) fairness() float64 {
	sum, squares := 0., 0.
	for _, n := range g.in {
		sum += float64(n)
		squares += float64(n) * float64(n)
	}
	return sum * sum / float64(len(g.in)) / squares
}

// TestOverload offers four times what 100 calls per second can take, and tells
// that no second sees more than 105, that nothing is wasted, that callers get the
// same, and that it helps to come again when told.
func TestOverload(t *testing.T) {
	testmode.Crowd(t)
	t.Parallel()
	const end = 20 * time.Second
	tests := []struct {
		name  string
		loads []int // calls per second, by caller
		again bool
		least []int // calls that get in, by caller
	}{
		{"even", []int{100, 100, 100, 100}, false, []int{480, 480, 480, 480}},
		{"even, again", []int{100, 100, 100, 100}, true, []int{480, 480, 480, 480}},
		{"uneven", []int{310, 30, 30, 30}, false, []int{480, 480, 480, 480}},
		{"uneven, again", []int{310, 30, 30, 30}, true, []int{480, 480, 480, 480}},
		{"one greedy", []int{370, 10, 10, 10}, true, []int{1380, 199, 199, 199}},
		{"alone", []int{400}, true, []int{1990}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := New(perSecond(100), singleClass)
				g := &throng{begin: time.Now(), in: make(map[int]int)}
				var group sync.WaitGroup
				for caller, load := range tt.loads {
					group.Go(func() {
						for time.Since(g.begin) < end {
							group.Go(func() {
								until := end
								if !tt.again {
									until = 0
								}
								g.call(t.Context(), q, caller, until)
							})
							rest(time.Second / time.Duration(load))
						}
					})
				}
				group.Wait()
				if n := g.most(time.Second); n > 105 {
					t.Errorf("%d calls in one second", n)
				}
				if n, _ := slices.BinarySearch(g.times, end); n < 1990 || n > 2005 {
					t.Errorf("%d calls in %s", n, end)
				}
				for caller, least := range tt.least {
					if g.in[caller] < least {
						t.Errorf("caller %d: %d calls", caller, g.in[caller])
					}
				}
				if j := g.fairness(); j < 0.99 && tt.least[0] == 480 {
					t.Errorf("fairness %f", j)
				}
				if tt.again && (g.again < 1000 || g.againIn < g.again*80/100) {
					t.Errorf("of %d that came again %d got in", g.again, g.againIn)
				}
			})
		})
	}
}

// TestRetryAfterIsTrue checks that whoever comes again when told gets in, a moment late
// as over any network, however the calls that come by themselves lie to the beat.
func TestRetryAfterIsTrue(t *testing.T) {
	testmode.Crowd(t)
	t.Parallel()
	const late, length = 1500 * time.Microsecond, 15 * time.Second
	for phase := time.Duration(0); phase < 5*time.Millisecond; phase += time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			q := New(perSecond(94), singleClass)
			rest(phase)
			g := &throng{begin: time.Now(), in: make(map[int]int), late: late}
			var group sync.WaitGroup
			for caller, load := range []int{220, 60, 60, 60} {
				group.Go(func() {
					for n := 0; time.Since(g.begin) < length; n++ {
						rest(time.Until(g.begin.Add(time.Duration(n) * time.Second / time.Duration(load))))
						group.Go(func() { g.call(t.Context(), q, caller, farthest) })
					}
				})
			}
			group.Wait()
			if g.again < 4000 || g.againIn < g.again*80/100 {
				t.Errorf("phase %v: of %d that came again %d got in", phase, g.again, g.againIn)
			}
		})
	}
}

// TestOverloadSteady has workers who each come again until they get in.
func TestOverloadSteady(t *testing.T) {
	testmode.Crowd(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const end = 30 * time.Second
		q := New(perSecond(100), singleClass)
		g := &throng{begin: time.Now(), in: make(map[int]int)}
		var group sync.WaitGroup
		for worker := range 600 {
			group.Go(func() {
				for g.call(t.Context(), q, worker%4, end) {
					rest(time.Duration(1+worker%10) * time.Millisecond)
				}
			})
		}
		group.Wait()
		if n := g.most(time.Second); n > 105 || len(g.times) < 2970 || g.fairness() < 0.99 {
			t.Errorf("%d calls, %d in one second, fairness %f", len(g.times), n, g.fairness())
		}
		if g.again < 1000 || g.againIn < g.again*80/100 {
			t.Errorf("of %d that came again %d got in", g.again, g.againIn)
		}
	})
}

// TestTurns checks that callers take turns, whoever comes first, and that a new
// caller comes at the end of the round.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perSecond(1), singleClass)
		drain(q)
		var group sync.WaitGroup
		got := make(chan string, 20)
		come := func(calls ...string) {
			for _, call := range calls {
				group.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if _, err := q.waitFor(ctx, call[:1]); err != nil {
						t.Error(call, err)
					}
					got <- call
				})
				synctest.Wait()
			}
		}
		come("a1", "a2", "a3", "a4", "b1", "b2")
		rest(1500 * time.Millisecond)
		come("c1", "c2", "a5")
		group.Wait()
		close(got)
		var order []string
		for call := range got {
			order = append(order, call)
		}
		if order := strings.Join(order, " "); order != "a1 b1 a2 c1 b2 a3 c2 a4 a5" {
			t.Error(order)
		}
	})
}

// TestFairQueue compares a queue with a simple one, over random changes.
func TestFairQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l fairQueue
		var now time.Duration
		waiting := make(map[string][]*waiter)
		reserved := make(map[string][]time.Duration)
		var turns []string
		names := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				name := names.Draw(t, "name")
				if len(waiting[name]) == 0 {
					turns = append(turns, name)
				}
				waiting[name] = append(waiting[name], l.push(l.of(name)))
			},
			"pop": func(t *rapid.T) {
				if len(turns) == 0 {
					t.Skip()
				}
				name := turns[0]
				if w := l.pop(); w != waiting[name][0] {
					t.Fatalf("it was the turn of %s, not of %s", name, w.caller.name)
				}
				turns, waiting[name] = turns[1:], waiting[name][1:]
				if len(waiting[name]) > 0 {
					turns = append(turns, name)
				}
			},
			"remove": func(t *rapid.T) {
				if len(turns) == 0 {
					t.Skip()
				}
				name := rapid.SampledFrom(turns).Draw(t, "name")
				i := rapid.IntRange(0, len(waiting[name])-1).Draw(t, "i")
				l.remove(waiting[name][i])
				waiting[name] = slices.Delete(waiting[name], i, i+1)
				if len(waiting[name]) == 0 {
					turns = slices.Delete(turns, slices.Index(turns, name), slices.Index(turns, name)+1)
				}
			},
			"reserve": func(t *rapid.T) {
				c := l.of(names.Draw(t, "name"))
				turn := max(now, c.last+10) + time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms"))*time.Millisecond
				again := l.reserve(c, turn)
				due := c.reserved[len(c.reserved)-1]
				if due < turn || due >= turn+beat || again <= due || again > due+time.Millisecond+jitter {
					t.Fatalf("turn %v, due %v, again %v", turn, due, again)
				}
				reserved[c.name] = append(reserved[c.name], due)
			},
			"claim": func(t *rapid.T) {
				c := l.of(names.Draw(t, "name"))
				p := reserved[c.name]
				due := len(p) > 0 && p[0] <= now
				if l.claim(c, now) != due {
					t.Fatalf("due is %t", due)
				}
				if due {
					reserved[c.name] = p[1:]
				}
				l.release(c)
			},
			"expire": func(t *rapid.T) {
				now += grace + time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms"))*time.Millisecond
				l.expire(now)
				for name, p := range reserved {
					reserved[name] = slices.DeleteFunc(p, func(due time.Duration) bool { return due+grace <= now })
				}
			},
			"": func(t *rapid.T) {
				calls, owed, kept := 0, 0, 0
				for _, name := range []string{"a", "b", "c", "d"} {
					calls += len(waiting[name])
					owed += len(reserved[name])
					if len(waiting[name])+len(reserved[name]) > 0 {
						kept++
					}
				}
				if l.waiting != calls || l.owed != owed || len(l.callers) != kept || l.turns.Len() != len(turns) {
					t.Fatalf("%d calls, not %d; %d reservations, not %d; %d callers, not %d", l.waiting, calls, l.owed, owed, len(l.callers), kept)
				}
			},
		})
	})
}

// TestRandomCalls makes calls at random, which end at random, and are answered at
// random, and tells that the quota is kept, that no token is lost, and that nobody
// waits for what is there.
func TestRandomCalls(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		rate := rapid.SampledFrom([]Rate{perSecond(100), perSecond(7), perMinute(120), {}}).Draw(r, "rate")
		steps := rapid.SliceOfN(rapid.IntRange(0, 9999), 1, 60).Draw(r, "steps")
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = randomCalls(t.Context(), rate, steps) })
		if wrong != nil {
			r.Fatal(strings.Join(wrong, "\n"))
		}
	})
}

// randomCalls returns what is wrong. A step is what is done, and a number for it.
func randomCalls(ctx context.Context, rate Rate, steps []int) (wrong []string) {
	q := New(rate, singleClass)
	var mu sync.Mutex
	full := time.Duration(0) // as it should be
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	call := func(ctx context.Context, n int) {
		retryAfter, err := q.waitFor(ctx, "abc"[n%3:n%3+1])
		mu.Lock()
		now := q.now()
		if errors.Is(err, ErrExceeded) != (retryAfter > 0) {
			complain("%v, again after %s", err, retryAfter)
		}
		if err == nil && now < full-q.slack {
			complain("a call at %s, of a bucket that is full at %s", now, full)
		}
		if err == nil {
			full = max(full, now) + q.interval
		}
		mu.Unlock()
		if err != nil {
			return
		}
		rest(time.Duration(n) * time.Millisecond)
		[]func(){q.Accepted, q.Accepted, q.Accepted, q.Unanswered, q.Refused}[n%5]()
	}
	check := func() {
		mu.Lock()
		defer mu.Unlock()
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.full != full {
			complain("full at %s, not at %s", q.full, full)
		}
		if q.queue.waiting > 0 && q.opens(q.now()) <= q.now() {
			complain("%d calls wait for nothing", q.queue.waiting)
		}
	}
	var group sync.WaitGroup
	var cancels []context.CancelFunc
	for _, step := range steps {
		n := step / 10
		switch {
		case step%10 < 6:
			ctx, cancel := context.WithTimeout(ctx, time.Duration(1+n%100)*100*time.Millisecond)
			cancels = append(cancels, cancel)
			group.Go(func() {
				defer cancel()
				call(ctx, n)
			})
		case step%10 < 9:
			rest(time.Duration(n) * time.Millisecond)
		case len(cancels) > 0:
			cancels[n%len(cancels)]()
		}
		synctest.Wait()
		check()
	}
	group.Wait()
	rest(2 * farthest)
	q.queue.expire(q.now())
	if len(q.queue.callers) > 0 || q.queue.owed > 0 || q.queue.waiting > 0 || q.breaker.inProgress > 0 {
		complain("left: %+v, %+v", q.queue, q.breaker)
	}
	return wrong
}

package limiter

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// A backend answers with so many workers, first come first served. It goes on with
// calls whose callers have gone, as upstreams do.
type backend []time.Time // when each worker is free

func (b backend) answer(service time.Duration) time.Time {
	worker := 0
	for i := range b {
		if b[i].Before(b[worker]) {
			worker = i
		}
	}
	if now := time.Now(); b[worker].Before(now) {
		b[worker] = now
	}
	b[worker] = b[worker].Add(service)
	return b[worker]
}

// A demand is a call to be made.
type demand struct {
	operation         string
	service, patience time.Duration
}

// An until is a context with a deadline, for callers by the hundred thousand: it
// has no timer. No call waits for its deadline.
type until time.Time

func (u until) Deadline() (time.Time, bool) { return time.Time(u), true }
func (until) Done() <-chan struct{}         { return nil }
func (until) Err() error                    { return nil }
func (until) Value(any) any                 { return nil }

// A outcomes counts calls by what became of them.
type outcomes struct{ answered, late, refused int }

// A simulation is a backend and its callers, who go through one limit or, as callers
// of several instances, through several.
type simulation struct {
	limits []*Limiter
	random *rand.Rand
	start  time.Time

	mu      sync.Mutex
	backend backend
	seconds []outcomes
}

func simulate(t *testing.T, workers, instances int, run func(s *simulation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &simulation{
			random: rand.New(rand.NewPCG(1, 2)), start: time.Now(), backend: make(backend, workers),
		}
		for range instances {
			s.limits = append(s.limits, New(512))
		}
		run(s)
		<-time.After(time.Minute)
		for _, c := range s.limits {
			if _, inFlight, waiting := c.State(); inFlight != 0 || waiting != 0 {
				t.Errorf("%d slots taken, %d calls waiting at the end", inFlight, waiting)
			}
		}
	})
}

// offer makes calls at a rate, whatever becomes of them.
func (s *simulation) offer(perSecond float64, d time.Duration, draw func() demand) {
	for i, next, end := 0, time.Now(), time.Now().Add(d); ; i++ {
		next = next.Add(time.Duration(s.random.ExpFloat64() / perSecond * float64(time.Second)))
		if next.After(end) {
			<-time.After(time.Until(end))
			return
		}
		<-time.After(time.Until(next))
		go s.call(s.limits[i%len(s.limits)], draw())
	}
}

func (s *simulation) call(c *Limiter, d demand) {
	end := time.Now().Add(d.patience)
	if err := c.Acquire(until(end)); err != nil {
		s.count(func(t *outcomes) { t.refused++ })
		return
	}
	start := time.Now()
	s.mu.Lock()
	done := s.backend.answer(d.service)
	s.mu.Unlock()
	answered := !done.After(end)
	if answered {
		end = done
	}
	<-time.After(time.Until(end))
	c.Release(d.operation, time.Since(start), answered)
	s.count(func(t *outcomes) {
		if answered {
			t.answered++
		} else {
			t.late++
		}
	})
}

func (s *simulation) count(add func(*outcomes)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	second := int(time.Since(s.start) / time.Second)
	for len(s.seconds) <= second {
		s.seconds = append(s.seconds, outcomes{})
	}
	add(&s.seconds[second])
}

// between sums up some seconds.
func (s *simulation) between(from, to int) outcomes {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum outcomes
	for _, t := range s.seconds[min(from, len(s.seconds)):min(to, len(s.seconds))] {
		sum.answered += t.answered
		sum.late += t.late
		sum.refused += t.refused
	}
	return sum
}

// spread draws a latency around a median.
func (s *simulation) spread(median time.Duration, sigma float64) time.Duration {
	return time.Duration(float64(median) * math.Exp(sigma*s.random.NormFloat64()))
}

// patiences are the deadlines of callers.
var patiences = []time.Duration{500 * time.Millisecond, time.Second, 3 * time.Second}

// TestBeyondCapacity checks that an upstream at several times its capacity goes on
// working for callers who are still there, and that it is over when the load is.
func TestBeyondCapacity(t *testing.T) {
	testmode.Crowd(t)
	t.Parallel()
	for name, tt := range map[string]struct {
		workers, instances int
		service            time.Duration
		patiences          []time.Duration
		times              float64 // its capacity
		warm               int     // seconds
		useful, useless    float64 // shares of its capacity
	}{
		"fast":              {16, 1, 20 * time.Millisecond, patiences, 5, 5, 0.9, 0.01},
		"slow":              {16, 1, 100 * time.Millisecond, patiences, 5, 5, 0.9, 0.1},
		"several instances": {32, 4, 100 * time.Millisecond, patiences, 2, 10, 0.9, 0.1},
		"all cut off":       {16, 1, 300 * time.Millisecond, patiences[:1], 5, 20, 0.3, 0.7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			capacity := float64(tt.workers) / tt.service.Seconds()
			simulate(t, tt.workers, tt.instances, func(s *simulation) {
				operation := "get"
				draw := func() demand {
					return demand{operation, tt.service, tt.patiences[s.random.IntN(len(tt.patiences))]}
				}
				s.offer(tt.times*capacity, 2*time.Minute, draw)
				for from := tt.warm; from < 120; from += 10 {
					to := min(from+10, 120)
					n, able := s.between(from, to), capacity*float64(to-from)
					if float64(n.answered) < tt.useful*able || float64(n.late) > tt.useless*able {
						t.Errorf("from %d to %d s: %+v, able to do %v", from, to, n, able)
					}
				}
				s.offer(capacity/2, 20*time.Second, draw)
				if n := s.between(125, 140); n.refused+n.late > 0 || n.answered == 0 {
					t.Errorf("after the overload: %+v", n)
				}
				s.offer(min(capacity/2, 100), 3*time.Minute, draw)
				if limit, _, _ := s.limits[0].State(); limit < initial {
					t.Errorf("minutes after the overload: limit %d", limit)
				}
			})
		})
	}
}

// TestHealthyUpstream checks that no call to an upstream with enough workers is refused.
func TestHealthyUpstream(t *testing.T) {
	testmode.Crowd(t)
	t.Parallel()
	const ms = time.Millisecond
	get, batch := "get", "get"
	for name, tt := range map[string]struct {
		perSecond float64
		draw      func(s *simulation) demand
	}{
		"slow tail": {500, func(s *simulation) demand {
			if s.random.IntN(100) == 0 {
				return demand{get, time.Second, 3 * time.Second}
			}
			return demand{get, 20 * ms, 3 * time.Second}
		}},
		"long tail": {200, func(s *simulation) demand {
			if s.random.IntN(5) == 0 {
				return demand{get, 300 * ms, 3 * time.Second}
			}
			return demand{get, 20 * ms, 3 * time.Second}
		}},
		"spread": {300, func(s *simulation) demand { return demand{get, s.spread(50*ms, 0.7), 5 * time.Second} }},
		"mixed operations": {100, func(s *simulation) demand {
			if time.Since(s.start) > 20*time.Second && s.random.IntN(4) == 0 {
				return demand{batch, 2 * time.Second, 5 * time.Second}
			}
			return demand{get, 20 * ms, time.Second}
		}},
		"callers in haste": {500, func(s *simulation) demand {
			if s.random.IntN(10) > 0 {
				return demand{get, 50 * ms, ms}
			}
			return demand{get, 50 * ms, time.Second}
		}},
		"three times slower": {150, func(s *simulation) demand {
			if time.Since(s.start) > 20*time.Second {
				return demand{get, 60 * ms, time.Second}
			}
			return demand{get, 20 * ms, time.Second}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulate(t, 1000, 1, func(s *simulation) {
				s.offer(tt.perSecond, 40*time.Second, func() demand { return tt.draw(s) })
				if n := s.between(0, 50); n.refused > 0 || n.answered == 0 {
					t.Errorf("%+v", n)
				}
				if limit, _, _ := s.limits[0].State(); limit < initial {
					t.Errorf("the limit fell to %d", limit)
				}
			})
		})
	}
}

// TestColdStart checks that a limit which begins too low finds its place before it
// has to refuse many.
func TestColdStart(t *testing.T) {
	testmode.Crowd(t)
	t.Parallel()
	simulate(t, 1000, 1, func(s *simulation) {
		operation := "get"
		s.offer(1000, 5*time.Second, func() demand { return demand{operation, 200 * time.Millisecond, 5 * time.Second} })
		if n := s.between(0, 10); n.refused > 50 || n.late > 0 || n.answered == 0 {
			t.Errorf("%+v", n)
		}
	})
}

// TestBurstsPass checks that bursts pass, the first one and those after quiet hours.
func TestBurstsPass(t *testing.T) {
	t.Parallel()
	simulate(t, 1000, 1, func(s *simulation) {
		operation := "get"
		for _, pause := range []time.Duration{0, time.Second, time.Hour, time.Second} {
			<-time.After(pause)
			for range 200 {
				go s.call(s.limits[0], demand{operation, 50 * time.Millisecond, time.Second})
			}
		}
		<-time.After(time.Minute)
		if n := s.between(0, len(s.seconds)); n != (outcomes{answered: 800}) {
			t.Errorf("%+v", n)
		}
	})
}

// TestWindows tells what a window leads to.
func TestWindows(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		usual, now, tail time.Duration // the tail is one attempt in twenty
		full, wasCut     bool
		want             float64 // limit, of 100 before
	}{
		"well":                  {usual: 50 * ms, now: 60 * ms, want: 101},
		"full before any cut":   {usual: 50 * ms, now: 60 * ms, full: true, want: 200},
		"full after a cut":      {usual: 50 * ms, now: 60 * ms, full: true, wasCut: true, want: 100.5},
		"slow":                  {usual: 50 * ms, now: 250 * ms, full: true, want: 70},
		"slow but little used":  {usual: 50 * ms, now: 250 * ms, want: 101},
		"slow in one of twenty": {usual: 50 * ms, now: 60 * ms, tail: 300 * ms, full: true, want: 70},
		"fast all the same":     {usual: 2 * ms, now: 20 * ms, full: true, want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := New(512)
				l.limit, l.wasCut, l.usual["get"], l.held = 100, tt.wasCut, tt.usual, tt.usual
				l.window.full = tt.full
				if tt.full {
					l.window.peak = 100
				}
				for n := 0; l.window.results > 0 || n == 0; n++ {
					took := tt.now
					if tt.tail > 0 && n%20 == 19 {
						took = tt.tail
					}
					if err := l.Acquire(t.Context()); err != nil {
						t.Fatal(err)
					}
					<-time.After(took)
					l.Release("get", took, true)
				}
				if l.limit != tt.want {
					t.Errorf("limit %v, want %v", l.limit, tt.want)
				}
			})
		})
	}
}

// TestUsualLatency tells what the usual latency is taken from.
func TestUsualLatency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(512)
		run := func(took time.Duration, n int, answered, full bool) time.Duration {
			for range n {
				if err := l.Acquire(t.Context()); err != nil {
					t.Fatal(err)
				}
				l.window.full = l.window.full || full
				<-time.After(took)
				l.Release("get", took, answered)
			}
			return l.usual["get"].Round(10 * time.Millisecond)
		}
		const ms = time.Millisecond
		for _, step := range []struct {
			took           time.Duration
			n              int
			answered, full bool
			want           time.Duration
		}{
			{100 * ms, 200, true, false, 100 * ms},
			{50 * ms, 200, true, false, 50 * ms},    // faster: soon
			{200 * ms, 200, true, true, 50 * ms},    // slower while the limit is reached: never
			{500 * ms, 50, false, false, 50 * ms},   // cut off: never
			{100 * ms, 5000, true, false, 100 * ms}, // slower: in minutes
		} {
			if have := run(step.took, step.n, step.answered, step.full); have != step.want {
				t.Errorf("%+v: usual latency %v", step, have)
			}
		}
	})
}

// full returns a limit of least slots, all taken, whose slots are held for a
// fifth of a second.
func full(t testing.TB) *Limiter {
	t.Helper()
	c := New(512)
	c.limit, c.held = least, 200*time.Millisecond
	for range least {
		if err := c.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestWaitingForASlot checks that those who wait go in their order, and that no more wait
// than there are slots.
func TestWaitingForASlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := full(t)
		var order []int
		for i := range least {
			go func() {
				if err := c.Acquire(t.Context()); err != nil {
					t.Error(err)
				}
				order = append(order, i)
			}()
			synctest.Wait()
		}
		if err := c.Acquire(t.Context()); !errors.Is(err, ErrOverloaded) {
			t.Errorf("one too many: %v", err)
		}
		for range least {
			c.Release("get", 0, false)
			synctest.Wait()
		}
		if !slices.Equal(order, []int{0, 1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("order %v", order)
		}
		if _, inFlight, waiting := c.State(); inFlight != least || waiting != 0 {
			t.Errorf("%d slots taken, %d waiting", inFlight, waiting)
		}
	})
}

// TestSlotPatience tells how long a call waits at most, and that one that would wait
// longer does not wait at all.
func TestSlotPatience(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		patience, held, wait time.Duration
	}{
		"without deadline":           {0, 200 * time.Millisecond, time.Second},
		"half of the time":           {time.Second, 200 * time.Millisecond, 500 * time.Millisecond},
		"an answer still in time":    {time.Second, 700 * time.Millisecond, 300 * time.Millisecond},
		"long deadline":              {time.Minute, 200 * time.Millisecond, time.Second},
		"too long for the caller":    {40 * time.Millisecond, 200 * time.Millisecond, 0},
		"too long for any caller":    {0, 10 * time.Second, 0},
		"no answer could be in time": {time.Second, time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := full(t)
				c.held = tt.held
				ctx := t.Context()
				if tt.patience > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.patience)
					defer cancel()
				}
				start := time.Now()
				err := c.Acquire(ctx)
				if waited := time.Since(start).Round(time.Millisecond); !errors.Is(err, ErrOverloaded) || waited != tt.wait {
					t.Errorf("%v after %v, want %v", err, waited, tt.wait)
				}
				if _, _, waiting := c.State(); waiting != 0 {
					t.Errorf("%d still wait", waiting)
				}
			})
		})
	}
}

// TestLeavingBeforeTheSlot checks that a caller who goes away leaves no place in the queue,
// nor takes a slot along that came in the same moment.
func TestLeavingBeforeTheSlot(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(512).Acquire(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("caller gone before: %v", err)
	}
	turn := make(chan struct{})
	close(turn)
	for range 100 {
		c := New(512)
		c.take()
		err := c.await(gone, nil, turn, time.Hour)
		if _, inFlight, _ := c.State(); (err == nil) != (inFlight == 1) {
			t.Fatalf("turn and end in the same moment: %v, %d slots taken", err, inFlight)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c, random := New(512), rand.New(rand.NewPCG(1, 2))
		c.limit = least
		var most int
		for range 5_000 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(random.IntN(4))*time.Millisecond, cancel)
			hold := time.Duration(random.IntN(4)) * time.Millisecond
			go func() {
				switch err := c.Acquire(ctx); {
				case err == nil:
					<-time.After(hold)
					c.Release("get", 0, false)
				case !errors.Is(err, context.Canceled) && !errors.Is(err, ErrOverloaded):
					t.Error(err)
				}
			}()
			if random.IntN(10) == 0 {
				<-time.After(time.Millisecond)
			}
			limit, inFlight, waiting := c.State()
			if most = max(most, waiting); inFlight > limit || waiting > limit {
				t.Fatalf("%d slots taken, %d waiting, limit %d", inFlight, waiting, limit)
			}
		}
		<-time.After(time.Minute)
		if _, inFlight, waiting := c.State(); inFlight != 0 || waiting != 0 || most == 0 {
			t.Errorf("%d slots taken, %d waiting, %d at most", inFlight, waiting, most)
		}
	})
}

// TestRefusalIsCheap checks that a refusal costs no memory.
func TestRefusalIsCheap(t *testing.T) {
	c := full(t)
	c.held = 10 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if n := testing.AllocsPerRun(100, func() { _ = c.Acquire(ctx) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRefusal(b *testing.B) {
	c := full(b)
	c.held = 10 * time.Second
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Acquire(ctx); !errors.Is(err, ErrOverloaded) {
			b.Fatal(err)
		}
	}
}

func BenchmarkSlot(b *testing.B) {
	c, operation := New(512), "get"
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Acquire(b.Context()); err != nil {
			b.Fatal(err)
		}
		c.Release(operation, time.Nanosecond, true)
	}
}

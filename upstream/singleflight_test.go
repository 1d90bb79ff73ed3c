package upstream

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// reads answers with the number of the call after a while, unless it is given up.
type reads struct {
	took  time.Duration
	calls atomic.Int32
	ended atomic.Int32 // because all had left
}

func (r *reads) call(ctx context.Context) ([]byte, *apierror.Error) {
	n := r.calls.Add(1)
	select {
	case <-time.After(r.took):
		return fmt.Appendf(nil, "call %d", n), nil
	case <-ctx.Done():
		r.ended.Add(1)
		return nil, &apierror.Error{Reason: apierror.Cancelled}
	}
}

// checkEmpty tells that nothing is left of flights that have ended.
func (f *singleflight[T]) checkEmpty(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.open) != 0 {
		t.Errorf("%d flights are left", len(f.open))
	}
}

// lasting returns a context that ends after d.
func lasting(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestFlightIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		read := &reads{took: time.Second}
		var joined atomic.Int32
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				l, ok := f.do(t.Context(), "a", read.call)
				if !ok || l.err != nil || string(l.reply) != "call 1" {
					t.Errorf("%q, %v, %t", l.reply, l.err, ok)
				}
				if l.joined {
					joined.Add(1)
				}
			})
		}
		group.Wait()
		if read.calls.Load() != 1 || joined.Load() != 99 {
			t.Errorf("%d calls, joined %d times", read.calls.Load(), joined.Load())
		}
		f.checkEmpty(t)
		if l, _ := f.do(t.Context(), "a", read.call); string(l.reply) != "call 2" || l.joined {
			t.Errorf("after the flight: %q", l.reply)
		}
	})
}

func TestFlightsOfOtherKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		read := &reads{took: time.Second}
		var group sync.WaitGroup
		for _, key := range []string{"a", "b", "A", ""} {
			group.Go(func() {
				if l, ok := f.do(t.Context(), key, read.call); !ok || l.joined {
					t.Errorf("%q joined another: %t", key, l.joined)
				}
			})
		}
		group.Wait()
		if read.calls.Load() != 4 {
			t.Errorf("%d calls", read.calls.Load())
		}
	})
}

func TestFlightErrorIsTheWaitersOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() {
				l, ok := f.do(t.Context(), "a", func(context.Context) ([]byte, *apierror.Error) {
					<-time.After(time.Second)
					return nil, &apierror.Error{Reason: "GONE", TraceID: "first"}
				})
				if !ok || l.err == nil || l.err.Reason != "GONE" || l.err.TraceID != "first" {
					t.Errorf("error %v, %t", l.err, ok)
					return
				}
				l.err.TraceID = fmt.Sprint(i) // a race if it were another's
			})
		}
		group.Wait()
	})
}

// TestFlightOutlivesTheFirst checks that whoever began a call may leave, and that
// the call keeps the values of its context.
func TestFlightOutlivesTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		read := &reads{took: 10 * time.Second}
		call := func(ctx context.Context) ([]byte, *apierror.Error) {
			if CallInfoOf(ctx).TraceID != "first" {
				t.Errorf("trace id %q", CallInfoOf(ctx).TraceID)
			}
			return read.call(ctx)
		}
		start := time.Now()
		first := WithCallInfo(lasting(t, time.Second), CallInfo{TraceID: "first"})
		var group sync.WaitGroup
		group.Go(func() {
			if _, ok := f.do(first, "a", call); ok || time.Since(start) != time.Second {
				t.Errorf("the first left %t, after %s", !ok, time.Since(start))
			}
		})
		synctest.Wait()
		for i := range 5 {
			patience := time.Duration(i+2) * time.Second
			group.Go(func() {
				if _, ok := f.do(lasting(t, patience), "a", call); ok || time.Since(start) != patience {
					t.Errorf("one left %t, after %s of %s", !ok, time.Since(start), patience)
				}
			})
		}
		group.Go(func() {
			l, ok := f.do(t.Context(), "a", call)
			if !ok || l.err != nil || !l.joined || time.Since(start) != read.took {
				t.Errorf("the patient one: %t, %v after %s", ok, l.err, time.Since(start))
			}
		})
		group.Wait()
		if read.calls.Load() != 1 {
			t.Errorf("%d calls", read.calls.Load())
		}
	})
}

// TestFlightGivenUp checks that a call ends with its last waiter, who sees it
// end, and that nobody joins what is ending.
func TestFlightGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		const slow = 3 * time.Second // to notice that it was given up
		ending := false
		start := time.Now()
		var group sync.WaitGroup
		for i := range 3 {
			group.Go(func() {
				patience := time.Duration(i+1) * time.Second
				if _, ok := f.do(lasting(t, patience), "a", func(ctx context.Context) ([]byte, *apierror.Error) {
					<-ctx.Done()
					ending = true
					<-time.After(slow)
					return []byte("too late"), nil
				}); ok {
					t.Error("got an answer")
				}
				want := patience
				if i == 2 {
					want += slow
				}
				if took := time.Since(start); took != want {
					t.Errorf("caller %d left after %s", i, took)
				}
			})
		}
		<-time.After(3*time.Second + time.Millisecond)
		synctest.Wait()
		if !ending {
			t.Error("the call goes on without a waiter")
		}
		read := &reads{took: time.Second}
		if l, ok := f.do(t.Context(), "a", read.call); !ok || l.joined || string(l.reply) != "call 1" {
			t.Errorf("%q, joined %t", l.reply, l.joined)
		}
		group.Wait()
		f.checkEmpty(t)
	})
}

// TestFlightIsNotReplacedByAnOldOne checks that a flight which ends leaves a newer
// one of its key alone.
func TestFlightIsNotReplacedByAnOldOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		var group sync.WaitGroup
		group.Go(func() { f.do(t.Context(), "a", (&reads{took: time.Second / 2}).call) })
		synctest.Wait()
		f.wrote()
		newer := &reads{took: 4 * time.Second}
		group.Go(func() { f.do(t.Context(), "a", newer.call) })
		<-time.After(time.Second * 3 / 4) // the old one has landed
		if l, _ := f.do(t.Context(), "a", newer.call); !l.joined || newer.calls.Load() != 1 {
			t.Errorf("joined %t, %d calls", l.joined, newer.calls.Load())
		}
		group.Wait()
		f.checkEmpty(t)
	})
}

// TestOldFlightIsNotJoined checks that a read which hangs does not hang up those
// that come later.
func TestOldFlightIsNotJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		var group sync.WaitGroup
		group.Go(func() { f.do(t.Context(), "a", (&reads{took: time.Hour}).call) })
		<-time.After(joinTime)
		later := &reads{took: time.Millisecond}
		if l, ok := f.do(t.Context(), "a", later.call); !ok || l.joined || later.calls.Load() != 1 {
			t.Errorf("joined %t, %d calls", l.joined, later.calls.Load())
		}
		group.Wait()
		f.checkEmpty(t)
	})
}

func TestFlightBeforeAWriteIsNotJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		read := &reads{took: time.Second}
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if l, ok := f.do(t.Context(), "a", read.call); !ok || string(l.reply) != "call 1" {
					t.Errorf("a reader before the write: %q", l.reply)
				}
			})
		}
		synctest.Wait()
		f.wrote()
		for range 2 {
			group.Go(func() {
				if l, ok := f.do(t.Context(), "a", read.call); !ok || string(l.reply) != "call 2" {
					t.Errorf("a reader after the write: %q", l.reply)
				}
			})
		}
		group.Wait()
		f.checkEmpty(t)
	})
}

func TestFlightPanics(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){
		"panic": func() { panic("boom") },
		"exit":  runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var f singleflight[[]byte]
				var group sync.WaitGroup
				for i := range 5 {
					group.Go(func() {
						ctx := t.Context()
						if i == 0 { // one leaves before
							ctx = lasting(t, time.Second)
						}
						defer func() {
							text := fmt.Sprint(recover())
							if told := strings.Contains(text, "flight_test.go"); told != (i > 0) {
								t.Errorf("waiter %d: %s", i, text)
							}
						}()
						f.do(ctx, "a", func(context.Context) ([]byte, *apierror.Error) {
							<-time.After(2 * time.Second)
							end()
							return nil, nil
						})
					})
				}
				group.Wait()
				f.checkEmpty(t)
			})
		})
	}
}

// TestFlightPanicOfTheGivenUp checks that a panic is not lost if all have left.
func TestFlightPanicOfTheGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f singleflight[[]byte]
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		f.do(lasting(t, time.Second), "a", func(ctx context.Context) ([]byte, *apierror.Error) {
			<-ctx.Done()
			panic("boom")
		})
	})
}

func TestFlightWithoutPatience(t *testing.T) {
	t.Parallel()
	var f singleflight[[]byte]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	read := &reads{}
	if _, ok := f.do(ctx, "a", read.call); ok || read.calls.Load() != 0 {
		t.Errorf("%d calls", read.calls.Load())
	}
}

// TestFlightDeadline tells which deadline a call can see.
func TestFlightDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const none = -1
		for _, tt := range []struct{ waiters, want []int }{ // seconds
			{[]int{5, 3, 9}, []int{5, 5, 9}},
			{[]int{5, none, 9}, []int{5, none, none}},
			{[]int{none, 9}, []int{none, none}},
		} {
			var f singleflight[[]byte]
			var group sync.WaitGroup
			called := make(chan context.Context, 1)
			var inside context.Context
			start := time.Now()
			for i, patience := range tt.waiters {
				ctx := t.Context()
				if patience != none {
					ctx = lasting(t, time.Duration(patience)*time.Second)
				}
				group.Go(func() {
					f.do(ctx, "a", func(ctx context.Context) ([]byte, *apierror.Error) {
						called <- ctx
						<-time.After(time.Second)
						return nil, nil
					})
				})
				synctest.Wait()
				if i == 0 {
					inside = <-called //nolint:fatcontext // of the call; nothing grows
				}
				seen := none
				if deadline, ok := inside.Deadline(); ok {
					seen = int(deadline.Sub(start).Seconds())
				}
				if seen != tt.want[i] {
					t.Errorf("waiters %d: deadline after %d s, want %d", tt.waiters[:i+1], seen, tt.want[i])
				}
			}
			group.Wait()
			if inside.Err() == nil {
				t.Error("the context outlives its call")
			}
		}
	})
}

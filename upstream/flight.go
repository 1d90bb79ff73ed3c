package upstream

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// boarding is how long a flight may be joined. One that hangs would else be joined
// for ever, and nobody would try again.
const boarding = time.Second

// Flights let identical reads that are under way at the same time share one call
// of the upstream. The zero value is ready for use.
type flights[T any] struct {
	mu     sync.Mutex
	open   map[string]*flight[T] // by key: the one that may be joined
	writes int                   // that have ended
}

// A flight is one call, and those who wait for it.
type flight[T any] struct {
	began  time.Time
	writes int // that had ended before it began

	// Guarded by flights.mu.
	waiters int
	latest  time.Time // deadline of those who have waited; zero if one had none

	cancel context.CancelFunc
	done   chan struct{} // closed when it has landed; only then is the rest set

	reply    T
	err      *apierror.Error
	panicked error
}

// A landing is what one of those who waited gets out of a flight.
type landing[T any] struct {
	reply  T               // shared; not to be changed
	err    *apierror.Error // the waiter's own copy
	joined bool            // the flight was another's, so err has the trace id of another
}

// do makes a call, or waits for the same call of another. Calls are the same if
// their keys are. The call has the values of the context of whoever began it; it
// ends early only if all who wait for it have left, which each does, with false,
// at the end of its own context. If the call panics, so do they.
func (f *flights[T]) do(ctx context.Context, key string, call func(context.Context) (T, *apierror.Error)) (landing[T], bool) {
	if ctx.Err() != nil {
		return landing[T]{}, false
	}
	fl, joined := f.board(ctx, key, call)
	select {
	case <-fl.done:
	case <-ctx.Done():
		if last := f.leave(key, fl); last {
			// As for a call of its own. So none outlives its callers, and a panic
			// always has somebody to tell.
			<-fl.done
			fl.rethrow()
		}
		return landing[T]{}, false
	}
	fl.rethrow()
	l := landing[T]{reply: fl.reply, joined: joined}
	if fl.err != nil {
		own := *fl.err
		l.err = &own
	}
	return l, true
}

// wrote notes that a write has ended, successfully or not. Whoever learns of it
// must not be told what was read before: flights that have begun are joined no
// more.
func (f *flights[T]) wrote() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
}

// board joins the open flight of a key, or begins one.
func (f *flights[T]) board(ctx context.Context, key string, call func(context.Context) (T, *apierror.Error)) (fl *flight[T], joined bool) {
	deadline, limited := ctx.Deadline()
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl = f.open[key]; fl != nil && fl.writes == f.writes && time.Since(fl.began) < boarding {
		fl.waiters++
		switch {
		case !limited:
			fl.latest = time.Time{}
		case !fl.latest.IsZero() && deadline.After(fl.latest):
			fl.latest = deadline
		}
		return fl, true
	}
	fl = &flight[T]{began: time.Now(), writes: f.writes, waiters: 1, latest: deadline, done: make(chan struct{})}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // whatever ends the flight cancels it
	fl.cancel = cancel
	if f.open == nil {
		f.open = make(map[string]*flight[T])
	}
	f.open[key] = fl
	go f.run(flightContext[T]{inner, f, fl}, key, fl, call) //nolint:contextcheck // it has the values of ctx, and is to outlive it
	return fl, false
}

// leave tells whether the one who leaves is the last; the flight is then given
// up, and whoever comes later begins another.
func (f *flights[T]) leave(key string, fl *flight[T]) (last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiters--
	if fl.waiters > 0 {
		return false
	}
	f.close(key, fl)
	fl.cancel()
	return true
}

// close keeps others from joining. A flight that was begun before a write may
// have been replaced already.
func (f *flights[T]) close(key string, fl *flight[T]) {
	if f.open[key] == fl {
		delete(f.open, key)
	}
}

func (f *flights[T]) run(ctx context.Context, key string, fl *flight[T], call func(context.Context) (T, *apierror.Error)) {
	returned := false
	defer func() {
		if !returned { // nil if it was not a panic but runtime.Goexit
			fl.panicked = fmt.Errorf("%v\n\n%s", recover(), debug.Stack())
		}
		f.mu.Lock()
		f.close(key, fl)
		f.mu.Unlock()
		fl.cancel()
		close(fl.done)
	}()
	fl.reply, fl.err = call(ctx)
	returned = true
}

// rethrow panics in the goroutine of a waiter, where it is known what to do, as
// the call did; the text has the stack of the call.
func (fl *flight[T]) rethrow() {
	if fl.panicked != nil {
		panic(fl.panicked)
	}
}

// A flightContext ends when its flight is given up. Its deadline is when that
// will be at the latest, as far as is known now, so that nobody waits for what
// would come after; it moves when others join.
type flightContext[T any] struct {
	context.Context //nolint:containedctx // it is a context itself

	flights *flights[T]
	flight  *flight[T]
}

// Deadline returns the latest deadline of those who have waited, if all had one.
func (c flightContext[T]) Deadline() (deadline time.Time, ok bool) {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	return c.flight.latest, !c.flight.latest.IsZero()
}

package upstream

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// sharedCall is one call that several callers wait for. It has the values of the
// context of whoever began it. It ends early only if all its callers have left, which
// each does at the end of its own context. If it panics, so do they.
type sharedCall[T any] struct {
	mu      *sync.Mutex // guards callers, latest and endless
	callers int
	latest  time.Time // deadline of the callers, also of those who have left
	endless bool      // one of them has none

	ctx    context.Context //nolint:containedctx // it is a call itself
	cancel context.CancelFunc
	done   chan struct{} // closed when the call has ended; only then is the rest set

	result   T
	panicked error
}

func newSharedCall[T any](ctx context.Context, mu *sync.Mutex) *sharedCall[T] {
	s := &sharedCall[T]{mu: mu, done: make(chan struct{})}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // whatever ends the call cancels it
	s.ctx, s.cancel = sharedContext[T]{inner, s}, cancel
	return s
}

// join adds a caller. The lock is held.
func (s *sharedCall[T]) join(ctx context.Context) {
	s.callers++
	deadline, limited := ctx.Deadline()
	s.endless = s.endless || !limited
	if deadline.After(s.latest) {
		s.latest = deadline
	}
}

// run makes the call, and then ended under the lock.
func (s *sharedCall[T]) run(call func(context.Context) T, ended func()) {
	returned := false
	defer func() {
		if !returned { // nil if it was not a panic but runtime.Goexit
			s.panicked = fmt.Errorf("%v\n\n%s", recover(), debug.Stack())
		}
		s.mu.Lock()
		ended()
		s.mu.Unlock()
		s.cancel()
		close(s.done)
	}()
	s.result = call(s.ctx)
	returned = true
}

// wait returns the result, or false if the caller's context ends before. left is told
// under the lock whether the caller was the last, and returns whether the call runs.
func (s *sharedCall[T]) wait(ctx context.Context, left func(last bool) (runs bool)) (result T, ok bool) {
	select {
	case <-s.done:
		s.rethrow()
		return s.result, true
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.callers--
	last := s.callers == 0
	runs := left(last)
	s.mu.Unlock()
	if last {
		s.cancel()
		if runs {
			// None outlives its callers, and a panic always has somebody to reach.
			<-s.done
			s.rethrow()
		}
	}
	return result, false
}

// rethrow panics in the goroutine of a caller, as the call did; the text has the stack
// of the call.
func (s *sharedCall[T]) rethrow() {
	if s.panicked != nil {
		panic(s.panicked)
	}
}

// sharedContext tells a deadline without keeping it: the latest of all callers, which
// moves when others join. The callers keep to their own, and the last who leaves ends
// the call. If both happened by themselves, the call could fail before its callers
// know why.
type sharedContext[T any] struct {
	context.Context //nolint:containedctx // it is a context itself

	call *sharedCall[T]
}

// Deadline returns the latest deadline of the callers, if all have one.
func (c sharedContext[T]) Deadline() (deadline time.Time, ok bool) {
	c.call.mu.Lock()
	defer c.call.mu.Unlock()
	return c.call.latest, !c.call.endless
}

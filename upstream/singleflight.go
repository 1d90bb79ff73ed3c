package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// joinTime is how long a read may be joined. One that hangs would otherwise be joined
// for ever, and nobody would try again.
const joinTime = time.Second

// singleflight answers identical reads in progress at the same time by one call. The
// zero value is ready for use. It differs from x/sync/singleflight in that a read ends
// when nobody waits for it, is not joined after a write, and keeps the deadlines.
type singleflight[T any] struct {
	mu     sync.Mutex
	open   map[string]*flight[T] // by key: the one that may be joined
	writes int                   // that have ended
}

// flight is one read and those who wait for it.
type flight[T any] struct {
	*sharedCall[outcome[T]]

	began  time.Time
	writes int // that had ended before it began
}

type outcome[T any] struct {
	reply T
	err   *apierror.Error
}

// shared is what one of those who waited gets.
type shared[T any] struct {
	reply  T               // shared; not to be changed
	err    *apierror.Error // the waiter's own copy
	joined bool            // the read was begun by another, so err has the trace id of another
}

// do makes a call, or waits for the same call of another. Calls are the same if their
// keys are. It returns false if the context ends first.
func (f *singleflight[T]) do(ctx context.Context, key string, call func(context.Context) (T, *apierror.Error)) (shared[T], bool) {
	if ctx.Err() != nil {
		return shared[T]{}, false
	}
	fl, joined := f.join(ctx, key, call)
	result, ok := fl.wait(ctx, func(last bool) bool {
		if last { // whoever comes later begins another
			f.close(key, fl)
		}
		return true
	})
	if !ok {
		return shared[T]{}, false
	}
	s := shared[T]{reply: result.reply, joined: joined}
	if result.err != nil {
		own := *result.err
		s.err = &own
	}
	return s, true
}

// wrote notes that a write has ended, successfully or not. Whoever learns of it must
// not get what was read before: reads that have begun are joined no more.
func (f *singleflight[T]) wrote() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
}

// join joins the open flight of a key, or begins one.
func (f *singleflight[T]) join(ctx context.Context, key string, call func(context.Context) (T, *apierror.Error)) (fl *flight[T], joined bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl = f.open[key]; fl != nil && fl.writes == f.writes && time.Since(fl.began) < joinTime {
		fl.join(ctx)
		return fl, true
	}
	fl = &flight[T]{sharedCall: newSharedCall[outcome[T]](ctx, &f.mu), began: time.Now(), writes: f.writes}
	fl.join(ctx)
	if f.open == nil {
		f.open = make(map[string]*flight[T])
	}
	f.open[key] = fl
	go fl.run(func(ctx context.Context) outcome[T] {
		reply, err := call(ctx)
		return outcome[T]{reply, err}
	}, func() { f.close(key, fl) })
	return fl, false
}

// close keeps others from joining. A flight that was begun before a write may have been
// replaced already.
func (f *singleflight[T]) close(key string, fl *flight[T]) {
	if f.open[key] == fl {
		delete(f.open, key)
	}
}

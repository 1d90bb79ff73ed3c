package service

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// So long the first caller waits for others, unless the call is full before.
	mergeWindow = 2 * time.Millisecond
	// Merged calls under way at a time. The callers that come then gather for the
	// next one. Those who find that one full go alone, and are no worse off than
	// without merging: there is no queue that could grow.
	mergedCalls = 16
)

// Mergers keep groups of callers apart: what is asked for by callers of two groups
// is not the same, whatever it is called.
type mergers[K comparable, R proto.Message] struct {
	limit int
	call  func(context.Context, []K) (map[K]R, error)
	group func(context.Context) string // nil if all are one

	mu  sync.Mutex
	all map[string]*merger[K, R]
}

// of returns the merger of a caller's group.
func (m *mergers[K, R]) of(ctx context.Context) *merger[K, R] {
	group := ""
	if m.group != nil {
		group = m.group(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[group] == nil {
		if m.all == nil {
			m.all = make(map[string]*merger[K, R])
		}
		m.all[group] = &merger[K, R]{limit: m.limit, call: m.call}
	}
	return m.all[group]
}

// A merger makes one call out of calls for one item each that come at about the
// same time. Nothing runs while nobody calls.
type merger[K comparable, R proto.Message] struct {
	// limit is how many items a merged call takes.
	limit int
	// call asks for some items. Those that it leaves out are asked for alone.
	call func(context.Context, []K) (map[K]R, error)

	mu     sync.Mutex
	open   *merged[K, R] // the one that gathers callers, or nil
	flying int           // merged calls under way
}

// A merged call, and those who wait for it.
type merged[K comparable, R proto.Message] struct {
	// Guarded by the merger's mu. Only callers changes once the call is made.
	keys    []K // in the order of arrival, without those that nobody waits for
	waiting map[K]int
	callers int
	latest  time.Time // deadline of the callers
	endless bool      // one of them has none
	due     bool      // the window is over, or the call full
	window  *time.Timer

	run    func()
	cancel context.CancelFunc
	done   chan struct{} // closed when the call has ended; only then is the rest set

	answers  map[K]R
	err      error
	panicked error
}

// get returns the answer for one item, which is the caller's own; alone asks for
// this item alone. The merged call has the values of the context of its first
// caller, and it ends early only if all its callers have left, which each does
// at the end of its own context. If it panics, so do they.
func (m *merger[K, R]) get(ctx context.Context, key K, alone func() (R, error)) (R, error) {
	g := m.join(ctx, key)
	if g == nil {
		return alone()
	}
	var none R
	select {
	case <-g.done:
	case <-ctx.Done():
		if last := m.leave(g, key); last {
			// As for a call of its own. So none outlives its callers, and a panic
			// always has somebody to tell.
			<-g.done
			g.rethrow()
		}
		return none, status.FromContextError(ctx.Err()).Err()
	}
	g.rethrow()
	if answer, ok := g.answers[key]; ok {
		return proto.CloneOf(answer), nil
	}
	if temporary(g.err) {
		return none, g.err
	}
	return alone()
}

// join finds a place in the open call; nil if there is none.
func (m *merger[K, R]) join(ctx context.Context, key K) *merged[K, R] {
	deadline, limited := ctx.Deadline()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		m.open = m.gather(ctx)
	}
	g := m.open
	if g.waiting[key] == 0 {
		if len(g.keys) == m.limit {
			return nil
		}
		g.keys = append(g.keys, key)
	}
	g.waiting[key]++
	g.callers++
	g.endless = g.endless || !limited
	if deadline.After(g.latest) {
		g.latest = deadline
	}
	if len(g.keys) == m.limit {
		g.due = true
		m.launch()
	}
	return g
}

// gather opens a call; its first caller is the one that joins under ctx.
func (m *merger[K, R]) gather(ctx context.Context) *merged[K, R] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // whatever ends the call cancels it
	g := &merged[K, R]{waiting: make(map[K]int), done: make(chan struct{})}
	g.cancel = cancel
	g.run = func() { m.carryOut(ctx, g) }
	g.window = time.AfterFunc(mergeWindow, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.open == g {
			g.due = true
			m.launch()
		}
	})
	return g
}

// launch makes the open call if it is due and may be made. Where there is
// nothing to merge, the only caller goes alone.
func (m *merger[K, R]) launch() {
	g := m.open
	switch {
	case g == nil || !g.due:
	case g.callers == 1:
		m.close(g)
		g.cancel()
		close(g.done)
	case m.flying < mergedCalls:
		m.close(g)
		m.flying++
		go g.run()
	}
}

// close keeps others from joining.
func (m *merger[K, R]) close(g *merged[K, R]) {
	m.open = nil
	g.window.Stop()
}

// leave tells whether a caller was the last of a call that has been made; the
// call is then cancelled. One that was not made yet forgets the caller's item.
func (m *merger[K, R]) leave(g *merged[K, R], key K) (last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g.callers--
	last = g.callers == 0
	if last {
		g.cancel()
	}
	if m.open != g {
		return last
	}
	g.waiting[key]--
	if g.waiting[key] == 0 {
		g.keys = slices.DeleteFunc(g.keys, func(k K) bool { return k == key })
	}
	if last {
		m.close(g)
	} else {
		m.launch() // perhaps a single caller is left
	}
	return false
}

func (m *merger[K, R]) carryOut(ctx context.Context, g *merged[K, R]) { //nolint:contextcheck // until has the values of ctx, and ends with it
	returned := false
	defer func() {
		if !returned { // nil if it was not a panic but runtime.Goexit
			g.panicked = fmt.Errorf("%v\n\n%s", recover(), debug.Stack())
		}
		m.mu.Lock()
		m.flying--
		m.launch()
		m.mu.Unlock()
		g.cancel()
		close(g.done)
	}()
	if !g.endless {
		ctx = until{ctx, g.latest}
	}
	g.answers, g.err = m.call(ctx, g.keys)
	returned = true
}

// rethrow panics in the goroutine of a caller, where it is known what to do, as
// the call did; the text has the stack of the call.
func (g *merged[K, R]) rethrow() {
	if g.panicked != nil {
		panic(g.panicked)
	}
}

// An until is a context that tells a deadline without keeping it: the callers of
// a merged call keep to their own, and the last who leaves ends it. Were both to
// happen by themselves, the call could fail before its callers know why.
type until struct {
	context.Context //nolint:containedctx // it is a context itself

	deadline time.Time
}

func (u until) Deadline() (deadline time.Time, ok bool) { return u.deadline, true }

// temporary tells of an error that a later call may not meet. It is nobody's
// fault, while any other may come from the item of another, or from the merging.
func temporary(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if _, ok := detail.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

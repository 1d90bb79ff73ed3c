package upstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

const (
	// mergeWindow is how long the first caller waits for others, unless the call is
	// full before.
	mergeWindow = 2 * time.Millisecond
	// mergedCalls are in progress at a time. The callers that come then gather for the
	// next one. Those who find that one full go alone: there is no queue that could
	// grow.
	mergedCalls = 16
)

// batcher makes one call out of reads of one item each that come at about the same
// time. Nothing runs while nobody calls.
type batcher[V any] struct {
	// limit is how many items a merged call takes.
	limit int
	// call asks for some items. Those that it leaves out are asked for alone. The
	// values are by folded item.
	call func(ctx context.Context, items []string) (map[string]V, error)

	mu         sync.Mutex
	open       *gathering[V] // the call that gathers callers, or nil
	inProgress int
}

// gathering is a merged call and those who wait for it.
type gathering[V any] struct {
	*sharedCall[merged[V]]

	items   []string // in the order of arrival, without those that nobody waits for
	waiting map[string]int
	alone   bool // nothing was merged: the only caller calls by itself
	due     bool // the window is over, or the call full
	window  *time.Timer
}

// merged is what a merged call was answered.
type merged[V any] struct {
	values map[string]V
	err    error
}

// get reads one item together with others. The value is shared and must not be changed.
// done is false if the item has to be read alone: because nobody else came, or because
// of an error that may come from the items of others or from the merging.
func (b *batcher[V]) get(ctx context.Context, item string) (value V, done bool, err error) {
	g := b.join(ctx, item)
	if g == nil {
		return value, false, nil
	}
	answer, ok := g.wait(ctx, func(last bool) bool { return b.leave(g, item, last) })
	if !ok {
		return value, true, status.FromContextError(ctx.Err()).Err()
	}
	value, found := answer.values[fold(item)]
	e, _ := errors.AsType[*apierror.Error](answer.err)
	switch {
	case found:
		return value, true, nil
	case e != nil && e.RetryAfter() > 0: // it is nobody's fault and may pass
		own := *e
		own.TraceID = CallInfoOf(ctx).TraceID
		return value, true, &own
	default:
		return value, false, nil
	}
}

// fold makes ids equal that the upstream writes in lower case.
func fold(id string) string { return strings.ToLower(id) }

// join finds a place in the open call; nil if there is none.
func (b *batcher[V]) join(ctx context.Context, item string) *gathering[V] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		b.open = b.gather(ctx)
	}
	g := b.open
	if g.waiting[item] == 0 {
		if len(g.items) == b.limit {
			return nil
		}
		g.items = append(g.items, item)
	}
	g.waiting[item]++
	g.join(ctx)
	if len(g.items) == b.limit {
		g.due = true
		b.launch()
	}
	return g
}

// gather opens a call; its first caller is the one that joins under ctx.
func (b *batcher[V]) gather(ctx context.Context) *gathering[V] {
	g := &gathering[V]{sharedCall: newSharedCall[merged[V]](ctx, &b.mu), waiting: make(map[string]int)}
	g.window = time.AfterFunc(mergeWindow, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.open == g {
			g.due = true
			b.launch()
		}
	})
	return g
}

// launch makes the open call if it is due and may be made. Where there is nothing to
// merge, the only caller goes alone.
func (b *batcher[V]) launch() {
	g := b.open
	switch {
	case g == nil || !g.due:
	case g.callers == 1:
		b.close(g)
		g.alone = true
		g.cancel()
		close(g.done)
	case b.inProgress < mergedCalls:
		b.close(g)
		b.inProgress++
		go g.run(func(ctx context.Context) merged[V] {
			values, err := b.call(ctx, g.items)
			return merged[V]{values, err}
		}, func() {
			b.inProgress--
			b.launch()
		})
	}
}

// close keeps others from joining.
func (b *batcher[V]) close(g *gathering[V]) {
	b.open = nil
	g.window.Stop()
}

// leave reports whether the call of a caller who goes runs. One that was not made yet
// forgets the caller's item.
func (b *batcher[V]) leave(g *gathering[V], item string, last bool) (runs bool) {
	if b.open != g {
		return !g.alone
	}
	g.waiting[item]--
	if g.waiting[item] == 0 {
		g.items = slices.DeleteFunc(g.items, func(other string) bool { return other == item })
	}
	if last {
		b.close(g)
	} else {
		b.launch() // perhaps a single caller is left
	}
	return false
}

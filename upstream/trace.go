package upstream

import (
	"context"
	"sync/atomic"
)

// The upstream de-duplicates requests by their trace id, so one operation keeps
// its id over all attempts and no two operations share one. The first operation
// of a call has the call's own, unless it has a key, from which it is derived.

// A trace is the trace id of an RPC, and whether an operation has taken it.
type trace struct {
	id    string
	taken atomic.Bool
}

type traceKey struct{}

// NewTraceID returns a fresh trace id of 32 hex digits.
func NewTraceID() string { return randomHex() }

// WithTraceID makes id the trace id of the first upstream operation called under
// the context. Further operations get ids of their own.
func WithTraceID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, traceKey{}, &trace{id: id})
}

// TraceID returns the trace id of the context, or "" if it has none.
func TraceID(ctx context.Context) string {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t.id
	}
	return ""
}

// operationID returns the trace id for one operation that has no key.
func operationID(ctx context.Context) string {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok && t.taken.CompareAndSwap(false, true) {
		return t.id
	}
	return NewTraceID()
}

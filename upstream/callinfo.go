package upstream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync/atomic"
)

// CallInfo says for which call of a caller the upstream is called.
type CallInfo struct {
	// TraceID is the trace id of the call. The first upstream call made for it has
	// the same id, further ones have ids of their own.
	TraceID string
	// Caller names who calls. Callers that compete for a quota take turns, whatever
	// the number of calls that each of them makes. Those without a name are one.
	Caller string
	// QuotaShare keeps the caller to a share of each quota, above 0 and below 1, also
	// while nobody else needs the rest. Any other share is all.
	QuotaShare float64
	// IdempotencyKey marks calls as one intention of the caller: the upstream knows
	// the same request under the same key as the same operation, however often it is
	// made. The key must be the caller's own.
	IdempotencyKey string
}

type callInfoKey struct{}

// callInfo is what the context holds.
type callInfo struct {
	CallInfo

	taken atomic.Bool // an upstream call has the trace id
}

// WithCallInfo makes the upstream calls under a context those of one call.
func WithCallInfo(ctx context.Context, info CallInfo) context.Context {
	return context.WithValue(ctx, callInfoKey{}, &callInfo{CallInfo: info})
}

// CallInfoOf returns what the context says of the call, or nothing.
func CallInfoOf(ctx context.Context) CallInfo { return infoOf(ctx).CallInfo }

func infoOf(ctx context.Context) *callInfo {
	if info, ok := ctx.Value(callInfoKey{}).(*callInfo); ok {
		return info
	}
	return new(callInfo)
}

// HasShare reports whether the caller is kept to a share of the quotas.
func (c CallInfo) HasShare() bool { return c.QuotaShare > 0 && c.QuotaShare < 1 }

// traceID returns the trace id of an upstream call that has no idempotency key.
// The upstream recognises repetitions by this id, so no two calls may share one.
func (c *callInfo) traceID() string {
	if c.TraceID != "" && c.taken.CompareAndSwap(false, true) {
		return c.TraceID
	}
	return NewTraceID()
}

// NewTraceID returns a fresh trace id of 32 hexadecimal digits.
func NewTraceID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

package upstream

import (
	"context"
	"sync"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

type quotaShareKey struct{}

// WithQuotaShare keeps the caller of a context to a share of each quota, above 0
// and below 1, also while nobody else needs the rest. Any other share is all.
func WithQuotaShare(ctx context.Context, share float64) context.Context {
	return context.WithValue(ctx, quotaShareKey{}, share)
}

// HasQuotaShare tells whether the caller of a context is kept to a share. What it
// does together with others would be kept to that as well.
func HasQuotaShare(ctx context.Context) bool {
	share := quotaShare(ctx)
	return share > 0 && share < 1
}

func quotaShare(ctx context.Context) float64 {
	share, _ := ctx.Value(quotaShareKey{}).(float64)
	return share
}

// shares are the quotas of callers who may not use all of one. There are no more
// than such callers.
type shares struct {
	rate Rate // of which they are shares

	mu  sync.Mutex
	own map[string]share // by caller
}

type share struct {
	of    float64
	quota *quota
}

// of returns the caller's own quota, or nil if it may use all of it.
func (s *shares) of(ctx context.Context) *quota {
	if !HasQuotaShare(ctx) || s.rate.Calls == 0 {
		return nil
	}
	of, caller := quotaShare(ctx), callerOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if own, ok := s.own[caller]; ok && own.of == of {
		return own.quota
	}
	calls := max(1, int(of*float64(s.rate.Calls)))
	q := newQuota(Rate{calls, s.rate.Per}, upstreamv1.QuotaClass_QUOTA_CLASS_UNSPECIFIED)
	if s.own == nil {
		s.own = make(map[string]share)
	}
	s.own[caller] = share{of, q}
	return q
}

// admit is wait for the caller of a context, who waits for its own share first.
func (q *quota) admit(ctx context.Context) (retryAfter time.Duration, err error) {
	caller := callerOf(ctx)
	if own := q.shares.of(ctx); own != nil {
		if retryAfter, err = own.wait(ctx, caller); err != nil {
			return retryAfter, err
		}
		own.accepted() // the upstream's answer is not about shares
	}
	return q.wait(ctx, caller)
}

package upstream

import (
	"context"
	"sync"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

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
	info := callInfoOf(ctx)
	if !info.HasShare() || s.rate.Calls == 0 {
		return nil
	}
	of, caller := info.QuotaShare, info.Caller
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
	caller := callInfoOf(ctx).Caller
	if own := q.shares.of(ctx); own != nil {
		if retryAfter, err = own.wait(ctx, caller); err != nil {
			return retryAfter, err
		}
		own.accepted() // the upstream's answer is not about shares
	}
	return q.wait(ctx, caller)
}

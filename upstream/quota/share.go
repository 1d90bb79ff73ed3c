package quota

import (
	"sync"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// shares are the quotas of callers who may not use all of one. There are no more than
// such callers.
type shares struct {
	rate Rate // of which they are shares

	mu  sync.Mutex
	own map[string]share // by caller
}

type share struct {
	of    float64
	quota *Quota
}

// of returns the caller's own quota, or nil if it may use all of it.
func (s *shares) of(c Caller) *Quota {
	if c.Share <= 0 || c.Share >= 1 || s.rate.Calls == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if own, ok := s.own[c.Name]; ok && own.of == c.Share {
		return own.quota
	}
	calls := max(1, int(c.Share*float64(s.rate.Calls)))
	q := New(Rate{calls, s.rate.Per}, upstreamv1.QuotaClass_QUOTA_CLASS_UNSPECIFIED)
	if s.own == nil {
		s.own = make(map[string]share)
	}
	s.own[c.Name] = share{c.Share, q}
	return q
}

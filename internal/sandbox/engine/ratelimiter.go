package engine

import "time"

const (
	rateWindow = time.Second
	rateBlock  = time.Second // how long an operation stays shut after its limit was hit
)

// rateLimiter counts the calls of each operation in windows of one second.
type rateLimiter[C any] struct {
	rate    int // 0 = no limit
	buckets map[*Operation[C]]*bucket
}

type bucket struct {
	opened  time.Time
	taken   int
	blocked time.Time // until then everything is refused
}

// take counts one call. The call over the limit shuts the operation for a while.
func (l *rateLimiter[C]) take(op *Operation[C], now time.Time) *Refusal {
	if l.rate <= 0 {
		return nil
	}
	if l.buckets == nil {
		l.buckets = map[*Operation[C]]*bucket{}
	}
	b := l.buckets[op]
	if b == nil {
		b = &bucket{opened: now}
		l.buckets[op] = b
	}
	if now.Before(b.blocked) {
		return CodeRateLimited.Refuse()
	}
	if now.Sub(b.opened) >= rateWindow {
		b.opened, b.taken = now, 0
	}
	b.taken++
	if b.taken > l.rate {
		b.blocked = now.Add(rateBlock)
		return CodeRateLimited.Refuse()
	}
	return nil
}

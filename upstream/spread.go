package upstream

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A spread gives moments within a time that lie evenly, however many are taken.
// Calls that fail in one instant must not come back in one, and chance alone
// would bring some of them together.
type spread struct{ at atomic.Uint64 }

// newSpread begins anywhere, or all instances of the service would keep time.
func newSpread() *spread {
	s := new(spread)
	s.at.Store(rand.Uint64()) //nolint:gosec // jitter is no secret
	return s
}

// over returns a moment from 0 to below d, in whole milliseconds; always 0 if the
// spread is nil. Multiples of the golden ratio are what lies most evenly.
func (s *spread) over(d time.Duration) time.Duration {
	if s == nil {
		return 0
	}
	const goldenRatio = 0x9E3779B97F4A7C15 // in 64-bit fractions of 1
	share := float64(s.at.Add(goldenRatio)>>11) / (1 << 53)
	return time.Duration(share * float64(d)).Truncate(time.Millisecond)
}

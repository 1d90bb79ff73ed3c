package credentials

import (
	"net/http"
	"sync/atomic"
	"time"
)

// MaxSkew is the difference of the clocks from which the upstream refuses
// signatures. It refuses those that are more than five minutes off; the Date header
// has whole seconds and the way of the answer in it.
const MaxSkew = 5*time.Minute - 2*time.Second

const (
	warnSkew = time.Minute
	warnEach = time.Minute
)

// Clock tells the time of signatures and knows how far it is off.
type Clock struct {
	// Now returns the time.
	Now func() time.Time

	skew   atomic.Int64 // nanoseconds by which the upstream is ahead
	warned atomic.Int64 // when, in Unix nanoseconds
}

// Skew returns by how much the upstream was ahead when it last answered.
func (c *Clock) Skew() time.Duration { return time.Duration(c.skew.Load()) }

// Compare notes the Date header of an answer. It returns by how much the upstream is
// ahead, and whether to warn of it.
func (c *Clock) Compare(date string) (skew time.Duration, warn bool) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		return 0, false
	}
	now := c.Now()
	skew = theirs.Sub(now)
	c.skew.Store(int64(skew))
	if skew.Abs() < warnSkew {
		return skew, false
	}
	last := c.warned.Load()
	due := last == 0 || now.UnixNano()-last >= int64(warnEach)
	return skew, due && c.warned.CompareAndSwap(last, now.UnixNano())
}

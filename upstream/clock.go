package upstream

import (
	"net/http"
	"sync/atomic"
	"time"
)

// The upstream refuses signatures that are more than five minutes off its clock.
// The difference is known by the Date header, which has whole seconds and the way
// of the answer in it.
const (
	maxSkew     = 5*time.Minute - 2*time.Second
	warnSkew    = time.Minute
	warnEach    = time.Minute
	codeForbid  = 403
	codeInvalid = 414 // also for signatures
)

// A clock tells the time of signatures, and knows how far off it is.
type clock struct {
	now    func() time.Time
	skew   atomic.Int64 // nanoseconds by which the upstream is ahead
	warned atomic.Int64 // when, in Unix nanoseconds
}

// compare notes the time of an answer, and tells whether to warn.
func (c *clock) compare(date string) (skew time.Duration, warn bool) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		return 0, false
	}
	now := c.now()
	skew = theirs.Sub(now)
	c.skew.Store(int64(skew))
	if skew.Abs() < warnSkew {
		return skew, false
	}
	last := c.warned.Load()
	due := last == 0 || now.UnixNano()-last >= int64(warnEach)
	return skew, due && c.warned.CompareAndSwap(last, now.UnixNano())
}

// refuses tells whether a code of the upstream can come from a difference of the
// clocks.
func refuses(code int64, skew time.Duration) bool {
	return (code == codeForbid || code == codeInvalid) && skew.Abs() >= maxSkew
}

package engine

import "time"

// Clock never goes back, because messages stand in the order of their times. The
// engine's lock guards it while calls are served.
type Clock struct {
	Now    func() time.Time
	Latest time.Time // that the clock has shown
}

// Advance moves the clock to a time, unless it is already later, and returns what
// the clock shows then.
func (c *Clock) Advance(to time.Time) time.Time {
	if to.After(c.Latest) {
		c.Latest = to
	}
	return c.Latest
}

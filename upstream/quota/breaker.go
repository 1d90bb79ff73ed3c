package quota

import "time"

// Limits of pauses.
const (
	firstPause     = time.Second
	firstLongPause = time.Minute // of what is counted per minute; the vendor names that time
	lastPause      = 2 * time.Minute
	lostAfter      = 30 * time.Second // more than an attempt may take
)

// breaker pauses the calls after the upstream has refused one for its rate. How long
// the upstream blocks them is not documented: after a pause one call passes as a
// trial, and the pause doubles if it is refused as well. The next time begins with
// half of what was enough. The trial begins when all earlier calls have ended, because
// their answers must not be mistaken for its own.
type breaker struct {
	open       bool // calls are paused
	trial      bool // one is in progress
	until      time.Duration
	length     time.Duration // of the pause, or of the last one
	shortest   time.Duration
	inProgress int // calls that have passed and have not ended
}

// passes returns when a call may pass, if none ends before.
func (b *breaker) passes() time.Duration {
	switch {
	case !b.open:
		return 0
	case b.inProgress > 0:
		return b.until + lostAfter
	default:
		return b.until
	}
}

// remains returns what remains of a pause, or a moment if a trial is to end it.
func (b *breaker) remains(now time.Duration) time.Duration {
	switch {
	case !b.open:
		return 0
	case now < b.until:
		return b.until - now
	default:
		return firstPause
	}
}

func (b *breaker) pass(now time.Duration) {
	if b.open {
		b.trial, b.until, b.inProgress = true, now, 0
	}
	b.inProgress++
}

// ended notes a call that got no answer, which may have been the trial.
func (b *breaker) ended() { b.inProgress = max(0, b.inProgress-1) }

func (b *breaker) refused(now time.Duration) {
	b.ended()
	switch {
	case !b.open:
		b.open, b.length = true, max(b.length/2, b.shortest)
	case b.trial:
		b.trial, b.length = false, min(2*b.length, lastPause)
	default:
		return // passed before the pause
	}
	b.until = now + b.length
}

func (b *breaker) accepted() {
	b.ended()
	if b.trial {
		b.open, b.trial = false, false
	}
}

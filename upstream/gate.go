package upstream

import "time"

// Limits of pauses.
const (
	firstPause     = time.Second
	firstLongPause = time.Minute // of what is counted per minute; the vendor names that time
	lastPause      = 2 * time.Minute
	lostAfter      = 30 * time.Second // more than an attempt may take
)

// A gate pauses the calls after the upstream has refused one for its rate. How
// long the upstream blocks them is not documented: after a pause one call is let
// through as a trial, and the pause doubles if it is refused as well. The next
// time begins with half of what was enough. So that the answer of a trial is not
// mistaken for that of an earlier call, it begins when those have all ended.
type gate struct {
	shut     bool
	trial    bool          // one is under way
	until    time.Duration // end of the pause; begin of the trial
	length   time.Duration // of the pause, or of the last one
	shortest time.Duration
	flying   int // calls that were let through and have not ended
}

// opens returns when the gate lets a call through, if none ends before.
func (g *gate) opens() time.Duration {
	switch {
	case !g.shut:
		return 0
	case g.flying > 0:
		return g.until + lostAfter
	default:
		return g.until
	}
}

// remains returns what remains of a pause, or a moment if a trial is to end it.
func (g *gate) remains(now time.Duration) time.Duration {
	switch {
	case !g.shut:
		return 0
	case now < g.until:
		return g.until - now
	default:
		return firstPause
	}
}

func (g *gate) pass(now time.Duration) {
	if g.shut {
		g.trial, g.until, g.flying = true, now, 0
	}
	g.flying++
}

// ended notes a call that got no answer, which may have been the trial.
func (g *gate) ended() { g.flying = max(0, g.flying-1) }

func (g *gate) refused(now time.Duration) {
	g.ended()
	switch {
	case !g.shut:
		g.shut, g.length = true, max(g.length/2, g.shortest)
	case g.trial:
		g.trial, g.length = false, min(2*g.length, lastPause)
	default:
		return // let through before the pause
	}
	g.until = now + g.length
}

func (g *gate) accepted() {
	g.ended()
	if g.trial {
		g.shut, g.trial = false, false
	}
}

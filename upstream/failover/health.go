package failover

import (
	"context"
	"slices"
	"time"
)

// listen sets the alarm for the silence of an endpoint.
func (s *Set) listen(e *Endpoint, after time.Duration) {
	if e.alarm == nil {
		e.alarm = time.AfterFunc(after, func() { s.checkSilence(e) })
		return
	}
	e.alarm.Reset(after)
}

// checkSilence suspects an endpoint from which no answer came for too long, even if
// the callers of its attempts have gone in the meantime.
func (s *Set) checkSilence(e *Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || e.silent.IsZero() {
		return
	}
	if left := silenceLimit - time.Since(e.silent); left > 0 {
		s.listen(e, left)
		return
	}
	e.suspect = e.up
	if !e.up && s.current.up {
		e.moveOn() // a trial at an endpoint that nobody misses
	}
	s.check(e)
}

// checkPreferred checks the endpoints to which the calls are to return.
func (s *Set) checkPreferred() {
	for _, e := range s.all {
		if e == s.current {
			return
		}
		s.check(e)
	}
}

// check begins to check the health of an endpoint, and goes on for as long as the
// result matters.
func (s *Set) check(e *Endpoint) {
	if e.checked || s.ctx.Err() != nil {
		return
	}
	e.checked = true
	s.done.Go(func() {
		for {
			asked := time.Now()
			alive := e.check(s.ctx, s.checker)
			if !s.checked(e, asked, alive) {
				return
			}
			sleep(s.ctx, checkInterval)
		}
	})
}

// checked notes the result of a health check and reports whether to go on.
func (s *Set) checked(e *Endpoint, asked time.Time, alive bool) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.ctx.Err() != nil || e.gone:
		e.checked = false
		return false
	case e.up && !alive && e.answer.Before(asked):
		e.missed++
		if e.missed >= mostMissed || s.hasOther(e) {
			s.leave(e, now, "it does not answer")
		}
	case e.up && alive:
		e.row, e.missed, e.suspect = 0, 0, false
		s.excuse(e, now)
	case alive:
		e.passes++
	default:
		e.passes = 0
	}
	if s.preferred(e) && e.up && now.Sub(e.good) >= e.hold && now.Sub(s.switched) >= switchInterval {
		s.prefer(e)
	}
	if e.up && !e.silent.IsZero() {
		s.listen(e, silenceLimit) // the alarm that led to the check went off
	}
	e.checked = !e.up || e.missed > 0 || s.preferred(e)
	return e.checked
}

// excuse begins the silence of an endpoint anew: it lives, and only its calls take
// long. Its idle connections may still be dead.
func (s *Set) excuse(e *Endpoint, now time.Time) {
	if e.silent.IsZero() || now.Sub(e.silent) < silenceLimit {
		return
	}
	e.Client.CloseIdleConnections()
	e.silent = time.Time{}
	if e.pending > 0 {
		e.silent = now
	}
}

// hasOther reports whether calls could go elsewhere.
func (s *Set) hasOther(e *Endpoint) bool {
	return slices.ContainsFunc(s.all, func(other *Endpoint) bool { return other != e && other.up })
}

// preferred reports whether an endpoint comes before the current one.
func (s *Set) preferred(e *Endpoint) bool {
	for _, other := range s.all {
		if other == s.current {
			return false
		}
		if other == e {
			return true
		}
	}
	return false
}

// sleep waits, unless the context ends first.
func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

package upstream

import (
	"slices"
	"time"
)

// listen sets the alarm for the silence of a host.
func (p *pool) listen(h *host, after time.Duration) {
	if h.alarm == nil {
		h.alarm = time.AfterFunc(after, func() { p.checkSilence(h) })
		return
	}
	h.alarm.Reset(after)
}

// checkSilence suspects a host from which no answer came for too long. That the
// attempts' callers may have gone in the meantime is no excuse.
func (p *pool) checkSilence(h *host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || h.silent.IsZero() {
		return
	}
	if left := silenceLimit - time.Since(h.silent); left > 0 {
		p.listen(h, left)
		return
	}
	h.suspect = h.up
	if !h.up && p.current.up {
		h.moveOn() // a trial on a host that is not missed
	}
	p.watch(h)
}

// watchPreferred watches the hosts to which the calls are to return.
func (p *pool) watchPreferred() {
	for _, h := range p.hosts {
		if h == p.current {
			return
		}
		p.watch(h)
	}
}

// watch probes a host until nobody wants to know more about it.
func (p *pool) watch(h *host) {
	if h.watched || p.ctx.Err() != nil {
		return
	}
	h.watched = true
	p.done.Go(func() {
		for {
			asked := time.Now()
			alive := h.probe(p.ctx, p.prober)
			if !p.probed(h, asked, alive) {
				return
			}
			pause(p.ctx, probeInterval)
		}
	})
}

// probed notes what a probe said, and tells whether to go on.
func (p *pool) probed(h *host, asked time.Time, alive bool) (more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case p.ctx.Err() != nil || h.gone:
		h.watched = false
		return false
	case h.up && !alive && h.answer.Before(asked):
		h.missed++
		if h.missed >= mostMissed || p.hasOther(h) {
			p.leave(h, now, "it does not answer")
		}
	case h.up && alive:
		h.row, h.missed, h.suspect = 0, 0, false
		p.excuse(h, now)
	case alive:
		h.passes++
	default:
		h.passes = 0
	}
	if p.preferred(h) && h.up && now.Sub(h.good) >= h.hold && now.Sub(p.switched) >= switchInterval {
		p.prefer(h)
	}
	if h.up && !h.silent.IsZero() {
		p.listen(h, silenceLimit) // the alarm that led to the probe went off
	}
	h.watched = !h.up || h.missed > 0 || p.preferred(h)
	return h.watched
}

// excuse begins the silence of a host anew: it lives, and only its calls take
// long. Idle connections may be dead all the same.
func (p *pool) excuse(h *host, now time.Time) {
	if h.silent.IsZero() || now.Sub(h.silent) < silenceLimit {
		return
	}
	h.client.CloseIdleConnections()
	h.silent = time.Time{}
	if h.pending > 0 {
		h.silent = now
	}
}

// hasOther tells whether calls could go elsewhere.
func (p *pool) hasOther(h *host) bool {
	return slices.ContainsFunc(p.hosts, func(other *host) bool { return other != h && other.up })
}

// preferred tells whether a host comes before the current one.
func (p *pool) preferred(h *host) bool {
	for _, other := range p.hosts {
		if other == p.current {
			return false
		}
		if other == h {
			return true
		}
	}
	return false
}

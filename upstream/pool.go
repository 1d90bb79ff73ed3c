package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// errMoved ends attempts whose host went silent while another one is in service.
var errMoved = errors.New("the host went silent; others take over")

// A pool holds the endpoints of an app in the order of preference. All calls go
// to one of them, for as long as it is in service.
//
// A host goes out of service when half of its attempts fail, or when it is
// suspect, after some failures in a row or silence, and fails a probe. It comes
// back by a trial attempt, and while another one serves only after it has passed
// a probe. The calls return to a preferred host when it has been in service for a
// while, which doubles each time it does not last: so they do not flap.
type pool struct {
	dial    dialer
	log     *slog.Logger
	metrics *metrics
	prober  *http.Client

	ctx  context.Context //nolint:containedctx // of the probes, which belong to no call
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	hosts    []*host // in order of preference
	current  *host
	switched time.Time // when current last changed
}

func newPool(endpoints []string, dial dialer, m *metrics, log *slog.Logger) (*pool, error) {
	p := &pool{dial: dial, log: log, metrics: m, prober: newHTTPClient(dial)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p, p.set(endpoints)
}

// set makes the endpoints those of the pool. Hosts that stay keep their health.
func (p *pool) set(endpoints []string) error {
	bases := make([]*url.URL, len(endpoints))
	for i, endpoint := range endpoints {
		var err error
		if bases[i], err = baseURL(endpoint); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil
	}
	before := p.hosts
	p.hosts = nil
	for _, base := range bases {
		if slices.ContainsFunc(p.hosts, func(h *host) bool { return h.base == trimBase(base) }) {
			continue // named twice
		}
		i := slices.IndexFunc(before, func(h *host) bool { return h.base == trimBase(base) })
		if i >= 0 {
			p.hosts = append(p.hosts, before[i])
			continue
		}
		h := newHost(base, p.dial)
		if slices.ContainsFunc(slices.Concat(p.hosts, before), func(other *host) bool { return other.name == h.name }) {
			h.name = base.Host + base.Path // its metrics need a name of their own
		}
		p.hosts = append(p.hosts, h)
	}
	for _, h := range before {
		if !slices.Contains(p.hosts, h) {
			h.gone = true
			h.client.CloseIdleConnections()
			p.metrics.forget(h)
		}
	}
	switch {
	case p.current == nil:
		p.current = p.hosts[0]
	case p.current.gone:
		p.elect()
	}
	p.watchPreferred()
	return nil
}

// close ends all probes and closes idle connections.
func (p *pool) close() {
	p.stop()
	p.mu.Lock()
	for _, h := range p.hosts {
		if h.alarm != nil {
			h.alarm.Stop()
		}
		h.client.CloseIdleConnections()
	}
	p.mu.Unlock()
	p.done.Wait()
	p.prober.CloseIdleConnections()
}

// alive tells whether pick would find a host.
func (p *pool) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.up || slices.ContainsFunc(p.hosts, ready)
}

// pick chooses the host of an attempt and notes that it begins: the current one,
// or another if the operation has failed there, or while a probe is to find out
// why it is silent. If none is in service, each gets a trial now and then. So does,
// while another serves, a preferred host that has passed a probe, by attempts that
// can be repeated elsewhere.
func (p *pool) pick(c class, avoid *host) (attempt, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.choose(c, avoid)
	if h == nil {
		return attempt{}, false
	}
	now := time.Now()
	if !h.up {
		h.trial, h.tried = true, now
	}
	h.pending++
	if h.silent.IsZero() || !h.up {
		h.silent = now
		p.listen(h, silenceLimit)
	}
	return attempt{host: h, era: h.era, trial: !h.up}, true
}

func (p *pool) choose(c class, avoid *host) *host {
	for _, h := range p.hosts {
		switch {
		case !p.current.up && ready(h):
			return h
		case !p.current.up:
			continue
		case h == p.current && avoid != h && !h.suspect:
			return h
		case h != p.current && h.up && h != avoid && (avoid == p.current || p.current.suspect):
			return h
		case h.passes > 0 && ready(h) && c > plainWrite && avoid == nil:
			return h
		}
	}
	if !p.current.up {
		return nil
	}
	return p.current
}

// ready tells whether a host that is out of service may be tried.
func ready(h *host) bool {
	since := time.Since(h.tried)
	return !h.up && since >= trialInterval && (!h.trial || since >= trialPatience)
}

// report notes how an attempt ended.
func (p *pool) report(h *host, trial bool, r result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	h.pending--
	if trial {
		h.trial = false
	}
	switch {
	case r == answered:
		h.heard(now)
		if trial && !h.up {
			p.enter(h, now)
		}
	case r == failed && h.up:
		h.row++
		h.recent.add(now, false)
		switch {
		case h.recent.failing():
			p.leave(h, now, "its attempts fail")
		case h.row >= suspiciousRow:
			p.watch(h)
		}
	case r == failed && trial:
		h.passes = 0
	}
}

// enter puts a host into service.
func (p *pool) enter(h *host, now time.Time) {
	h.up, h.good, h.row, h.recent = true, now, 0, tally{}
	p.log.Info("endpoint in service", "endpoint", h.name)
	if !p.current.up {
		p.elect()
	}
}

// leave takes a host out of service.
func (p *pool) leave(h *host, now time.Time, why string) {
	h.up, h.suspect, h.passes, h.missed, h.tried, h.silent = false, false, 0, 0, now, time.Time{}
	h.client.CloseIdleConnections()
	p.log.Warn("endpoint out of service", "endpoint", h.name, "cause", why)
	p.watch(h)
	if h != p.current {
		return
	}
	if now.Sub(h.good) > lastHold {
		h.hold = firstHold
	} else {
		h.hold = min(2*h.hold, lastHold)
	}
	p.elect()
}

// elect makes the first host in service the current one.
func (p *pool) elect() {
	for _, h := range p.hosts {
		if h.up {
			p.prefer(h)
			return
		}
	}
	if p.current.gone {
		p.current = p.hosts[0]
	}
}

func (p *pool) prefer(h *host) {
	if h == p.current {
		return
	}
	p.log.Warn("endpoint switched", "from", p.current.name, "to", h.name)
	p.metrics.switches.Inc()
	before := p.current
	p.current, p.switched = h, time.Now()
	if !before.up {
		before.moveOn()
	}
	p.watchPreferred()
}

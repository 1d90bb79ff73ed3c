// Package failover chooses the endpoint of each attempt. It checks the health of
// endpoints, leaves one that fails or goes silent, returns to it later, and learns
// endpoints from the vendor's discovery service.
package failover

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Config says which endpoints there are and who learns of changes.
type Config struct {
	// Endpoints are base URLs in the order of preference.
	Endpoints []string
	// Discovery are services that are asked for endpoints: URLs, or names of
	// DiscoveryServices. What they name comes before Endpoints.
	Discovery []string
	// AppKey names the app to discovery.
	AppKey string
	// UserAgent names this program and its version to discovery.
	UserAgent string
	// Dial makes connections; TCP if nil.
	Dial Dialer
	// Log takes what operators should know.
	Log *slog.Logger
	// Switched is called when the calls move to another endpoint.
	Switched func()
	// Removed is called when an endpoint is no longer one of the app.
	Removed func(*Endpoint)
}

// Set holds the endpoints of an app. All calls go to one of them, the current one,
// for as long as it is in service.
//
// An endpoint goes out of service when half of its attempts fail, or when it is
// suspect, after some failures in a row or silence, and fails a health check. It
// comes back by a trial attempt, and while another one serves only after it has
// passed a health check. The calls return to a preferred endpoint when it has been
// in service for a while, which doubles each time it does not last. This keeps them
// from flapping.
type Set struct {
	Config

	checker *http.Client

	ctx  context.Context //nolint:containedctx // of the health checks, which belong to no call
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	all      []*Endpoint // in order of preference
	current  *Endpoint
	switched time.Time // when current last changed
}

// Lease is the right to make one attempt at an endpoint.
type Lease struct {
	// Endpoint is where the attempt is made.
	Endpoint *Endpoint
	// Trial reports that the attempt finds out whether the endpoint is back.
	Trial bool
	// Context ends when other endpoints take over.
	Context context.Context //nolint:containedctx // it belongs to no call
}

// Result is what an attempt says about its endpoint.
type Result int

// The results.
const (
	Answered  Result = iota // by the application, whatever the answer
	Failed                  // without an answer, or with that of a gateway
	Abandoned               // says nothing: the caller cut it off, or an idle connection had been closed
)

// New makes a set. Its error says which endpoint is no URL.
func New(cfg Config) (*Set, error) {
	s := &Set{Config: cfg, checker: newHTTPClient(cfg.Dial)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.Replace(cfg.Endpoints); err != nil {
		return nil, err
	}
	return s, s.discover()
}

// discover begins to ask for endpoints, if there is somebody to ask.
func (s *Set) discover() error {
	if len(s.Discovery) == 0 {
		return nil
	}
	d, err := newDiscovery(discoveryConfig{
		services: s.Discovery, appKey: s.AppKey, userAgent: s.UserAgent, dial: s.Dial, log: s.Log,
		update: func(endpoints []string) {
			// The configured ones stay as a reserve: the service may name a single one.
			if err := s.Replace(slices.Concat(endpoints, s.Endpoints)); err != nil {
				s.Log.Warn("discovered endpoints cannot be called", "cause", err)
			}
		},
	})
	if err != nil {
		s.Close()
		return err
	}
	s.done.Go(func() { d.run(s.ctx) })
	return nil
}

// Replace changes the endpoints. Those that stay keep their health.
func (s *Set) Replace(endpoints []string) error {
	bases := make([]*url.URL, len(endpoints))
	for i, endpoint := range endpoints {
		var err error
		if bases[i], err = baseURL(endpoint); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil
	}
	before := s.all
	s.all = nil
	for _, base := range bases {
		s.add(base, before)
	}
	for _, e := range before {
		if !slices.Contains(s.all, e) {
			e.gone = true
			e.Client.CloseIdleConnections()
			s.Removed(e)
		}
	}
	switch {
	case s.current == nil:
		s.current = s.all[0]
	case s.current.gone:
		s.elect()
	}
	s.checkPreferred()
	return nil
}

// add adds the endpoint of a URL, unless it is there already. One of those before
// stays what it is.
func (s *Set) add(base *url.URL, before []*Endpoint) {
	same := func(e *Endpoint) bool { return e.Base == trimBase(base) }
	if slices.ContainsFunc(s.all, same) {
		return
	}
	if i := slices.IndexFunc(before, same); i >= 0 {
		s.all = append(s.all, before[i])
		return
	}
	e := newEndpoint(base, s.Dial)
	if slices.ContainsFunc(slices.Concat(s.all, before), func(other *Endpoint) bool { return other.Name == e.Name }) {
		e.Name = base.Host + base.Path // its metrics need a name of their own
	}
	s.all = append(s.all, e)
}

// Close ends all health checks and closes idle connections.
func (s *Set) Close() {
	s.stop()
	s.mu.Lock()
	for _, e := range s.all {
		if e.alarm != nil {
			e.alarm.Stop()
		}
		e.Client.CloseIdleConnections()
	}
	s.mu.Unlock()
	s.done.Wait()
	s.checker.CloseIdleConnections()
}

// Alive reports whether Pick would find an endpoint.
func (s *Set) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.up || slices.ContainsFunc(s.all, ready)
}

// Pick chooses the endpoint of an attempt and notes that it begins: the current one,
// or another if the call has failed there, or while a health check finds out why it
// is silent. If none is in service, each gets a trial now and then. A preferred
// endpoint that has passed a health check gets a trial too, while another serves, by
// attempts that can be repeated elsewhere.
func (s *Set) Pick(repeatable bool, avoid *Endpoint) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.choose(repeatable, avoid)
	if e == nil {
		return Lease{}, false
	}
	now := time.Now()
	if !e.up {
		e.trial, e.tried = true, now
	}
	e.pending++
	if e.silent.IsZero() || !e.up {
		e.silent = now
		s.listen(e, silenceLimit)
	}
	return Lease{Endpoint: e, Context: e.lease, Trial: !e.up}, true
}

func (s *Set) choose(repeatable bool, avoid *Endpoint) *Endpoint {
	for _, e := range s.all {
		switch {
		case !s.current.up && ready(e):
			return e
		case !s.current.up:
			continue
		case e == s.current && avoid != e && !e.suspect:
			return e
		case e != s.current && e.up && e != avoid && (avoid == s.current || s.current.suspect):
			return e
		case e.passes > 0 && ready(e) && repeatable && avoid == nil:
			return e
		}
	}
	if !s.current.up {
		return nil
	}
	return s.current
}

// ready reports whether an endpoint that is out of service may be tried.
func ready(e *Endpoint) bool {
	since := time.Since(e.tried)
	return !e.up && since >= trialInterval && (!e.trial || since >= trialTimeout)
}

// Report notes how an attempt ended.
func (s *Set) Report(l Lease, r Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, now := l.Endpoint, time.Now()
	e.pending--
	if l.Trial {
		e.trial = false
	}
	switch {
	case r == Answered:
		e.heard(now)
		if l.Trial && !e.up {
			s.enter(e, now)
		}
	case r == Failed && e.up:
		e.row++
		e.recent.add(now, false)
		switch {
		case e.recent.failing():
			s.leave(e, now, "its attempts fail")
		case e.row >= suspiciousRow:
			s.check(e)
		}
	case r == Failed && l.Trial:
		e.passes = 0
	}
}

// enter puts an endpoint into service.
func (s *Set) enter(e *Endpoint, now time.Time) {
	e.up, e.good, e.row, e.recent = true, now, 0, tally{}
	s.Log.Info("endpoint in service", "endpoint", e.Name)
	if !s.current.up {
		s.elect()
	}
}

// leave takes an endpoint out of service.
func (s *Set) leave(e *Endpoint, now time.Time, why string) {
	e.up, e.suspect, e.passes, e.missed, e.tried, e.silent = false, false, 0, 0, now, time.Time{}
	e.Client.CloseIdleConnections()
	s.Log.Warn("endpoint out of service", "endpoint", e.Name, "cause", why)
	s.check(e)
	if e != s.current {
		return
	}
	if now.Sub(e.good) > lastHold {
		e.hold = firstHold
	} else {
		e.hold = min(2*e.hold, lastHold)
	}
	s.elect()
}

// elect makes the first endpoint in service the current one.
func (s *Set) elect() {
	for _, e := range s.all {
		if e.up {
			s.prefer(e)
			return
		}
	}
	if s.current.gone {
		s.current = s.all[0]
	}
}

func (s *Set) prefer(e *Endpoint) {
	if e == s.current {
		return
	}
	s.Log.Warn("endpoint switched", "from", s.current.Name, "to", e.Name)
	s.Switched()
	before := s.current
	s.current, s.switched = e, time.Now()
	if !before.up {
		before.moveOn()
	}
	s.checkPreferred()
}

// State is what can be told of an endpoint.
type State struct {
	Endpoint *Endpoint
	// Up reports whether the endpoint is in service.
	Up bool
	// Current reports whether calls go to the endpoint.
	Current bool
}

// States returns the state of all endpoints in the order of preference.
func (s *Set) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]State, len(s.all))
	for i, e := range s.all {
		states[i] = State{e, e.up, e == s.current}
	}
	return states
}

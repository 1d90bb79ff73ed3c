// Package sandbox is a stateful, in-memory stand-in for the NetEase Yunxin
// server API (the signed REST API under /im/v2/ and /im/v2.1/).
//
// It is an independent witness of the wire: it shares no code with the client
// it is used to test, so a wrong name on one side cannot be wrong on the other
// as well. The README beside this file lists what it emulates and what not.
package sandbox

import (
	"cmp"
	_ "embed"
	"net/http"
	"sync"
	"time"
)

// Credentials of the built-in app.
const (
	AppKey    = "sandbox"
	AppSecret = "sandbox-secret"
)

//go:embed seed.json
var defaultSeed []byte

// Options adjusts a Sandbox. The zero value is ready for use.
type Options struct {
	AppKey, AppSecret string           // default: the constants above
	Now               func() time.Time // default: time.Now
	Seed              []byte           // seed document, see README.md; default: the embedded seed.json
	Rate              int              // calls per second and API before code 416; 0 = no limit
}

// Sandbox is an http.Handler that answers like the upstream. One mutex guards
// everything that changes; a call holds it from its first look at the state to
// its encoded answer, so calls happen one after the other.
type Sandbox struct {
	appKey, appSecret string
	now               func() time.Time
	summary           Summary

	mu     sync.Mutex
	state  *state
	limits limiter
	traces traceMemory
	ledger ledger
	faults map[string]*injection
}

// Summary names what a sandbox was seeded with.
type Summary struct {
	Accounts   []string
	Teams      []int64 // advanced teams
	SuperTeams []int64
	Rooms      []int64 // chat rooms
}

// New returns a sandbox in the state its seed describes. The error says what is
// wrong with the seed.
func New(o Options) (*Sandbox, error) {
	s := &Sandbox{
		appKey:    cmp.Or(o.AppKey, AppKey),
		appSecret: cmp.Or(o.AppSecret, AppSecret),
		now:       o.Now,
		state:     newState(),
		limits:    limiter{rate: o.Rate},
		faults:    map[string]*injection{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	seed := o.Seed
	if seed == nil {
		seed = defaultSeed
	}
	if err := s.state.plant(seed, s.now()); err != nil {
		return nil, err
	}
	s.summary = s.state.summary()
	return s, nil
}

// Summary lists the seeded accounts, teams and chat rooms, sorted.
func (s *Sandbox) Summary() Summary { return s.summary }

// ServeHTTP answers one call.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := sentPath(r.URL)
	if r.Method == http.MethodGet && path == livenessPath {
		return // HTTP 200 is all that a probe looks at
	}
	if r.Method == http.MethodGet && path == allocatePath {
		s.allocate(w, r)
		return
	}
	to, params, found := match(r.Method, path)
	if !found {
		writeAnswer(w, http.StatusNotFound, encode(nil, refuse(codeNotFound)))
		return
	}
	if bad := s.checkSignature(r.Header); bad != nil {
		writeAnswer(w, http.StatusOK, encode(nil, bad))
		return
	}
	in, bad := readInput(w, r, params)
	if bad != nil {
		writeAnswer(w, http.StatusOK, encode(nil, bad))
		return
	}
	s.serve(w, r, &incoming{route: to, input: in, path: path, trace: r.Header.Get("X-custom-traceid")})
}

// incoming is a signed call on its way through the sandbox.
type incoming struct {
	route *route
	input *input
	path  string // as sent, still percent-encoded
	trace string
}

// serve runs a call past the rate limit and the injected faults.
func (s *Sandbox) serve(w http.ResponseWriter, r *http.Request, in *incoming) {
	injected, bad := s.admit(in)
	if !pause(r.Context(), injected.Latency) {
		return // the caller went away before anything was done
	}
	if bad == nil && injected.Kind == FaultRefuse {
		bad = refuse(cmp.Or(injected.Code, codeRateLimited))
	}
	switch {
	case bad != nil:
		s.record(in, injected.Kind, bad.code)
		writeAnswer(w, http.StatusOK, encode(nil, bad))
	case injected.Kind == FaultReset:
		s.record(in, injected.Kind, 0)
		drop()
	case injected.Kind == FaultBadGateway:
		s.record(in, injected.Kind, http.StatusBadGateway)
		http.Error(w, "502 Bad Gateway", http.StatusBadGateway)
	default:
		answer := s.execute(in, injected.Kind)
		if injected.Kind == FaultLostAnswer {
			drop()
		}
		writeAnswer(w, http.StatusOK, answer)
	}
}

// admit counts the call against the rate limit and draws its fault.
func (s *Sandbox) admit(in *incoming) (Fault, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bad := s.limits.take(in.route.operation, s.now()); bad != nil {
		return Fault{}, bad
	}
	return s.draw(in.route.String()), nil
}

// execute runs the operation, or repeats the answer that the same trace id got
// before, and returns the encoded envelope.
func (s *Sandbox) execute(in *incoming, injected FaultKind) []byte {
	run, bad := in.route.handle(in.input)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.tick(s.now())
	entry := newEntry(in, now, injected)
	defer func() { s.ledger.add(entry) }()

	key := in.traceKey()
	if answer, repeated := s.traces.find(key, now); repeated {
		entry.Code, entry.Repeated = codeOK, true
		return answer
	}
	var data any
	if bad == nil {
		data, bad = run(&call{state: s.state, now: now, v21: in.route.v21})
	}
	answer := encode(data, bad)
	if bad != nil {
		entry.Code = bad.code
		return answer
	}
	entry.Code, entry.Committed = codeOK, in.route.is(write)
	s.traces.keep(key, answer, now)
	return answer
}

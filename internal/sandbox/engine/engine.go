// Package engine is the part of the sandbox that knows no domain: it checks
// signatures, finds operations, decodes requests strictly, writes envelopes,
// injects faults, keeps a ledger, limits rates and repeats answers by trace id.
// The domains give it their operations.
package engine

import (
	"cmp"
	"net/http"
	"sync"
	"time"
)

// Config says what an engine serves. C is what the operations work on.
type Config[C any] struct {
	AppKey, AppSecret string
	Clock             *Clock
	Rate              int // calls per second and operation before code 416; 0 = no limit
	Operations        []Operation[C]
	// Begin makes what an operation works on. The engine holds its lock until the
	// answer of the call is encoded.
	Begin func(Call) C
}

// Call is one call as an operation sees it.
type Call struct {
	Now time.Time
	V21 bool // the call came in under /im/v2.1/
}

// Millis returns the time of the call as the wire has it.
func (c Call) Millis() int64 { return c.Now.UnixMilli() }

// Engine is an http.Handler that answers like the upstream. One mutex guards
// everything that changes, so calls are executed one after the other.
type Engine[C any] struct {
	appKey, appSecret string
	routes            []*route[C]
	begin             func(Call) C

	mu     sync.Mutex
	clock  *Clock
	limits rateLimiter[C]
	traces traceMemory
	ledger ledger
	faults map[string]*injection
}

// New returns an engine.
func New[C any](cfg Config[C]) *Engine[C] {
	return &Engine[C]{
		appKey: cfg.AppKey, appSecret: cfg.AppSecret,
		routes: expand(cfg.Operations), begin: cfg.Begin,
		clock: cfg.Clock, limits: rateLimiter[C]{rate: cfg.Rate}, faults: map[string]*injection{},
	}
}

// ServeHTTP answers one call.
func (e *Engine[C]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := sentPath(r.URL)
	if r.Method == http.MethodGet && path == livenessPath {
		return // HTTP 200 is all that a health check looks at
	}
	if r.Method == http.MethodGet && path == allocatePath {
		e.allocate(w, r)
		return
	}
	to, params, found := e.match(r.Method, path)
	if !found {
		writeAnswer(w, http.StatusNotFound, encode(nil, CodeNotFound.Refuse()))
		return
	}
	if bad := e.checkSignature(r.Header); bad != nil {
		writeAnswer(w, http.StatusOK, encode(nil, bad))
		return
	}
	in, bad := readInput(w, r, params)
	if bad != nil {
		writeAnswer(w, http.StatusOK, encode(nil, bad))
		return
	}
	e.serve(w, r, &incoming[C]{route: to, input: in, path: path, trace: r.Header.Get("X-custom-traceid")})
}

// incoming is a signed call on its way through the engine.
type incoming[C any] struct {
	route *route[C]
	input *input
	path  string // as sent, still percent-encoded
	trace string
}

// serve runs a call past the rate limit and the injected faults.
func (e *Engine[C]) serve(w http.ResponseWriter, r *http.Request, in *incoming[C]) {
	injected, bad := e.admit(in)
	if !pause(r.Context(), injected.Latency) {
		return // the caller went away before anything was done
	}
	if bad == nil && injected.Kind == FaultRefuse {
		bad = cmp.Or(injected.Code, CodeRateLimited).Refuse()
	}
	switch {
	case bad != nil:
		e.record(in, injected.Kind, bad.Code.Number)
		writeAnswer(w, http.StatusOK, encode(nil, bad))
	case injected.Kind == FaultReset:
		e.record(in, injected.Kind, 0)
		drop()
	case injected.Kind == FaultBadGateway:
		e.record(in, injected.Kind, http.StatusBadGateway)
		http.Error(w, "502 Bad Gateway", http.StatusBadGateway)
	default:
		answer := e.execute(in, injected.Kind)
		if injected.Kind == FaultLostAnswer {
			drop()
		}
		writeAnswer(w, http.StatusOK, answer)
	}
}

// admit counts the call against the rate limit and draws its fault.
func (e *Engine[C]) admit(in *incoming[C]) (Fault, *Refusal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if bad := e.limits.take(in.route.operation, e.clock.Now()); bad != nil {
		return Fault{}, bad
	}
	return e.draw(in.route.String()), nil
}

// execute runs the operation, or repeats the answer that the same trace id got
// before, and returns the encoded envelope.
func (e *Engine[C]) execute(in *incoming[C], injected FaultKind) []byte {
	run, bad := in.route.operation.handle(in.input)

	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.clock.Advance(e.clock.Now())
	entry := in.entry(now, injected)
	defer func() { e.ledger.add(entry) }()

	key := in.traceKey()
	if answer, repeated := e.traces.find(key, now); repeated {
		entry.Code, entry.Repeated = CodeOK.Number, true
		return answer
	}
	var data any
	if bad == nil {
		data, bad = run(e.begin(Call{Now: now, V21: in.route.v21}))
	}
	answer := encode(data, bad)
	if bad != nil {
		entry.Code = bad.Code.Number
		return answer
	}
	entry.Code, entry.Committed = CodeOK.Number, in.route.operation.write
	e.traces.keep(key, answer, now)
	return answer
}

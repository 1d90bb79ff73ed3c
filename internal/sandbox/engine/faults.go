package engine

import (
	"context"
	"net/http"
	"time"
)

// FaultKind says how an injected failure looks to the client.
type FaultKind int

// The failures that can be injected.
const (
	FaultNone       FaultKind = iota // nothing but the latency
	FaultReset                       // connection cut, nothing executed
	FaultLostAnswer                  // executed, then the connection is cut
	FaultBadGateway                  // HTTP 502 without an envelope, nothing executed
	FaultRefuse                      // envelope with Fault.Code, nothing executed
)

// Fault is a failure to inject.
type Fault struct {
	Route   string        // as in Routes; empty = every route that has no fault of its own
	Kind    FaultKind     // what happens
	Code    Code          // for FaultRefuse; default CodeRateLimited
	Latency time.Duration // waited, on the real clock, before anything else
	Every   int           // hits every n-th call; 0 and 1 = each
	Times   int           // hits so many calls, then is gone; 0 = until cleared
}

// injection is a fault and how often it has been drawn.
type injection struct {
	Fault
	calls, hits int
}

// SetFault injects f, in place of an earlier fault of the same route.
func (e *Engine[C]) SetFault(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults[f.Route] = &injection{Fault: f}
}

// ClearFaults removes all faults.
func (e *Engine[C]) ClearFaults() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.faults)
}

// draw returns the fault that hits this call, or the zero Fault.
func (e *Engine[C]) draw(route string) Fault {
	key := route
	if e.faults[key] == nil {
		key = ""
	}
	i := e.faults[key]
	if i == nil {
		return Fault{}
	}
	i.calls++
	if i.Every > 1 && i.calls%i.Every != 0 {
		return Fault{}
	}
	i.hits++
	if i.Times > 0 && i.hits >= i.Times {
		delete(e.faults, key)
	}
	return i.Fault
}

// pause waits for d and reports whether the caller is still there.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// drop cuts the connection without an answer, by the way net/http provides for
// it: the server recognises this panic value and closes the connection.
func drop() { panic(http.ErrAbortHandler) }

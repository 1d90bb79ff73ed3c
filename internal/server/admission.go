package server

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// admission keeps the calls in progress to a number, over both doors. Those
// beyond it are refused at once: a queue would only make every call late.
type admission struct {
	most  int64
	calls atomic.Int64

	// Health checks and reflection do not take the place of calls. Their streams may
	// last as long as their connections do.
	infrastructure *admission
}

func newAdmission(most int) *admission {
	return &admission{
		most:           int64(most),
		infrastructure: &admission{most: int64(room(most))},
	}
}

// of returns what counts the calls of a method.
func (a *admission) of(method string) *admission {
	if isInfrastructure(method) {
		return a.infrastructure
	}
	return a
}

func (a *admission) interceptor() interceptor {
	return around(func(ctx context.Context, method string) (context.Context, func(), error) {
		a := a.of(method)
		if !a.enter() {
			return ctx, nil, a.refuse()
		}
		return ctx, func() { a.calls.Add(-1) }, nil
	})
}

// early refuses calls that would be refused later, before their message is read.
// It counts nothing: a call that never arrives is none in progress.
func (a *admission) early() interceptor {
	return before(func(ctx context.Context, method string) (context.Context, error) {
		if a := a.of(method); a.full() {
			return ctx, a.refuse()
		}
		return ctx, nil
	})
}

// enter counts a call, unless there are too many. Those refused only read.
func (a *admission) enter() bool {
	for {
		n := a.calls.Load()
		if n >= a.most {
			return false
		}
		if a.calls.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// full tells whether a call that came now would be refused.
func (a *admission) full() bool { return a.calls.Load() >= a.most }

func (a *admission) refuse() error {
	return apierror.New(imv1.ErrorReason_ERROR_REASON_OVERLOADED, "%d calls are in progress, more are not taken", a.most)
}

// shed refuses REST calls that the gRPC server would refuse, before their bodies
// are read. The server has the last word: it counts, and this only looks.
func (g *gateway) shed(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		if g.admission.full() {
			g.refuseUnread(w, r, g.admission.refuse())
			return
		}
		next(w, r, path)
	}
}

// room is the number of connections that a door takes, and that of streams on
// one connection of gRPC: far more than calls are served at a time, because a
// call beyond that must arrive to be refused. It would else wait for its turn in
// the library of its client, or to be accepted, and no limit of ours reaches it
// there.
//
// All REST calls share one connection to gRPC, and have no deadline before they
// get there. They never wait for a stream: an HTTP connection carries one call
// at a time, and there are no more connections than streams.
func room(maxInFlight int) int { return max(2*maxInFlight, leastRoom) }

const leastRoom = 1024

package server

import (
	"sync/atomic"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// admission limits the calls in progress over both doors. It refuses further ones at once: a
// queue would make every call late.
type admission struct {
	most  int64
	calls atomic.Int64

	// Health checks and reflection, whose streams may last as long as their connections,
	// have a limit of their own.
	infrastructure *admission
}

func newAdmission(most int) *admission {
	return &admission{
		most:           int64(most),
		infrastructure: &admission{most: int64(room(most))},
	}
}

// of returns what counts a call.
func (a *admission) of(info *callinfo.Info) *admission {
	if !info.IsAPI() {
		return a.infrastructure
	}
	return a
}

// look refuses calls that enter would refuse. It counts nothing: a call whose message
// never arrives is not in progress.
func (a *admission) look() error {
	if a.calls.Load() >= a.most {
		return a.refuse()
	}
	return nil
}

// enter counts a call, and reports whether it may go on.
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

// leave ends a call that enter has counted.
func (a *admission) leave() { a.calls.Add(-1) }

func (a *admission) refuse() error {
	return apierror.New(imv1.ErrorReason_ERROR_REASON_OVERLOADED, "%d calls are in progress, more are not taken", a.most)
}

// room is the number of connections that a door takes, and of streams on one connection
// of gRPC: far more than calls are served at a time. A call beyond that must arrive to be
// refused. Otherwise it would wait in the library of its client, or to be accepted, where
// no limit of ours reaches it.
func room(maxInFlight int) int { return max(2*maxInFlight, leastRoom) }

const leastRoom = 1024

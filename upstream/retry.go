package upstream

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// Limits of repeating.
const (
	maxAttempts  = 4
	firstCeiling = 400 * time.Millisecond // of the wait before the second attempt
	lastCeiling  = 2 * time.Second
	budgetShare  = 0.1 // further attempts for each call
	budgetMost   = 10  // of them that may be saved up
)

// next reports whether a call is tried again after its nth attempt, and after which
// wait: none if an idle connection was closed on us, otherwise a random one below a
// ceiling that doubles (full jitter), because calls that fail in one instant must not
// come back in one. A call that was not admitted is not tried again.
func (c *Conn) next(ctx context.Context, n int, a attempt, e *apierror.Error) (time.Duration, bool) {
	// Repeating is no answer to a rate limit.
	if e.RetryAfter() == 0 || e.Code == codes.ResourceExhausted || a.endpoint() == nil || ctx.Err() != nil {
		return 0, false
	}
	if n == 1 && a.stale() {
		return 0, c.budget.take()
	}
	if n >= c.attempts {
		return 0, false
	}
	if a.moved {
		return 0, true // to an endpoint that is in service
	}
	wait := c.table.Jitter(min(firstCeiling<<(n-1), lastCeiling))
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return 0, false
	}
	return wait, c.budget.take()
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// budget keeps further attempts to a share of all calls: repeating helps against
// single failures, and makes it worse if everything fails.
type budget struct {
	mu    sync.Mutex
	saved float64
}

func newBudget() *budget { return &budget{saved: budgetMost} }

// earn notes a call.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(b.saved+budgetShare, budgetMost)
}

// take spends a further attempt, if there is one.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.saved < 1 {
		return false
	}
	b.saved--
	return true
}

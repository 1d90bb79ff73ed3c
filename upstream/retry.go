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
	budgetShare  = 0.1 // further attempts for each operation
	budgetMost   = 10  // of them that may be saved up
)

// next tells whether an operation is tried again after its nth attempt, and
// after which wait: at once if an idle connection was closed on us, else at
// some time under a ceiling that doubles, so that calls that fail in one
// instant do not come back in one. What was not let out is not tried again.
func (c *Conn) next(ctx context.Context, n int, a attempt, e *apierror.Error) (time.Duration, bool) {
	// Repeating is no answer to a rate limit.
	if e.RetryAfter() == 0 || e.Code == codes.ResourceExhausted || a.host == nil || ctx.Err() != nil {
		return 0, false
	}
	if n == 1 && a.stale() {
		return 0, c.budget.take()
	}
	if n >= c.attempts {
		return 0, false
	}
	if a.moved {
		return 0, true // to a host that is in service
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

// A budget keeps further attempts to a share of all operations: repeating helps
// against single failures, and makes it worse if everything fails.
type budget struct {
	mu    sync.Mutex
	saved float64
}

func newBudget() *budget { return &budget{saved: budgetMost} }

// earn notes an operation.
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

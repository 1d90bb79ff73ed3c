package quota

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestShares checks that a caller with a share gets no more than that, while
// nobody else is there, and that the others are not kept from the rest.
func TestShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(perSecond(100), singleClass)
		admitted := func(caller string, share float64, calls int) (n int) {
			for range calls {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				retryAfter, err := q.Wait(ctx, Caller{caller, share})
				cancel()
				switch {
				case err == nil:
					q.Accepted()
					n++
				case !errors.Is(err, ErrExceeded) || retryAfter <= 0:
					t.Errorf("%v, retry after %v", err, retryAfter)
				}
				<-time.After(5 * time.Millisecond)
			}
			return n
		}
		if n := admitted("small", 0.2, 200); n < 18 || n > 22 {
			t.Errorf("a fifth: %d of 100 calls in a second", n)
		}
		<-time.After(10 * time.Second)
		if n := admitted("all", 1, 200); n < 95 || n > 105 {
			t.Errorf("all: %d of 100 calls in a second", n)
		}
		<-time.After(10 * time.Second)
		if n := admitted("small", 0.4, 200); n < 37 || n > 43 {
			t.Errorf("a new share: %d of 100 calls in a second", n)
		}
		if len(q.shares.own) != 1 {
			t.Errorf("%d shares are kept", len(q.shares.own))
		}
	})
}

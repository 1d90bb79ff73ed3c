package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// TestSharesStayAlone tells that a read of a caller who has to wait for its own
// share of the quota does not make others wait.
func TestSharesStayAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, answer(http.StatusOK, `{"code":200}`), limited(10), func(cfg *Config) { cfg.ShareReads = true })
		small := WithCallInfo(t.Context(), CallInfo{Caller: "small", QuotaShare: 0.1})
		if _, err := c.call(small, readThing); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		group.Go(func() { _, _ = c.call(small, readThing) })
		synctest.Wait()
		begin := time.Now()
		if _, err := c.call(WithCallInfo(t.Context(), CallInfo{Caller: "other"}), readThing); err != nil || time.Since(begin) > 200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		group.Wait()
	})
}

// TestHastyCaller tells that nobody who shares a read is refused because whoever
// began it had no time to wait.
func TestHastyCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, answer(http.StatusOK, `{"code":200}`), func(cfg *Config) { cfg.ShareReads = true })
		slots := c.pool.current.slots
		slots.limit = 1
		if err := slots.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(500*time.Millisecond, func() { slots.release(c.endpoints[readThing], 0, false) })
		var group sync.WaitGroup
		group.Go(func() {
			if e := c.fail(lasting(t, 400*time.Millisecond), t, readThing); e.Reason != apierror.Overloaded {
				t.Errorf("%v", e)
			}
		})
		synctest.Wait()
		if _, err := c.call(lasting(t, 2*time.Second), readThing); err != nil {
			t.Error(err)
		}
		group.Wait()
	})
}

// TestShares tells that a caller with a share gets no more than that, while
// nobody else is there, and that the others are not kept from the rest.
func TestShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQuota(Rate{100, time.Second}, upstreamv1.QuotaClass_QUOTA_CLASS_UNSPECIFIED)
		admitted := func(caller string, share float64, calls int) (n int) {
			for range calls {
				ctx, cancel := context.WithTimeout(WithCallInfo(t.Context(), CallInfo{Caller: caller, QuotaShare: share}), time.Millisecond)
				retryAfter, err := q.admit(ctx)
				cancel()
				switch {
				case err == nil:
					q.accepted()
					n++
				case !errors.Is(err, errQuotaExceeded) || retryAfter <= 0:
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

package upstream

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// TestSharesStayAlone checks that a read of a caller who has to wait for its own
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

// TestHastyCaller checks that nobody who shares a read is refused because whoever
// began it had no time to wait.
func TestHastyCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, answer(http.StatusOK, `{"code":200}`), func(cfg *Config) { cfg.ShareReads = true })
		permits := c.single(t)
		time.AfterFunc(500*time.Millisecond, func() { permits.Release(readThing, 0, false) })
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

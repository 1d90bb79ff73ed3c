package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/quota"
)

// limited is a configuration with few calls per second.
func limited(calls int) func(*Config) {
	return func(cfg *Config) {
		cfg.Quotas = quota.Config{Rates: map[string]quota.Rate{"single": {Calls: calls, Per: time.Second}}}
	}
}

// TestQuotaExceeded checks that a call beyond the quota is not sent, and when it
// may come again.
func TestQuotaExceeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		c := newPipeClient(t, failing(&seen, 0, nil), limited(1))
		c.attempts = maxAttempts
		call := func() *apierror.Error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.call(ctx, writeThing)
			e, _ := errors.AsType[*apierror.Error](err)
			return e
		}
		if e := call(); e != nil {
			t.Fatal(e)
		}
		e := call()
		if e == nil || e.Reason != apierror.QuotaExceeded || e.RetryAfter() < 900*time.Millisecond || e.RetryAfter() > 1100*time.Millisecond {
			t.Fatalf("%v, retry after %v", e, e.RetryAfter())
		}
		if n := counted(t, c.metrics.refusals.WithLabelValues("test.Things/Write", apierror.QuotaExceeded)); n != 1 {
			t.Errorf("%v refusals counted", n)
		}
		<-time.After(e.RetryAfter())
		if e := call(); e != nil {
			t.Error(e)
		}
		if len(seen.all()) != 2 {
			t.Errorf("%d requests", len(seen.all()))
		}
	})
}

// TestRateLimitPauses checks that a rate limit of the upstream keeps the calls of
// that operation away from it, and no others.
func TestRateLimitPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		c := newPipeClient(t, failing(&seen, 1, answer(http.StatusOK, `{"code":416}`)))
		c.attempts = maxAttempts
		if e := c.fail(t.Context(), t, writeThing); e.UpstreamCode != apierror.CodeRateLimit || e.RetryAfter() != time.Second {
			t.Fatalf("%v, retry after %v", e, e.RetryAfter())
		}
		if _, err := c.call(t.Context(), setThing); err != nil {
			t.Errorf("another operation: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if e := c.fail(ctx, t, writeThing); e.Reason != apierror.QuotaExceeded || e.RetryAfter() != time.Second {
			t.Errorf("%v, retry after %v", e, e.RetryAfter())
		}
		begin := time.Now()
		if _, err := c.call(t.Context(), writeThing); err != nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if len(seen.all()) != 3 {
			t.Errorf("%d requests", len(seen.all()))
		}
	})
}

// TestUnused checks that a call which was let in, but could not be made, does not use
// up the quota.
func TestUnused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, answer(http.StatusOK, `{"code":200}`), func(cfg *Config) {
			cfg.Quotas = quota.Config{Rates: map[string]quota.Rate{"single": {Calls: 1, Per: time.Hour}}}
		})
		permits := c.single(t)
		for range 3 {
			if e := c.fail(lasting(t, 100*time.Millisecond), t, readThing); e.Reason != apierror.Overloaded {
				t.Errorf("%v", e)
			}
		}
		permits.Release(readThing, 0, false)
		if _, err := c.call(t.Context(), readThing); err != nil {
			t.Error(err)
		}
	})
}

// TestStillUnsure checks that no later answer hides an earlier attempt which may have
// been executed, but for one that tells of it.
func TestStillUnsure(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"code":416}`: apierror.OutcomeUnknown, `{"code":404}`: apierror.OutcomeUnknown, `{"code":403}`: apierror.OutcomeUnknown,
		`{"code":449}`: "SHAKY", `{"code":999}`: apierror.OutcomeUnknown, `{"code":431}`: "THERE",
	} {
		for _, method := range []string{writeThing, setThing} {
			synctest.Test(t, func(t *testing.T) {
				var seen recorder
				c := newPipeClient(t, func(w http.ResponseWriter, r *http.Request) {
					if seen.note(r.Header) == 1 {
						cut(w)
						return
					}
					answer(http.StatusOK, body)(w, r)
				})
				c.attempts = maxAttempts
				e := c.fail(WithCallInfo(t.Context(), CallInfo{IdempotencyKey: "k"}), t, method)
				if e.Reason != want || e.UpstreamCode == 0 || want == apierror.OutcomeUnknown && (e.RetryAfter() == 0 || e.Code != codes.Unknown) {
					t.Errorf("%s: %v, code %v, upstream code %d, retry after %v", body, e, e.Code, e.UpstreamCode, e.RetryAfter())
				}
			})
		}
	}
}

// TestUnsureOfRefusal checks that a refusal of our own does not hide an earlier
// attempt that may have been executed.
func TestUnsureOfRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		c := newPipeClient(t, failing(&seen, 9, func(w http.ResponseWriter, _ *http.Request) { cut(w) }), func(cfg *Config) {
			cfg.Quotas = quota.Config{Rates: map[string]quota.Rate{"single": {Calls: 1, Per: time.Hour}}}
		})
		c.attempts = maxAttempts
		if e := c.fail(WithCallInfo(t.Context(), CallInfo{IdempotencyKey: "k"}), t, writeThing); e.Reason != apierror.OutcomeUnknown || metadataOf(e)["repeat"] == "" {
			t.Errorf("%v", e)
		}
		if len(seen.all()) != 1 {
			t.Errorf("%d requests", len(seen.all()))
		}
	})
}

// TestTooManyAttempts checks that calls beyond what the upstream can carry are refused,
// and not sent.
func TestTooManyAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newPipeClient(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-release
			answer(http.StatusOK, `{"code":200}`)(w, r)
		})
		c.attempts = maxAttempts
		var group sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for range 1000 {
			group.Go(func() {
				_, err := c.call(t.Context(), writeThing)
				e, _ := errors.AsType[*apierror.Error](err)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case e == nil:
				case e.Reason == apierror.Overloaded && e.RetryAfter() > 0:
					refused++
				default:
					t.Error(e)
				}
			})
		}
		synctest.Wait()
		limit, inProgress, waiting := c.limiterOf(c.endpoint()).State()
		if inProgress != limit || inProgress+waiting+refused != 1000 || refused < 500 {
			t.Errorf("limit %d, %d in progress, %d waiting, %d refused", limit, inProgress, waiting, refused)
		}
		close(release)
		group.Wait()
	})
}

// TestSharedReads checks that identical reads are one call of the upstream, unless
// a write lies between them, and that errors name the call of the reader.
func TestSharedReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		c := newPipeClient(t, func(w http.ResponseWriter, r *http.Request) {
			seen.note(r.Header)
			<-time.After(time.Second)
			if r.Method == http.MethodGet {
				answer(http.StatusOK, `{"code":404}`)(w, r)
				return
			}
			answer(http.StatusOK, `{"code":200}`)(w, r)
		}, func(cfg *Config) { cfg.ShareReads = true })
		var group sync.WaitGroup
		read := func(id string) {
			group.Go(func() {
				e := c.fail(WithCallInfo(t.Context(), CallInfo{TraceID: id}), t, readThing)
				if e.Reason != "GONE" || e.TraceID != id {
					t.Errorf("%s: %v of %s", id, e, e.TraceID)
				}
			})
		}
		read("a")
		read("b")
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		group.Go(func() {
			if e := c.fail(ctx, t, readThing); e.Reason != apierror.Cancelled {
				t.Errorf("%v", e)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if n := len(seen.all()); n != 1 {
			t.Errorf("%d requests for three reads", n)
		}
		group.Go(func() {
			if _, err := c.call(t.Context(), writeThing); err != nil {
				t.Error(err)
			}
			read("c")
		})
		group.Wait()
		if n := len(seen.all()); n != 3 {
			t.Errorf("%d requests", n)
		}
		if n := counted(t, c.metrics.shared); n != 1 {
			t.Errorf("%v shared reads counted", n)
		}
	})
}

// TestMetrics checks that attempts are counted by how they ended, and that all
// metrics keep to the rules of Prometheus.
func TestMetrics(t *testing.T) {
	t.Parallel()
	var seen recorder
	c := newClient(t, newServer(t, failing(&seen, 3, func(w http.ResponseWriter, _ *http.Request) {
		[]http.HandlerFunc{
			func(w http.ResponseWriter, _ *http.Request) { cut(w) },
			answer(http.StatusOK, `{"code":404}`),
			answer(http.StatusOK, `{"code":416}`),
		}[len(seen.all())-1](w, nil)
	})).URL)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{writeThing, writeThing, writeThing, setThing} {
		_, _ = c.call(t.Context(), method)
	}
	name := c.endpoints.States()[0].Endpoint.Name
	want := `
		# HELP yunxin_facade_upstream_attempts_total HTTP exchanges with the upstream: ok, refused by its application, rate_limited, failed without its answer, or abandoned by the caller.
		# TYPE yunxin_facade_upstream_attempts_total counter
		yunxin_facade_upstream_attempts_total{endpoint="` + name + `",method="test.Things/Set",outcome="ok"} 1
		yunxin_facade_upstream_attempts_total{endpoint="` + name + `",method="test.Things/Write",outcome="failed"} 1
		yunxin_facade_upstream_attempts_total{endpoint="` + name + `",method="test.Things/Write",outcome="rate_limited"} 1
		yunxin_facade_upstream_attempts_total{endpoint="` + name + `",method="test.Things/Write",outcome="refused"} 1
		# HELP yunxin_facade_upstream_endpoint_up Whether the endpoint is in service.
		# TYPE yunxin_facade_upstream_endpoint_up gauge
		yunxin_facade_upstream_endpoint_up{endpoint="` + name + `"} 1
	`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "yunxin_facade_upstream_attempts_total", "yunxin_facade_upstream_endpoint_up"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

package upstream

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/codec"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// failing answers its first calls by fail, and those after with success.
func failing(seen *recorder, times int, fail http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if seen.note(r.Header) <= times {
			fail(w, r)
			return
		}
		answer(http.StatusOK, `{"code":200,"data":{"id":"done"}}`)(w, r)
	}
}

func persistent(t testing.TB, endpoint string) client {
	t.Helper()
	c := newClient(t, endpoint)
	c.attempts = maxAttempts
	return c
}

// TestRepeats tells what is repeated by class, and that all attempts are one
// operation to the upstream.
func TestRepeats(t *testing.T) {
	t.Parallel()
	lost := func(w http.ResponseWriter, _ *http.Request) { cut(w) }
	everyone := []string{readThing, setThing, writeThing, removeThing}
	for name, tt := range map[string]struct {
		fail    http.HandlerFunc
		key     string
		repeats []string
	}{
		"answer lost":              {lost, "", []string{readThing, setThing}},
		"answer lost, with a key":  {lost, "k", everyone},
		"bad gateway":              {answer(502, "<html>"), "", []string{readThing, setThing}},
		"bad gateway, with a key":  {answer(502, "<html>"), "k", everyone},
		"may be done":              {answer(200, `{"code":449}`), "", []string{readThing, setThing}},
		"may be done, with a key":  {answer(200, `{"code":449}`), "k", everyone},
		"refused":                  {answer(200, `{"code":404}`), "k", nil},
		"rate limit":               {answer(200, `{"code":416}`), "k", nil},
		"no envelope":              {answer(200, `hello`), "k", nil},
		"refused without envelope": {answer(400, `hello`), "k", nil},
	} {
		for _, method := range everyone {
			t.Run(name+method, func(t *testing.T) {
				t.Parallel()
				var seen recorder
				c := persistent(t, newServer(t, failing(&seen, 2, tt.fail)).URL)
				ctx := WithCallInfo(t.Context(), CallInfo{TraceID: "given"})
				if tt.key != "" {
					ctx = WithCallInfo(ctx, CallInfo{IdempotencyKey: tt.key})
				}
				_, err := c.call(ctx, method)
				want := 1
				if slices.Contains(tt.repeats, method) {
					want = 3
				}
				if (err == nil) != (want == 3) || len(seen.all()) != want {
					t.Fatalf("%d requests, error %v, want %d", len(seen.all()), err, want)
				}
				for _, header := range seen.all() {
					if header.Get("X-Custom-Traceid") != seen.all()[0].Get("X-Custom-Traceid") {
						t.Error("an attempt has a trace id of its own")
					}
				}
			})
		}
	}
}

// TestUnreachableIsRepeated checks that what was not sent is sent again, whatever
// it is.
func TestUnreachableIsRepeated(t *testing.T) {
	t.Parallel()
	c := persistent(t, "http://127.0.0.1:1")
	c.attempts = 2
	c.budget.saved = 1
	if e := c.fail(t.Context(), t, writeThing); e.Reason != apierror.Unreachable {
		t.Errorf("%s", e.Reason)
	}
	if c.budget.take() {
		t.Error("the second attempt was not made")
	}
}

// TestUnsureStaysUnsure checks that an attempt that sent nothing does not hide an
// earlier one that may have been executed.
func TestUnsureStaysUnsure(t *testing.T) {
	t.Parallel()
	var seen recorder
	server := newServer(t, nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.note(r.Header)
		_ = server.Listener.Close() // nobody else gets in
		cut(w)
	})
	c := persistent(t, server.URL)
	for method, want := range map[string]string{writeThing: apierror.OutcomeUnknown} {
		e := c.fail(WithCallInfo(t.Context(), CallInfo{IdempotencyKey: "k"}), t, method)
		if e.Reason != want || e.RetryAfter() == 0 || metadataOf(e)["repeat"] == "" {
			t.Errorf("%s: %s, repeat after %v, %v", method, e.Reason, e.RetryAfter(), metadataOf(e))
		}
	}
	if len(seen.all()) != 1 {
		t.Errorf("%d requests", len(seen.all()))
	}
}

// TestKeys checks that a key and a request make an operation.
func TestKeys(t *testing.T) {
	t.Parallel()
	var seen recorder
	c := newClient(t, newServer(t, failing(&seen, 0, nil)).URL)
	for _, key := range []string{"k", "k", "l"} {
		if _, err := c.call(WithCallInfo(t.Context(), CallInfo{IdempotencyKey: key}), writeThing); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.call(WithCallInfo(t.Context(), CallInfo{IdempotencyKey: "k"}), removeThing); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, header := range seen.all() {
		ids = append(ids, header.Get("X-Custom-Traceid"))
	}
	if ids[0] != ids[1] || ids[0] == ids[2] || ids[0] == ids[3] {
		t.Errorf("trace ids %q", ids)
	}
}

// TestBudget checks that repeating stays a share of all operations when
// everything fails.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := newBudget()
	const operations = 10_000
	repeats := 0
	for range operations {
		b.earn()
		for b.take() {
			repeats++
		}
	}
	if repeats < operations/11 || repeats > operations/10+budgetMost {
		t.Errorf("%d repeats of %d operations", repeats, operations)
	}
}

// TestWaits tells how long an operation waits for its next attempt.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := persistent(t, "http://upstream.test")
		c.table = schematest.Must(apierror.TableOf(schematest.New(t, things).Enums().ByName("Reason"))) // with jitter
		again := func(ctx context.Context, n int) (time.Duration, bool) {
			c.budget.saved = budgetMost
			return c.next(ctx, n, attempt{lease: failover.Lease{Endpoint: c.endpoint()}}, c.complete(c.table.Error(apierror.Unavailable, ""), call{class: codec.Read}, attempt{}))
		}
		const calls, slot = 1000, 10 * time.Millisecond
		slots := make(map[int64]int)
		for range calls {
			wait, ok := again(t.Context(), 1)
			if !ok || wait >= firstCeiling {
				t.Fatalf("wait %v, again: %t", wait, ok)
			}
			slots[int64(wait/slot)]++
		}
		for s, n := range slots {
			if most := 3 * calls * int(slot) / int(firstCeiling); n > most {
				t.Errorf("%d of %d calls come back in slot %d of %v", n, calls, s, slot)
			}
		}
		for n := 1; n < maxAttempts; n++ {
			if wait, ok := again(t.Context(), n); !ok || wait >= min(firstCeiling<<(n-1), lastCeiling) {
				t.Errorf("after attempt %d: wait %v, again: %t", n, wait, ok)
			}
		}
		if _, ok := again(t.Context(), maxAttempts); ok {
			t.Error("one attempt too many")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		if wait, ok := again(ctx, 3); ok && wait > 0 {
			t.Errorf("waits %v with %v to go", wait, time.Nanosecond)
		}
	})
}

// TestStaleCosts checks that a repetition at once comes out of the budget as well:
// an upstream that resets all connections is no reason for twice the attempts.
func TestStaleCosts(t *testing.T) {
	t.Parallel()
	var seen recorder
	c := persistent(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if seen.note(r.Header)%2 == 0 { // on the connection of the call before
			cut(w)
			return
		}
		answer(http.StatusOK, `{"code":200}`)(w, r)
	}).URL)
	c.attempts, c.budget.saved = 1, 0
	if _, err := c.call(t.Context(), readThing); err != nil {
		t.Fatal(err)
	}
	c.budget.saved = 0
	if e := c.fail(t.Context(), t, readThing); e.Reason != apierror.Unavailable || len(seen.all()) != 2 {
		t.Errorf("%s after %d requests", e.Reason, len(seen.all()))
	}
}

package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// gate is a service whose calls wait until they are let go.
type gate struct {
	handlers

	entered, release chan struct{}
}

func newGate() *gate {
	g := &gate{entered: make(chan struct{}), release: make(chan struct{})}
	g.get = func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		select {
		case g.entered <- struct{}{}:
		case <-ctx.Done():
		}
		select {
		case <-g.release:
		case <-ctx.Done():
		}
		return echo(ctx, req)
	}
	return g
}

// fill makes n calls, over the doors in turn, and returns when all are in
// progress. What it returns waits for their ends, once they are let go.
func (g *gate) fill(t *testing.T, r *running, n int, doors ...string) (wait func()) {
	t.Helper()
	var ended sync.WaitGroup
	for i := range n {
		ended.Go(func() {
			if doors[i%len(doors)] == callinfo.REST {
				if a := r.do(t, http.MethodGet, aliceBob, http.NoBody); a.StatusCode != http.StatusOK {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
			} else if _, err := r.get(t.Context(), "a|1|b"); err != nil {
				t.Error(err)
			}
		})
	}
	for range n {
		<-g.entered
	}
	return ended.Wait
}

// refused makes a call over each door that must be refused at once.
func (r *running) refused(t *testing.T) {
	t.Helper()
	header, err := r.get(t.Context(), "a|1|b")
	reason, id := reasonOf(t, err)
	info, retry := detail[*errdetails.RetryInfo](status.Convert(err))
	if reason != "OVERLOADED" || status.Code(err) != codes.Unavailable || id != header || !retry || info.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("%v, reason %s, %v", err, reason, info)
	}
	a := r.do(t, http.MethodGet, aliceBob, http.NoBody)
	a.failure(t, http.StatusServiceUnavailable, "OVERLOADED")
	if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
}

func TestOverload(t *testing.T) {
	g := newGate()
	r := start(t, g.api(), "--max-in-flight=2")
	wait := g.fill(t, r, 2, callinfo.GRPC, callinfo.REST)
	r.refused(t)
	stream, err := imv1.NewConversationServiceClient(r.conn).StreamConversations(t.Context(), &imv1.ListConversationsRequest{AccountId: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	// What is wrong with a call is of no interest now.
	r.do(t, http.MethodGet, "/v1/conversations?bogus=1", http.NoBody).failure(t, http.StatusServiceUnavailable, "OVERLOADED")
	if _, err := grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	if n := r.chain.admission.calls.Load(); n != 2 {
		t.Errorf("%d calls in progress", n)
	}
	close(g.release)
	wait()
	g.fill(t, r, 2, callinfo.GRPC, callinfo.REST)()
	if n := r.chain.admission.calls.Load(); n != 0 {
		t.Errorf("%d calls in progress, when all have ended", n)
	}
}

// More calls than the library has streams for by itself, and than any test here
// has connections: those of one connection are refused, and wait for none.
func TestOverloadOfOneConnection(t *testing.T) {
	const most = 600
	for _, door := range []string{callinfo.GRPC, callinfo.REST} {
		t.Run(door, func(t *testing.T) {
			g := newGate()
			r := start(t, g.api(), "--max-in-flight=600", "--default-timeout=1h", "--max-timeout=1h")
			wait := g.fill(t, r, most, door)
			r.refused(t)
			close(g.release)
			wait()
		})
	}
}

// Nobody waits for the body of a call that will be refused.
func TestOverloadBeforeTheBody(t *testing.T) {
	g := newGate()
	r := start(t, g.api(), "--max-in-flight=1", "--max-timeout=1h")
	wait := g.fill(t, r, 1, callinfo.GRPC)
	body, never := io.Pipe()
	defer never.Close() //nolint:errcheck // cannot fail
	giveUp := time.AfterFunc(time.Minute, func() { _ = never.CloseWithError(errors.New("no answer")) })
	defer giveUp.Stop()
	r.do(t, http.MethodPost, aliceBob+"/messages", body).failure(t, http.StatusServiceUnavailable, "OVERLOADED")
	close(g.release)
	wait()
}

func TestRoom(t *testing.T) {
	for _, calls := range []int{1, 511, 512, 1024, 100_000} {
		if got := room(calls); got < 1024 || got < 2*calls {
			t.Errorf("room for %d calls: %d", calls, got)
		}
	}
}

func TestAdmissionCountsExactly(t *testing.T) {
	const most, callers = 8, 64
	a := newAdmission(most)
	var inside, highest atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range 200 {
				if !a.enter() {
					continue
				}
				for n := inside.Add(1); ; {
					seen := highest.Load()
					if seen >= n || highest.CompareAndSwap(seen, n) {
						break
					}
				}
				inside.Add(-1)
				a.leave()
			}
		})
	}
	all.Wait()
	if n := highest.Load(); n > most || n == 0 {
		t.Errorf("%d calls at a time", n)
	}
	if n := a.calls.Load(); n != 0 {
		t.Errorf("%d calls in progress", n)
	}
}

// Calls that panic are over, of either kind.
func TestAdmissionAfterPanics(t *testing.T) {
	c := newTestChain(t, slog.New(slog.DiscardHandler))
	_ = c.call(t.Context(), func() error { panic("kaboom") })
	_ = c.stream("/yunxin.im.v1.X/Y", func(any, grpc.ServerStream) error { panic("kaboom") })(nil, &stream{ctx: t.Context()})
	if n := c.admission.calls.Load(); n != 0 {
		t.Errorf("%d calls in progress", n)
	}
}

// A thousand refusals are one line a second, and the line says so.
func TestRefusalsAreLoggedSparsely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c := newTestChain(t, log)
		refuse := func(reason string, times int) {
			for range times {
				_ = c.call(t.Context(), func() error {
					return apierror.New(imv1.ErrorReason(imv1.ErrorReason_value["ERROR_REASON_"+reason]), "no")
				})
			}
		}
		details := 0
		lines := func(reason string, want ...string) {
			t.Helper()
			var found []string
			for line := range strings.Lines(logged.String()) {
				if strings.Contains(line, reason) && !strings.Contains(line, "DEBUG") {
					found = append(found, line)
				}
			}
			details += strings.Count(logged.String(), `"level":"DEBUG"`)
			logged.Reset()
			if len(found) != len(want) {
				t.Fatalf("%d lines, want %d: %v", len(found), len(want), found)
			}
			for i := range want {
				if !strings.Contains(found[i], want[i]) || strings.Contains(found[i], "others") != strings.Contains(want[i], "others") {
					t.Errorf("line %d: %s, want %s", i, found[i], want[i])
				}
			}
		}
		refuse("OVERLOADED", 1000)
		lines("OVERLOADED", `"level":"WARN"`)
		refuse("OVERLOADED", 1000)
		lines("OVERLOADED")
		refuse("QUOTA_EXCEEDED", 10)
		lines("QUOTA_EXCEEDED", `"level":"INFO"`)
		refuse("UPSTREAM_UNREACHABLE", 3)
		lines("UPSTREAM_UNREACHABLE", "WARN", "WARN", "WARN")
		advance(time.Second)
		refuse("OVERLOADED", 2)
		lines("OVERLOADED", `"others_since_last":1999`)
		advance(time.Minute)
		refuse("OVERLOADED", 1)
		lines("OVERLOADED", `"others_since_last":1`)
		advance(time.Minute)
		refuse("OVERLOADED", 1)
		lines("OVERLOADED", "WARN")
		if details != 999+1000+9+1 {
			t.Errorf("%d lines for those who debug", details)
		}
	})
}

// advance is for tests in synthetic time.
func advance(d time.Duration) { <-time.After(d) }

func BenchmarkAdmission(b *testing.B) {
	for name, most := range map[string]int{"admitted": 1 << 30, "refused": 0} {
		a := newAdmission(most)
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if a.enter() {
						a.leave()
					}
				}
			})
		})
	}
}

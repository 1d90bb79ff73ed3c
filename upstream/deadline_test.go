package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// A pipes is a network in memory: it keeps to the fake clock of synctest.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// newPipeClient starts an upstream in memory, and a client of it.
func newPipeClient(t *testing.T, handler http.HandlerFunc, more ...func(*Config)) client {
	t.Helper()
	network := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: alive(handler)}
	var group sync.WaitGroup
	group.Go(func() { _ = server.Serve(network) })
	t.Cleanup(func() { _ = server.Close(); group.Wait() })
	more = append(more, func(cfg *Config) { cfg.Dial = network.dial })
	return newClient(t, "http://upstream", more...)
}

// stall answers the first request, and the others with the beginning of an
// answer at most.
func stall(seen *recorder, begin string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if seen.note(r.Header) == 1 {
			answer(http.StatusOK, `{"code":200}`)(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client is gone
		if begin != "" {
			_, _ = io.WriteString(w, begin)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}
}

// TestCallerGone tells what a caller hears whose patience ended while the
// upstream was at work.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		method string
		cancel bool
		reason string
		code   codes.Code
		again  bool
	}{
		{"deadline, read", readThing, false, apierror.DeadlineExceeded, codes.DeadlineExceeded, false},
		{"deadline, idempotent", setThing, false, apierror.OutcomeUnknown, codes.DeadlineExceeded, true},
		{"deadline, write", writeThing, false, apierror.OutcomeUnknown, codes.DeadlineExceeded, false},
		{"cancel, read", readThing, true, apierror.Cancelled, codes.Canceled, false},
		{"cancel, idempotent", setThing, true, apierror.OutcomeUnknown, codes.Canceled, true},
		{"cancel, write", writeThing, true, apierror.OutcomeUnknown, codes.Canceled, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen recorder
				c := newPipeClient(t, stall(&seen, ""))
				if _, err := c.call(t.Context(), readThing); err != nil { // leaves a connection in the pool
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if tt.cancel {
					ctx, cancel = context.WithCancel(t.Context())
					time.AfterFunc(5*time.Second, cancel)
				}
				defer cancel()
				start := time.Now()
				e := c.fail(ctx, t, tt.method)
				if e.Reason != tt.reason || e.Code != tt.code || e.RetryAfter() > 0 != tt.again {
					t.Errorf("%s %s, retry after %s", e.Reason, e.Code, e.RetryAfter())
				}
				if took := time.Since(start); took != 5*time.Second || len(seen.all()) != 2 {
					t.Errorf("%d requests in %s", len(seen.all()), took)
				}
			})
		})
	}
}

// TestCallerGoneBefore checks that nothing is unknown if nothing was sent.
func TestCallerGoneBefore(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"before the call": func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 0) },
		"while dialling": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, method := range []string{readThing, setThing, writeThing} {
					c := newClient(t, "http://upstream", func(cfg *Config) { cfg.Dial = dialNothing })
					ctx, cancel := prepare(WithCallInfo(t.Context(), CallInfo{TraceID: "trace"}))
					e := c.fail(ctx, t, method)
					cancel()
					if e.Reason != apierror.DeadlineExceeded || e.Code != codes.DeadlineExceeded || e.RetryAfter() != 0 || e.TraceID != "trace" {
						t.Errorf("%s: %s %s, retry after %s, trace id %q", method, e.Reason, e.Code, e.RetryAfter(), e.TraceID)
					}
					ctx, cancel = prepare(t.Context())
					cancel()
					if e := c.fail(ctx, t, method); name == "while dialling" && (e.Reason != apierror.Cancelled || e.Code != codes.Canceled) {
						t.Errorf("%s: %s %s", method, e.Reason, e.Code)
					}
				}
			})
		})
	}
}

// dialNothing is a network on which nobody answers.
func dialNothing(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestAttemptTimeOut checks that an attempt ends also if the caller has no
// deadline, and that a call that had its time is not made again.
func TestAttemptTimeOut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, begin string
		want        time.Duration
	}{
		{"no answer", "", (15 * time.Second)},
		{"half an answer", `{"code":200,`, (20 * time.Second)},
	}
	for _, tt := range tests {
		for method, reason := range map[string]string{
			readThing: apierror.Unavailable, setThing: apierror.Unavailable, writeThing: apierror.OutcomeUnknown,
		} {
			t.Run(tt.name+method, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var seen recorder
					c := newPipeClient(t, stall(&seen, tt.begin))
					if _, err := c.call(t.Context(), readThing); err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					e := c.fail(t.Context(), t, method)
					if took := time.Since(start); e.Reason != reason || took != tt.want || len(seen.all()) != 2 {
						t.Errorf("%s after %s and %d requests", e.Reason, took, len(seen.all()))
					}
				})
			})
		}
	}
}

// TestDialTimeOut checks that a network on which nobody answers is unreachable.
func TestDialTimeOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, "http://upstream", func(cfg *Config) { cfg.Dial = dialNothing })
		start := time.Now()
		e := c.fail(t.Context(), t, writeThing)
		if took := time.Since(start); e.Reason != apierror.Unreachable || took != 3*time.Second {
			t.Errorf("%s after %s", e.Reason, took)
		}
	})
}

// TestUpgradeNotWaitedFor checks that an answer which makes the connection ours
// does not hold a call for ever.
func TestUpgradeNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newPipeClient(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"))
			<-release
			_ = conn.Close()
		})
		defer close(release)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		e := c.fail(ctx, t, readThing)
		if took := time.Since(start); e.Reason != apierror.HTTPStatus || took != 0 {
			t.Errorf("%s after %s", e.Reason, took)
		}
	})
}

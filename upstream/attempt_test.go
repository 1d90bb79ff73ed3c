package upstream

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// TestRequestOnTheWire tells what an attempt sends, byte by byte.
func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan []string, 1)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			lines, _ := wireRequest(conn)
			requests <- lines
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{\"code\":200}")
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); group.Wait() })

	host := listener.Addr().String()
	c := newClient(t, "http://"+host+"/nimserver/", func(cfg *Config) { cfg.UserAgent = "test/1" })
	common := []string{"Host: " + host, "User-Agent: test/1", "AppKey: key", "CurTime: 1706227200", "X-custom-traceid: trace", "Accept-Encoding: gzip"}
	for _, tt := range []struct {
		method, first, body string
		more                []string
	}{
		{readThing, "GET /nimserver/im/v2/things/a HTTP/1.1", "", nil},
		{removeThing, "DELETE /nimserver/im/v2/things/a HTTP/1.1", "", nil},
		{setThing, "PUT /nimserver/im/v2/things/a HTTP/1.1", `{"text":"t"}`, []string{"Content-Type: application/json;charset=utf-8", "Content-Length: 12"}},
		{writeThing, "POST /nimserver/im/v2/things/a HTTP/1.1", `{"text":"t"}`, []string{"Content-Type: application/json;charset=utf-8", "Content-Length: 12"}},
	} {
		if _, err := c.call(WithCallInfo(t.Context(), CallInfo{TraceID: "trace"}), tt.method); err != nil {
			t.Fatal(err)
		}
		got := <-requests
		if got[0] != tt.first || got[len(got)-1] != tt.body {
			t.Errorf("%s: %q", tt.method, got)
		}
		want := slices.Concat(tt.more, common)
		var nonce, sum string
		for _, line := range got[1 : len(got)-1] {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "Nonce":
				nonce = value
			case "CheckSum":
				sum = value
			default:
				if !slices.Contains(want, line) {
					t.Errorf("%s: unexpected %q", tt.method, line)
				}
			}
		}
		if len(got) != len(want)+4 {
			t.Errorf("%s: %d lines of %q, want %q", tt.method, len(got), got, want)
		}
		digest := sha1.Sum([]byte(testSecret + nonce + "1706227200"))
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(nonce) || sum != hex.EncodeToString(digest[:]) {
			t.Errorf("%s: nonce %q, checksum %q", tt.method, nonce, sum)
		}
	}
	// A body method without members has neither body nor type.
	request := c.Empty("Request")
	schematest.Set(request, "id", "a")
	if err := c.Invoke(t.Context(), writeThing, request, c.Empty("Reply")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(<-requests, "\n"); strings.Contains(got, "Content-Type") || !strings.Contains(got, "Content-Length: 0") {
		t.Errorf("POST without a body: %s", got)
	}
}

// wireRequest reads a request: its first line, the lines of its header as they
// came, its body.
func wireRequest(conn io.Reader) ([]string, error) {
	r := textproto.NewReader(bufio.NewReader(conn))
	var lines []string
	length := 0
	for {
		line, err := r.ReadLine()
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		lines = append(lines, line)
		if line == "Content-Length: 12" {
			length = 12
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r.R, body)
	return append(lines, string(body)), err
}

// A recorder is an upstream that notes the headers of what it is asked.
type recorder struct {
	mu      sync.Mutex
	headers []http.Header
}

// note returns how many requests there have been, this one among them.
func (r *recorder) note(h http.Header) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, h.Clone())
	return len(r.headers)
}

// all returns the headers of all requests so far.
func (r *recorder) all() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.headers)
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.Close()
}

// TestTraceIDs checks that an operation has one trace id, and no two share one.
func TestTraceIDs(t *testing.T) {
	t.Parallel()
	var seen recorder
	c := newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
		seen.note(r.Header)
		answer(http.StatusOK, `{"code":404}`)(w, r)
	}).URL)
	ctx := WithCallInfo(t.Context(), CallInfo{TraceID: "given"})
	if CallInfoOf(ctx).TraceID != "given" || CallInfoOf(t.Context()).TraceID != "" {
		t.Errorf("trace ids %q, %q", CallInfoOf(ctx).TraceID, CallInfoOf(t.Context()).TraceID)
	}
	var ids []string
	for _, ctx := range []context.Context{ctx, ctx, context.WithValue(ctx, client{}, nil), t.Context()} {
		e := c.fail(ctx, t, readThing)
		id := seen.all()[len(ids)].Get("X-Custom-Traceid")
		if e.UpstreamTraceID != id || e.TraceID != cmp.Or(CallInfoOf(ctx).TraceID, id) {
			t.Errorf("error has trace ids %q and %q, request %q", e.TraceID, e.UpstreamTraceID, id)
		}
		if slices.Contains(ids, id) {
			t.Errorf("trace id %q used twice", id)
		}
		ids = append(ids, id)
	}
	if ids[0] != "given" || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(ids[1]) {
		t.Errorf("trace ids %q", ids)
	}
}

// TestStaleConnection checks that what may be repeated outlives a connection that the upstream
// has closed, and that nothing else is sent twice.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method   string
		lost     int // answers lost, after a first call that went well
		requests int
		reason   string
	}{
		{readThing, 1, 3, ""},
		{readThing, 2, 3, apierror.Unavailable},
		{setThing, 1, 3, ""},
		{writeThing, 1, 2, apierror.OutcomeUnknown},
		{removeThing, 1, 2, apierror.OutcomeUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			var seen recorder
			c := newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if n := seen.note(r.Header); n > 1 && n <= 1+tt.lost {
					cut(w)
					return
				}
				answer(http.StatusOK, `{"code":200}`)(w, r)
			}).URL)
			if _, err := c.call(t.Context(), readThing); err != nil {
				t.Fatal(err)
			}
			_, err := c.call(t.Context(), tt.method)
			e, _ := errors.AsType[*apierror.Error](err)
			if tt.reason == "" && err != nil || tt.reason != "" && (e == nil || e.Reason != tt.reason) {
				t.Errorf("error %v, want %q", err, tt.reason)
			}
			if len(seen.all()) != tt.requests {
				t.Fatalf("%d requests, want %d", len(seen.all()), tt.requests)
			}
			if tt.requests == 3 {
				first, second := seen.all()[1], seen.all()[2]
				if first.Get("Nonce") == second.Get("Nonce") || first.Get("CheckSum") == second.Get("CheckSum") {
					t.Error("the second attempt has the first one's signature")
				}
				if first.Get("X-Custom-Traceid") != second.Get("X-Custom-Traceid") {
					t.Error("the second attempt has a trace id of its own")
				}
			}
		})
	}
}

// TestTwoStaleConnections checks that a read is tried twice, whatever comes.
func TestTwoStaleConnections(t *testing.T) {
	t.Parallel()
	var seen recorder
	both := make(chan struct{})
	c := newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
		n := seen.note(r.Header)
		if n > 2 {
			cut(w)
			return
		}
		if n == 2 {
			close(both)
		}
		<-both // so that the two need a connection each
		answer(http.StatusOK, `{"code":200}`)(w, r)
	}).URL)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if _, err := c.call(t.Context(), readThing); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if e := c.fail(t.Context(), t, readThing); e.Reason != apierror.Unavailable {
		t.Errorf("%s", e.Reason)
	}
	if n := len(seen.all()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

// TestFreshConnectionLost checks that an answer lost on a new connection is not
// asked for again.
func TestFreshConnectionLost(t *testing.T) {
	t.Parallel()
	for method, reason := range map[string]string{
		readThing: apierror.Unavailable, setThing: apierror.Unavailable, writeThing: apierror.OutcomeUnknown, removeThing: apierror.OutcomeUnknown,
	} {
		var seen recorder
		c := newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
			seen.note(r.Header)
			cut(w)
		}).URL)
		e := c.fail(t.Context(), t, method)
		if e.Reason != reason || len(seen.all()) != 1 {
			t.Errorf("%s: %s after %d requests", method, e.Reason, len(seen.all()))
		}
	}
}

// TestHalfAnswer checks that an answer that breaks off is lost.
func TestHalfAnswer(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte(`{"code":200}`))
	}).URL)
	if e := c.fail(t.Context(), t, readThing); e.Reason != apierror.Unavailable {
		t.Errorf("read: %s", e.Reason)
	}
	if e := c.fail(t.Context(), t, writeThing); e.Reason != apierror.OutcomeUnknown {
		t.Errorf("write: %s", e.Reason)
	}
}

// TestUnreachable checks that a call that was not sent may be repeated.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, endpoint := range map[string]string{
		"refused": closed.URL, "no such host": "http://host.invalid", "untrusted": secure.URL, "not TLS": strings.Replace(newServer(t, nil).URL, "http", "https", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, endpoint, func(cfg *Config) {
				if name == "no such host" {
					cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
						return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
					}
				}
			})
			for _, method := range []string{readThing, setThing, writeThing, removeThing} {
				e := c.fail(t.Context(), t, method)
				if e.Reason != apierror.Unreachable || e.Code != codes.Unavailable || e.RetryAfter() == 0 {
					t.Errorf("%s: %s %s, retry after %s", method, e.Reason, e.Code, e.RetryAfter())
				}
				if e.Unwrap() == nil || strings.Contains(e.GRPCStatus().Message(), e.Unwrap().Error()) {
					t.Errorf("%s: cause %v, message %q", method, e.Unwrap(), e.GRPCStatus().Message())
				}
			}
		})
	}
}

// TestHTTP2 checks that nothing depends on the version of HTTP.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	var seen recorder
	c := newHTTP2Client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("HTTP version %s", r.Proto)
		}
		switch n := seen.note(r.Header); n {
		case 2, 4:
			panic(http.ErrAbortHandler) // resets the stream
		default:
			body, _ := io.ReadAll(r.Body)
			if r.Method == http.MethodGet && len(body) > 0 || r.Method == http.MethodPost && string(body) != `{"text":"t"}` {
				t.Errorf("%s body %q", r.Method, body)
			}
			answer(http.StatusOK, `{"code":200}`)(w, r)
		}
	})
	c.attempts = 2
	if _, err := c.call(t.Context(), writeThing); err != nil { // 1
		t.Fatal(err)
	}
	if _, err := c.call(t.Context(), readThing); err != nil { // 2 is lost, 3
		t.Fatal(err)
	}
	if e := c.fail(t.Context(), t, writeThing); e.Reason != apierror.OutcomeUnknown { // 4 is lost
		t.Errorf("write: %s", e.Reason)
	}
	if n := len(seen.all()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
	h := seen.all()[0]
	digest := sha1.Sum([]byte(testSecret + h.Get("Nonce") + h.Get("Curtime")))
	if h.Get("Appkey") != testKey || h.Get("Checksum") != hex.EncodeToString(digest[:]) || len(h.Get("X-Custom-Traceid")) != 32 {
		t.Errorf("header %v", h)
	}
}

// TestStreamResets checks that a host which resets every stream of its connection
// goes out of service, as one does that closes every connection.
func TestStreamResets(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	c := newHTTP2Client(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		answer(http.StatusOK, `{"code":200}`)(w, r)
	})
	if _, err := c.call(t.Context(), readThing); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	for range 2 * 10 {
		_ = c.fail(t.Context(), t, readThing)
	}
	if c.endpoints.States()[0].Up {
		t.Error("it is in service")
	}
}

func newHTTP2Client(t *testing.T, handler http.HandlerFunc) client {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := newClient(t, server.URL)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	transport, ok := c.endpoint().Client.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("transport %T", c.endpoint().Client.Transport)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	return c
}

// TestManyCalls lets calls run side by side; the race detector watches.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	var seen recorder
	c := newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
		seen.note(r.Header)
		answer(http.StatusOK, `{"code":200,"data":{"id":"x","failed_list":[{"id":"b","code":404}]}}`)(w, r)
	}).URL)
	ctx := WithCallInfo(t.Context(), CallInfo{TraceID: "given"})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for _, method := range []string{readThing, setThing, writeThing, removeThing} {
				if _, err := c.call(ctx, method); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	ids, nonces := make(map[string]bool), make(map[string]bool)
	for _, h := range seen.all() {
		ids[h.Get("X-Custom-Traceid")], nonces[h.Get("Nonce")] = true, true
	}
	if len(ids) != 32 || len(nonces) != 32 || !ids["given"] {
		t.Errorf("%d trace ids, %d nonces", len(ids), len(nonces))
	}
}

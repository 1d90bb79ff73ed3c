package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
	"github.com/yunxin-facade/yunxin-facade/upstream/limiter"
)

// things is an API with an operation of each class.
const things = `
enum Reason
	REASON_UNSPECIFIED = 0
	REASON_INVALID_REQUEST = 1 {[yunxin.upstream.v1.code] {status: INVALID_ARGUMENT}}
	REASON_UPSTREAM_UNREACHABLE = 2 {[yunxin.upstream.v1.code] {status: UNAVAILABLE retry: RETRY_SAFE}}
	REASON_OUTCOME_UNKNOWN = 3 {[yunxin.upstream.v1.code] {status: UNKNOWN retry: RETRY_IDEMPOTENT}}
	REASON_UPSTREAM_UNAVAILABLE = 4 {[yunxin.upstream.v1.code] {status: UNAVAILABLE retry: RETRY_IDEMPOTENT}}
	REASON_UPSTREAM_HTTP_STATUS = 5 {[yunxin.upstream.v1.code] {status: UNKNOWN}}
	REASON_UPSTREAM_REPLY_INVALID = 6 {[yunxin.upstream.v1.code] {status: INTERNAL}}
	REASON_UPSTREAM_REPLY_TOO_LARGE = 7 {[yunxin.upstream.v1.code] {status: INTERNAL}}
	REASON_UPSTREAM_CODE_UNKNOWN = 8 {[yunxin.upstream.v1.code] {status: UNKNOWN}}
	REASON_DEADLINE_EXCEEDED = 9 {[yunxin.upstream.v1.code] {status: DEADLINE_EXCEEDED}}
	REASON_CANCELLED = 10 {[yunxin.upstream.v1.code] {status: CANCELLED}}
	REASON_INTERNAL = 11 {[yunxin.upstream.v1.code] {status: INTERNAL}}
	REASON_QUOTA_EXCEEDED = 17 {[yunxin.upstream.v1.code] {status: RESOURCE_EXHAUSTED retry: RETRY_SAFE}}
	REASON_OVERLOADED = 18 {[yunxin.upstream.v1.code] {status: UNAVAILABLE retry: RETRY_SAFE}}
	REASON_CLOCK_SKEWED = 19 {[yunxin.upstream.v1.code] {status: FAILED_PRECONDITION}}
	REASON_FORBIDDEN = 403 {[yunxin.upstream.v1.code] {status: FAILED_PRECONDITION}}
	REASON_GONE = 404 {[yunxin.upstream.v1.code] {status: NOT_FOUND}}
	REASON_TOO_FAST = 416 {[yunxin.upstream.v1.code] {status: RESOURCE_EXHAUSTED retry: RETRY_SAFE}}
	REASON_THERE = 431 {[yunxin.upstream.v1.code] {status: ALREADY_EXISTS}}
	REASON_SHAKY = 449 {[yunxin.upstream.v1.code] {status: UNAVAILABLE retry: RETRY_IDEMPOTENT}}
message Request
	string id
	optional string text
message Result
	string id
	google.rpc.Status error
message Reply
	string id
	int64 number
	repeated Result results {name: "success_list" failed: "failed_list"}
service Things
	rpc Read(Request) Reply read {get: "/im/v2/things/{id}" v2_1: true}
	rpc Set(Request) Reply idempotent {put: "/im/v2/things/{id}"}
	rpc Write(Request) Reply {post: "/im/v2/things/{id}"}
	rpc Remove(Request) Reply {delete: "/im/v2/things/{id}"}
`

const (
	readThing   = "/test.Things/Read"
	setThing    = "/test.Things/Set"
	writeThing  = "/test.Things/Write"
	removeThing = "/test.Things/Remove"
)

const testKey, testSecret = "key", "secret"

// testNow is the time of all signatures.
var testNow = time.Date(2024, time.January, 26, 0, 0, 0, 999, time.UTC)

func reasons(t testing.TB, s schematest.Schema) protoreflect.EnumDescriptor {
	t.Helper()
	reasons := s.Enums().ByName("Reason")
	table, err := apierror.TableOf(reasons)
	if err != nil {
		t.Fatal(err)
	}
	table.Jitter = func(time.Duration) time.Duration { return 0 } // times are exact
	return reasons
}

// A client calls the methods of things.
type client struct {
	*Conn
	schematest.Schema
}

// newClient makes a client of an upstream; more changes its configuration.
func newClient(t testing.TB, endpoint string, more ...func(*Config)) client {
	t.Helper()
	s := schematest.New(t, things)
	cfg := Config{
		AppKey: testKey, AppSecret: testSecret, Endpoints: []string{endpoint},
		Services: s.ServiceDescriptors(), Reasons: reasons(t, s),
		Now: func() time.Time { return testNow },
		Log: slog.New(slog.DiscardHandler),
	}
	for _, change := range more {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.attempts = 1 // what an attempt comes to; retry_test.go has the others
	return client{c, s}
}

// newServer starts an upstream on loopback.
func newServer(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(alive(handler))
	t.Cleanup(server.Close)
	return server
}

// alive answers probes before a handler sees them.
func alive(handler http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health/liveness.action" {
			handler.ServeHTTP(w, r)
		}
	}
}

// answer is a handler that always answers the same.
func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// call calls a method for the thing "a".
func (c client) call(ctx context.Context, method string) (*dynamicpb.Message, error) {
	request, reply := c.Empty("Request"), c.Empty("Reply")
	schematest.Set(request, "id", "a")
	if method == setThing || method == writeThing {
		schematest.Set(request, "text", "t")
	}
	return reply, c.Invoke(ctx, method, request, reply)
}

// fail calls a method, which must not succeed.
func (c client) fail(ctx context.Context, t testing.TB, method string) *apierror.Error {
	t.Helper()
	reply, err := c.call(ctx, method)
	e, ok := errors.AsType[*apierror.Error](err)
	if !ok {
		t.Fatalf("%s: %v, reply %v, want an *apierror.Error", method, err, reply)
	}
	return e
}

// counted returns the value of a counter.
func counted(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// endpoint returns the preferred endpoint.
func (c client) endpoint() *failover.Endpoint { return c.endpoints.States()[0].Endpoint }

// current returns the name of the endpoint that calls go to.
func (c client) current() string {
	for _, state := range c.endpoints.States() {
		if state.Current {
			return state.Endpoint.Name
		}
	}
	return ""
}

// single gives the preferred endpoint a single permit, and takes it.
func (c client) single(t testing.TB) *limiter.Limiter {
	t.Helper()
	l := limiter.New(1)
	c.limiters.Store(c.endpoint(), l)
	if err := l.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

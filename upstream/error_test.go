package upstream

import (
	"bytes"
	"context"
	"errors"

	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/codec"
	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

func info(reason string, metadata map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason, Domain: "yunxin-facade", Metadata: metadata}
}

func retry(wait time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}
}

// TestStatus tells what a caller sees of every kind of error.
func TestStatus(t *testing.T) {
	t.Parallel()
	const trace = "trace"
	tests := []struct {
		name, method string
		handler      http.HandlerFunc
		message      string
		code         codes.Code
		details      []proto.Message
	}{
		{"code that stays", readThing, answer(200, `{"code":404,"msg":"gone"}`), "gone (upstream code 404)", codes.NotFound,
			[]proto.Message{info("GONE", map[string]string{"upstream_code": "404"})}},
		{"too fast", writeThing, answer(200, `{"code":416}`), "upstream code 416", codes.ResourceExhausted,
			[]proto.Message{info("TOO_FAST", map[string]string{"upstream_code": "416"}), retry(time.Second)}},
		{"shaky read", readThing, answer(200, `{"code":449}`), "upstream code 449", codes.Unavailable,
			[]proto.Message{info("SHAKY", map[string]string{"upstream_code": "449"}), retry(time.Second)}},
		{"shaky idempotent write", setThing, answer(200, `{"code":449}`), "upstream code 449", codes.Unavailable,
			[]proto.Message{info("SHAKY", map[string]string{"upstream_code": "449"}), retry(time.Second)}},
		{"shaky write", writeThing, answer(200, `{"code":449}`), "upstream code 449", codes.Unavailable,
			[]proto.Message{info("SHAKY", map[string]string{"upstream_code": "449"})}},
		{"unknown code", readThing, answer(200, `{"code":-7,"msg":"m"}`), "m (upstream code -7)", codes.Unknown,
			[]proto.Message{info("UPSTREAM_CODE_UNKNOWN", map[string]string{"upstream_code": "-7"})}},
		{"HTTP status with a code", readThing, answer(400, `{"code":404}`), "upstream code 404", codes.NotFound,
			[]proto.Message{info("GONE", map[string]string{"upstream_code": "404", "http_status": "400"})}},
		{"HTTP status", readThing, answer(403, `no`), "the upstream answered HTTP status 403", codes.Unknown,
			[]proto.Message{info("UPSTREAM_HTTP_STATUS", map[string]string{"http_status": "403"})}},
		{"gateway, read", readThing, answer(502, `no`), "the upstream answered HTTP status 502", codes.Unavailable,
			[]proto.Message{info("UPSTREAM_UNAVAILABLE", map[string]string{"http_status": "502"}), retry(time.Second)}},
		{"gateway, write", writeThing, answer(502, `no`), "the upstream answered HTTP status 502; the call may have been executed", codes.Unknown,
			[]proto.Message{info("OUTCOME_UNKNOWN", map[string]string{"http_status": "502"})}},
		{"unreadable", readThing, answer(200, `no`), "the upstream's answer cannot be read: the answer is not a JSON object with a code", codes.Internal,
			[]proto.Message{info("UPSTREAM_REPLY_INVALID", map[string]string{})}},
		{"unfit", readThing, answer(200, `{"code":200,"data":{"number":"x"}}`), "the upstream's answer cannot be read", codes.Internal,
			[]proto.Message{info("UPSTREAM_REPLY_INVALID", map[string]string{})}},
		{"lost, read", readThing, func(w http.ResponseWriter, _ *http.Request) { cut(w) }, "the upstream's answer was lost", codes.Unavailable,
			[]proto.Message{info("UPSTREAM_UNAVAILABLE", map[string]string{}), retry(time.Second)}},
		{"lost, write", writeThing, func(w http.ResponseWriter, _ *http.Request) { cut(w) }, "the upstream's answer was lost; the call may have been executed", codes.Unknown,
			[]proto.Message{info("OUTCOME_UNKNOWN", map[string]string{})}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, newServer(t, tt.handler).URL)
			_, err := c.call(WithCallInfo(t.Context(), CallInfo{TraceID: trace}), tt.method)
			if info, ok := tt.details[0].(*errdetails.ErrorInfo); ok {
				info.Metadata["trace_id"], info.Metadata["endpoint"] = trace, c.endpoints.States()[0].Endpoint.Name
			}
			wantStatus(t, err, tt.code, tt.message, tt.details...)
		})
	}
}

func wantStatus(t *testing.T, err error, code codes.Code, message string, details ...proto.Message) {
	t.Helper()
	want := &statuspb.Status{Code: int32(code), Message: message}
	for _, d := range details {
		want.Details = append(want.Details, schematest.Must(anypb.New(d)))
	}
	if diff := cmp.Diff(want, status.Convert(err).Proto(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// TestStatusOfBadRequest checks that a field that cannot be sent is named, and
// that nothing was sent.
func TestStatusOfBadRequest(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://upstream", func(cfg *Config) { cfg.Dial = dialNothing })
	request := c.Empty("Request")
	schematest.Set(request, "id", "..")
	err := c.Invoke(WithCallInfo(t.Context(), CallInfo{TraceID: "trace"}), writeThing, request, c.Empty("Reply"))
	const rule = `must not be empty, "." or ".."`
	wantStatus(t, err, codes.InvalidArgument, "id "+rule, info("INVALID_REQUEST", map[string]string{"trace_id": "trace"}),
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "id", Description: rule, Reason: "wire"}}})
}

// TestStatusOfItem checks that an item of a batch has the error that a call for
// it alone would have had.
func TestStatusOfItem(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, answer(200, `{"code":200,"data":{"success_list":["a"],"failed_list":[{"id":"b","error_code":416,"error_msg":"slow"},{"id":"c","code":1}]}}`)).URL)
	reply, err := c.call(WithCallInfo(t.Context(), CallInfo{TraceID: "trace"}), readThing)
	if err != nil {
		t.Fatal(err)
	}
	metadata := func(code string) map[string]string {
		return map[string]string{"trace_id": "trace", "endpoint": c.endpoints.States()[0].Endpoint.Name, "upstream_code": code}
	}
	results := reply.Get(reply.Descriptor().Fields().ByName("results")).List()
	if results.Len() != 3 {
		t.Fatalf("%d results", results.Len())
	}
	item := func(i int) error {
		m := results.Get(i).Message()
		s, ok := m.Get(m.Descriptor().Fields().ByName("error")).Message().Interface().(*statuspb.Status)
		if !ok {
			return nil
		}
		return status.ErrorProto(s)
	}
	if err := item(0); err != nil {
		t.Errorf("first item: %v", err)
	}
	wantStatus(t, item(1), codes.ResourceExhausted, "slow (upstream code 416)", info("TOO_FAST", metadata("416")), retry(10*time.Second))
	wantStatus(t, item(2), codes.Unknown, "upstream code 1", info("UPSTREAM_CODE_UNKNOWN", metadata("1")))
}

// TestCauseStaysInside checks that what is behind an error is logged, and does
// not reach a caller.
func TestCauseStaysInside(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	secret := errors.New("dial 10.0.0.7: secret")
	c := newClient(t, "http://upstream", func(cfg *Config) {
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, secret }
	})
	e := c.fail(WithCallInfo(t.Context(), CallInfo{TraceID: "trace"}), t, readThing)
	if !errors.Is(e, secret) || !strings.Contains(e.Error(), "secret") {
		t.Errorf("error %v", e)
	}
	if text := e.GRPCStatus().Proto().String(); strings.Contains(text, "secret") || strings.Contains(text, "10.0.0.7") {
		t.Errorf("status %s", text)
	}
	for _, part := range []string{"secret", readThing, "trace_id=trace", "UPSTREAM_UNREACHABLE"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("log %s, want %s in it", &log, part)
		}
	}
}

// TestOtherMethods tells what is not behind a Conn.
func TestOtherMethods(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://upstream", func(cfg *Config) { cfg.Dial = dialNothing })
	good, reply := c.Empty("Request"), c.Empty("Reply")
	for name, err := range map[string]error{
		"unknown method": c.Invoke(t.Context(), "/test.Things/Nothing", good, reply),
		"no message":     c.Invoke(t.Context(), readThing, "a", reply),
		"no reply":       c.Invoke(t.Context(), readThing, good, nil),
	} {
		if e, ok := errors.AsType[*apierror.Error](err); !ok || e.Reason != apierror.Internal || e.Code != codes.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	stream, err := c.NewStream(t.Context(), nil, readThing)
	if e, ok := errors.AsType[*apierror.Error](err); !ok || stream != nil || e.Reason != apierror.Internal {
		t.Errorf("stream: %v", err)
	}
}

// TestReasons tells what an error table must have.
func TestReasons(t *testing.T) {
	t.Parallel()
	without := func(line string) string {
		var kept []string
		for l := range strings.Lines(things) {
			if !strings.Contains(l, line) {
				kept = append(kept, l)
			}
		}
		return strings.Join(kept, "")
	}
	for _, tt := range []struct{ name, in, want string }{
		{"complete", things, ""},
		{"one missing", without("REASON_INTERNAL "), "test.Reason has no reason INTERNAL"},
		{"another missing", without("REASON_CANCELLED "), "test.Reason has no reason CANCELLED"},
		{"no meaning", strings.Replace(things, "REASON_GONE = 404 {[yunxin.upstream.v1.code] {status: NOT_FOUND}}", "REASON_GONE = 404", 1), "test.REASON_GONE has no gRPC code"},
		{"no status", strings.Replace(things, "{status: NOT_FOUND}", "{retry: RETRY_SAFE}", 1), "test.REASON_GONE has no gRPC code"},
		{"status OK", strings.Replace(things, "{status: NOT_FOUND}", "{status: OK}", 1), "test.REASON_GONE has no gRPC code"},
	} {
		_, err := apierror.TableOf(schematest.New(t, tt.in).Enums().ByName("Reason"))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestNew tells what a Conn cannot be made of.
func TestNew(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, things)
	good := Config{AppKey: "k", AppSecret: "s", Endpoints: []string{"https://host/prefix/"}, Services: s.ServiceDescriptors(), Reasons: reasons(t, s)}
	endpoint := func(e string) func(*Config) { return func(cfg *Config) { cfg.Endpoints = []string{e} } }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"good", func(*Config) {}, ""},
		{"good version", func(cfg *Config) { cfg.APIVersion = codec.V21 }, ""},
		{"bare host", endpoint("http://127.0.0.1:1"), ""},
		{"no key", func(cfg *Config) { cfg.AppKey = "" }, "must both be given"},
		{"no secret", func(cfg *Config) { cfg.AppSecret = "" }, "must both be given"},
		{"key that no header can hold", func(cfg *Config) { cfg.AppKey = "k\n" }, "app key"},
		{"no endpoint", func(cfg *Config) { cfg.Endpoints = nil }, "endpoint"},
		{"no table", func(cfg *Config) { cfg.Reasons = nil }, "error table"},
		{"other version", func(cfg *Config) { cfg.APIVersion = "v3" }, `API version "v3"`},
		{"bad option", func(cfg *Config) {
			cfg.Services = schematest.New(t, schematest.OneMethod("string id", `get: "im"`)).ServiceDescriptors()
		}, "begin with a slash"},
		{"empty endpoint", endpoint(""), "must begin"},
		{"no scheme", endpoint("host:80/x"), "must begin"},
		{"no host", endpoint("https:///x"), "no host"},
		{"opaque", endpoint("https:host"), "no host"},
		{"other scheme", endpoint("ftp://host"), "must begin"},
		{"user", endpoint("https://u:p@host"), "user name"},
		{"query", endpoint("https://host/?a=1"), "query"},
		{"empty query", endpoint("https://host/?"), "query"},
		{"fragment", endpoint("https://host/#a"), "fragment"},
		{"not a URL", endpoint("https://ho st"), "is not a URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tt.change(&cfg)
			c, err := New(cfg)
			switch {
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			case tt.want == "" && err != nil:
				t.Error(err)
			case err == nil && strings.HasSuffix(c.endpoints.States()[0].Endpoint.Base, "/"):
				t.Errorf("base %q", c.endpoints.States()[0].Endpoint.Base)
			}
		})
	}
}

// metadataOf returns what the status of an error says of the call.
func metadataOf(e *apierror.Error) map[string]string {
	for _, d := range e.GRPCStatus().Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()
		}
	}
	return nil
}

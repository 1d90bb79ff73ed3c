package upstream

import (
	"bytes"
	"compress/gzip"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// TestAnswers tells what becomes of an answer.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const html = "<html>from a gateway</html>"
	all := []string{readThing, setThing, writeThing, removeThing}
	safe, plain := all[:2], all[2:]
	tests := []struct {
		name    string
		status  int
		body    string
		methods []string
		reason  string
		code    codes.Code
	}{
		{"gateway trouble, may be repeated", 502, html, safe, apierror.Unavailable, codes.Unavailable},
		{"gateway trouble, may be done", 502, html, plain, apierror.OutcomeUnknown, codes.Unknown},
		{"gateway trouble with a code", 502, `{"code":404,"msg":"gone"}`, all, "GONE", codes.NotFound},
		{"gateway trouble with success", 500, `{"code":200}`, safe, apierror.Unavailable, codes.Unavailable},
		{"refused", 400, html, all, apierror.HTTPStatus, codes.Unknown},
		{"refused with a code", 400, `{"code":404}`, all, "GONE", codes.NotFound},
		{"refused with success", 403, `{"code":200}`, all, apierror.HTTPStatus, codes.Unknown},
		{"no content", 204, ``, all, apierror.HTTPStatus, codes.Unknown},
		{"not modified", 304, ``, all, apierror.HTTPStatus, codes.Unknown},
		{"html", 200, html, all, apierror.ReplyInvalid, codes.Internal},
		{"nothing", 200, ``, all, apierror.ReplyInvalid, codes.Internal},
		{"truncated", 200, `{"code":200,"data":{"id":"a"`, all, apierror.ReplyInvalid, codes.Internal},
		{"more than one value", 200, `{"code":200}{"code":200}`, all, apierror.ReplyInvalid, codes.Internal},
		{"array", 200, `[{"code":200}]`, all, apierror.ReplyInvalid, codes.Internal},
		{"text", 200, `"code"`, all, apierror.ReplyInvalid, codes.Internal},
		{"null", 200, `null`, all, apierror.ReplyInvalid, codes.Internal},
		{"no code", 200, `{"msg":"success","data":{}}`, all, apierror.ReplyInvalid, codes.Internal},
		{"null for a code", 200, `{"code":null}`, all, apierror.ReplyInvalid, codes.Internal},
		{"word for a code", 200, `{"code":"ok"}`, all, apierror.ReplyInvalid, codes.Internal},
		{"huge code", 200, `{"code":99999999999999999999}`, all, apierror.ReplyInvalid, codes.Internal},
		{"data is a list", 200, `{"code":200,"data":[]}`, all, apierror.ReplyInvalid, codes.Internal},
		{"data is a text", 200, `{"code":200,"data":"secret"}`, all, apierror.ReplyInvalid, codes.Internal},
		{"data does not fit", 200, `{"code":200,"data":{"number":"secret"}}`, all, apierror.ReplyInvalid, codes.Internal},
		{"known code", 200, `{"code":404,"msg":"gone","data":{}}`, all, "GONE", codes.NotFound},
		{"known code as text", 200, `{"code":"404"}`, all, "GONE", codes.NotFound},
		{"code that is one of our own", 200, `{"code":11}`, all, apierror.CodeUnknown, codes.Unknown},
		{"unknown code", 200, `{"code":123456}`, all, apierror.CodeUnknown, codes.Unknown},
		{"code zero", 200, `{"code":0}`, all, apierror.CodeUnknown, codes.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, newServer(t, answer(tt.status, tt.body)).URL)
			for _, method := range tt.methods {
				e := c.fail(WithCallInfo(t.Context(), CallInfo{TraceID: "trace"}), t, method)
				if e.Reason != tt.reason || e.Code != tt.code {
					t.Errorf("%s: %s %s, want %s %s", method, e.Reason, e.Code, tt.reason, tt.code)
				}
				if want := tt.status; want != http.StatusOK && e.HTTPStatus != want || want == http.StatusOK && e.HTTPStatus != 0 {
					t.Errorf("%s: HTTP status %d", method, e.HTTPStatus)
				}
				if e.TraceID != "trace" || e.Endpoint != c.endpoints.States()[0].Endpoint.Name {
					t.Errorf("%s: trace id %q, endpoint %q", method, e.TraceID, e.Endpoint)
				}
				if strings.Contains(e.Message, "secret") || strings.Contains(e.Message, "html") {
					t.Errorf("%s: foreign text in %q", method, e.Message)
				}
			}
		})
	}
}

// TestAnswersSucceed tells the forms of success.
func TestAnswersSucceed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"code":200,"msg":"success","data":{"id":"x","number":"5"}}`, `{"data":{"number":5,"id":"x"},"msg":null,"code":"200"}`,
		" {\"code\" :200.0,\"data\\t\":{\"id\":\"x\",\"number\":5,\"new\":[{}]},\"request_id\":1}\n",
	} {
		c := newClient(t, newServer(t, answer(http.StatusOK, body)).URL)
		reply, err := c.call(t.Context(), readThing)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		fields := reply.Descriptor().Fields()
		if id, n := reply.Get(fields.ByName("id")).String(), reply.Get(fields.ByName("number")).Int(); id != "x" || n != 5 {
			t.Errorf("%s: %v", body, reply)
		}
	}
	for _, body := range []string{`{"code":200}`, `{"code":200,"data":null}`, `{"code":200,"data":{}}`, `{"code":200,"data":""}`} {
		c := newClient(t, newServer(t, answer(http.StatusOK, body)).URL)
		if _, err := c.call(t.Context(), writeThing); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestUpstreamText tells how much foreign text reaches a caller.
func TestUpstreamText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, msg, want string }{
		{"none", `""`, "upstream code 404"},
		{"null", `null`, "upstream code 404"},
		{"text", `"not \"here\""`, `not "here" (upstream code 404)`},
		{"no text", `{"a":1}`, `{"a":1} (upstream code 404)`},
		{"long", `"` + strings.Repeat("x", 10<<10) + `"`, strings.Repeat("x", 512) + "... (upstream code 404)"},
		{"long in runes", `"x` + strings.Repeat("中", 10<<10) + `"`, "x" + strings.Repeat("中", 170) + "... (upstream code 404)"},
		{"invalid UTF-8", "\"a\xffb\"", "a\ufffdb (upstream code 404)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, newServer(t, answer(http.StatusOK, `{"code":404,"msg":`+tt.msg+`}`)).URL)
			e := c.fail(t.Context(), t, readThing)
			if e.Message != tt.want || !utf8.ValidString(e.Message) {
				t.Errorf("message %q, want %q", e.Message, tt.want)
			}
			if e.UpstreamCode != 404 {
				t.Errorf("upstream code %d", e.UpstreamCode)
			}
		})
	}
}

// TestReplyTooLarge tells the limit of an answer, which counts what is unpacked.
func TestReplyTooLarge(t *testing.T) {
	t.Parallel()
	full := []byte(`{"code":200,"msg":"` + strings.Repeat("x", maxReplyBytes-22) + `"}`)
	full = append(full, bytes.Repeat([]byte(" "), maxReplyBytes-len(full))...)
	zipped := func(body []byte) http.HandlerFunc {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(body)
		_ = z.Close()
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "gzip" {
				t.Errorf("Accept-Encoding %q", r.Header.Get("Accept-Encoding"))
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(b.Bytes())
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		reason  string
	}{
		{"at the limit", answer(http.StatusOK, string(full)), ""},
		{"above the limit", answer(http.StatusOK, string(full)+" "), apierror.ReplyTooLarge},
		{"above the limit, HTTP error", answer(http.StatusBadGateway, string(full)+" "), apierror.ReplyTooLarge},
		{"packed, at the limit", zipped(full), ""},
		{"packed, above the limit", zipped(append(full, ' ')), apierror.ReplyTooLarge},
		{"packed, far above the limit", zipped(make([]byte, 10*maxReplyBytes)), apierror.ReplyTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, newServer(t, tt.handler).URL)
			if tt.reason == "" {
				if _, err := c.call(t.Context(), readThing); err != nil {
					t.Errorf("%.200s", err)
				}
				return
			}
			for range 2 { // the connection is not left half read
				if e := c.fail(t.Context(), t, readThing); e.Reason != tt.reason || e.RetryAfter() != 0 {
					t.Errorf("%s, retry after %s", e.Reason, e.RetryAfter())
				}
			}
		})
	}
}

// TestBrokenPacking checks that an answer that cannot be unpacked is lost.
func TestBrokenPacking(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte(`{"code":200}`))
	}).URL)
	if e := c.fail(t.Context(), t, readThing); e.Reason != apierror.Unavailable {
		t.Errorf("read: %s", e.Reason)
	}
	if e := c.fail(t.Context(), t, writeThing); e.Reason != apierror.OutcomeUnknown {
		t.Errorf("write: %s", e.Reason)
	}
}

// TestRedirectNotFollowed checks that a signature goes nowhere else.
func TestRedirectNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		elsewhere.Add(1)
		answer(http.StatusOK, `{"code":200}`)(w, r)
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		c := newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, status)
		}).URL)
		for _, method := range []string{readThing, writeThing} {
			if e := c.fail(t.Context(), t, method); e.Reason != apierror.HTTPStatus || e.HTTPStatus != status {
				t.Errorf("%d: %s, HTTP status %d", status, e.Reason, e.HTTPStatus)
			}
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d calls went elsewhere", n)
	}
}

// TestInterimAnswers checks that answers before the answer are passed over.
func TestInterimAnswers(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusProcessing)
		w.WriteHeader(http.StatusEarlyHints)
		answer(http.StatusOK, `{"code":200}`)(w, r)
	}).URL)
	for _, method := range []string{readThing, writeThing} {
		if _, err := c.call(t.Context(), method); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// TestCauseWithoutURL checks that the log of a failed attempt does not have its
// URL: queries hold what people said.
func TestCauseWithoutURL(t *testing.T) {
	t.Parallel()
	for name, endpoint := range map[string]string{
		"lost":        newServer(t, func(w http.ResponseWriter, _ *http.Request) { cut(w) }).URL,
		"unreachable": "http://127.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lines bytes.Buffer
			c := newClient(t, endpoint, func(cfg *Config) {
				cfg.Log = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			request := c.Empty("Request")
			schematest.Set(request, "id", "a")
			schematest.Set(request, "text", "topsecret")
			if err := c.Invoke(t.Context(), readThing, request, c.Empty("Reply")); err == nil || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("%v", err)
			}
			if text := lines.String(); text == "" || strings.Contains(text, "topsecret") {
				t.Errorf("the log says %q", text)
			}
		})
	}
}

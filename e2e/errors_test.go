package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

const (
	readCall  = "ConversationService/GetConversation"
	keepCall  = "ConversationService/UpdateConversation" // the same again does no harm
	writeCall = "MessageService/SendMessage"
	reading   = `{"conversation_id":"alice|1|bob"}`
	keeping   = `{"conversation_id":"alice|1|bob","server_extension":"x"}`
	writing   = `{"conversation_id":"alice|1|bob","message":{"content":{"text":"hi"}}}`
)

// Answers of an upstream that is not well.

func refuse(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"code":%d,"msg":"no","data":{}}`, code)
	}
}

func httpStatus(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func say(body string) http.HandlerFunc { return httpStatus(http.StatusOK, body) }

// hangUp loses the answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// breakOff loses the second half of the answer.
func breakOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"code":200,`)
}

// stall answers nobody.
func stall(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// A failure is a call that must end in the same error on both doors.
type failure struct {
	name         string
	answer       http.HandlerFunc
	rpc, request string
	sent         int // requests that the upstream gets
	want         wantError
}

// hurts reports whether the failure makes the server think ill of the upstream.
func (f *failure) hurts() bool {
	return f.want.RetryAfter > 0 || f.want.Reason == "OUTCOME_UNKNOWN"
}

// check makes the call on both doors, of a server of its own each if the server
// would remember.
func (f *failure) check(t *testing.T, r *rig) {
	t.Helper()
	var both []*outcome
	for _, name := range doorNames {
		if f.hurts() && f.answer != nil {
			r = newRig(t, r.args...)
		}
		r.answerWith(f.answer)
		o := r.call(t, name, f.rpc, f.request)
		// What the caller may repeat at once has been repeated already, as often
		// as the budget for that allowed.
		sent, most := len(r.take()), f.sent
		if f.want.RetryAfter > 0 && f.want.Code != "RESOURCE_EXHAUSTED" {
			most = 4
		}
		if sent < f.sent || sent > most {
			t.Errorf("%s: the upstream got %d requests, want %d to %d", name, sent, f.sent, most)
		}
		if err := f.want.verify(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if text := o.status.Proto().String(); strings.Contains(text, harness.AppSecret) || strings.Contains(text, "goroutine") {
			t.Errorf("%s: says too much: %s", name, text)
		}
		both = append(both, o)
	}
	if err := agree(both[0], both[1]); err != nil {
		t.Error(err)
	}
}

// TestErrors makes calls fail in every way and compares the errors: the same on
// both doors, with the same trace id in header and error.
func TestErrors(t *testing.T) {
	t.Parallel()
	unknown := wantError{Code: "UNKNOWN", Reason: "OUTCOME_UNKNOWN"}
	unavailable := wantError{Code: "UNAVAILABLE", Reason: "UPSTREAM_UNAVAILABLE", RetryAfter: time.Second}
	unreadable := wantError{Code: "INTERNAL", Reason: "UPSTREAM_REPLY_INVALID"}
	for _, f := range []failure{
		{"a rule", nil, readCall, `{"conversation_id":"x"}`, 0, wantError{Code: "INVALID_ARGUMENT", Reason: "INVALID_REQUEST", Fields: []string{"conversation_id"}}},
		{
			"a rule that only the wire knows", nil, writeCall, `{"conversation_id":"a|1|b","message":{"content":{"custom":"nope"}}}`, 0,
			wantError{Code: "INVALID_ARGUMENT", Reason: "INVALID_REQUEST", Fields: []string{"message.content.custom"}},
		},
		{
			"many rules", nil, writeCall, `{"conversation_id":"a","message":{"content":{"text":"","sub_type":-1}}}`, 0,
			wantError{Code: "INVALID_ARGUMENT", Reason: "INVALID_REQUEST", Fields: []string{"conversation_id", "message.content.text", "message.content.sub_type"}},
		},
		{"refused", refuse(102404), writeCall, writing, 1, wantError{Code: "NOT_FOUND", Reason: "ACCOUNT_NOT_FOUND", UpstreamCode: "102404"}},
		{"refused, by a code of the future", refuse(199999), readCall, reading, 1, wantError{Code: "UNKNOWN", Reason: "UPSTREAM_CODE_UNKNOWN", UpstreamCode: "199999"}},
		{"refused, by a number that no int32 holds", say(`{"code":9007199254740993,"msg":""}`), readCall, reading, 1, wantError{Code: "UNKNOWN", Reason: "UPSTREAM_CODE_UNKNOWN", UpstreamCode: "9007199254740993"}},
		{"refused, code as a text", say(`{"code":"102421","msg":"muted"}`), writeCall, writing, 1, wantError{Code: "PERMISSION_DENIED", Reason: "ACCOUNT_MUTED", UpstreamCode: "102421"}},
		{"too many calls", refuse(416), writeCall, writing, 1, wantError{Code: "RESOURCE_EXHAUSTED", Reason: "RATE_LIMIT", UpstreamCode: "416", RetryAfter: time.Second}},
		{"busy", refuse(503), writeCall, writing, 1, wantError{Code: "UNAVAILABLE", Reason: "SERVER_BUSY", UpstreamCode: "503", RetryAfter: time.Second}},
		{"an error of the upstream, reading", refuse(500), readCall, reading, 1, wantError{Code: "INTERNAL", Reason: "SERVER_ERROR", UpstreamCode: "500", RetryAfter: time.Second}},
		{"an error of the upstream, writing", refuse(500), writeCall, writing, 1, wantError{Code: "INTERNAL", Reason: "SERVER_ERROR", UpstreamCode: "500"}},
		{"credentials refused", refuse(403), readCall, reading, 1, wantError{Code: "PERMISSION_DENIED", Reason: "FORBIDDEN", UpstreamCode: "403"}},
		{"the answer is lost, writing", hangUp, writeCall, writing, 1, unknown},
		{"the answer is lost, writing what may be repeated", hangUp, keepCall, keeping, 1, unavailable},
		{"the answer breaks off, writing", breakOff, writeCall, writing, 1, unknown},
		{"the answer breaks off, reading", breakOff, readCall, reading, 1, unavailable},
		{"502, writing", httpStatus(http.StatusBadGateway, "<html>Bad Gateway</html>"), writeCall, writing, 1, unknown},
		{"502, reading", httpStatus(http.StatusBadGateway, ""), readCall, reading, 1, unavailable},
		{"502, writing what may be repeated", httpStatus(http.StatusBadGateway, ""), keepCall, keeping, 1, unavailable},
		{"404 without an envelope", httpStatus(http.StatusNotFound, "404 page not found"), readCall, reading, 1, wantError{Code: "UNKNOWN", Reason: "UPSTREAM_HTTP_STATUS"}},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, readCall, reading, 1, wantError{Code: "UNKNOWN", Reason: "UPSTREAM_HTTP_STATUS"}},
		{"a code under another HTTP status", httpStatus(http.StatusForbidden, `{"code":102422,"msg":"banned"}`), writeCall, writing, 1, wantError{Code: "PERMISSION_DENIED", Reason: "ACCOUNT_BANNED", UpstreamCode: "102422"}},
		{"no JSON", say("<html>hello</html>"), readCall, reading, 1, unreadable},
		{"nothing", say(""), writeCall, writing, 1, unreadable},
		{"no envelope", say(`{"conversation_id":"alice|1|bob"}`), readCall, reading, 1, unreadable},
		{"a list", say(`[{"code":200}]`), readCall, reading, 1, unreadable},
		{"half an envelope", say(`{"code":200,"data":{`), readCall, reading, 1, unreadable},
		{"data of another kind", say(`{"code":200,"data":[]}`), readCall, reading, 1, unreadable},
		{"a number that is none", say(`{"code":200,"data":{"unread_count":"many"}}`), readCall, reading, 1, unreadable},
		{"a number beyond its type", say(`{"code":200,"data":{"sort_order":9223372036854775808}}`), readCall, reading, 1, unreadable},
		{"too much", say(`{"code":200,"data":{"x":"` + strings.Repeat("x", 9<<20) + `"}}`), readCall, reading, 1, wantError{Code: "INTERNAL", Reason: "UPSTREAM_REPLY_TOO_LARGE"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.check(t, newRig(t))
		})
	}
}

// TestLostRead is apart because a read may be tried again on a fresh connection.
func TestLostRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answerWith(hangUp)
	want := wantError{Code: "UNAVAILABLE", Reason: "UPSTREAM_UNAVAILABLE", RetryAfter: time.Second}
	for _, name := range doorNames {
		o := r.call(t, name, readCall, reading)
		if err := want.verify(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, sent := range r.take() {
			if id := sent.header.Get("X-custom-traceid"); id != o.traceID {
				t.Errorf("%s: an attempt has trace id %q, the call %q", name, id, o.traceID)
			}
		}
	}
}

// TestUnreachable calls an upstream that is not there.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // closed below
	endpoint := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	r := &rig{recorder: &recorder{}, facade: startFacade(t, harness.Upstream(t, endpoint)...)}
	want := wantError{Code: "UNAVAILABLE", Reason: "UPSTREAM_UNREACHABLE", RetryAfter: time.Second}
	for _, f := range []failure{
		{"reading", nil, readCall, reading, 0, want},
		{"writing", nil, writeCall, writing, 0, want},
	} {
		t.Log(f.name)
		f.check(t, r)
	}
}

// TestSlowUpstream lets the server's own deadline pass: what may have been done
// is not the same for a read and a write.
func TestSlowUpstream(t *testing.T) {
	t.Parallel()
	r := newRig(t, "--default-timeout=1s")
	for _, f := range []failure{
		{"reading", stall, readCall, reading, 1, wantError{Code: "DEADLINE_EXCEEDED", Reason: "DEADLINE_EXCEEDED"}},
		{"writing", stall, writeCall, writing, 1, wantError{Code: "DEADLINE_EXCEEDED", Reason: "OUTCOME_UNKNOWN"}},
	} {
		t.Log(f.name)
		f.check(t, r)
	}
}

// TestOversized sends more than the server takes.
func TestOversized(t *testing.T) {
	t.Parallel()
	r := newRig(t, "--max-request-bytes=64KiB")
	r.answerData("{}")
	request := fmt.Sprintf(`{"conversation_id":"a|1|b","message":{"content":{"text":"hi"}},"extension":%q}`, strings.Repeat("x", 70<<10))
	want := wantError{Code: "RESOURCE_EXHAUSTED", Reason: "REQUEST_TOO_LARGE"}
	for _, name := range doorNames {
		if err := want.verify(r.call(t, name, writeCall, request)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	chunked := io.MultiReader(strings.NewReader(request)) // of which net/http does not know the length
	if err := want.verify(r.http(t, http.MethodPost, "/v1/conversations/a%7C1%7Cb/messages", chunked)); err != nil {
		t.Errorf("chunked: %v", err)
	}
	if sent := r.take(); len(sent) != 0 {
		t.Errorf("the upstream got %d requests", len(sent))
	}
	r.call(t, "rest", writeCall, strings.Replace(request, strings.Repeat("x", 10<<10), "", 1)) // fits
	r.one(t)
}

// http makes a REST call by hand.
func (r *rig) http(tb testing.TB, verb, target string, body io.Reader) *outcome {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), verb, r.restURL+target, body)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := method(readCall)
	if err != nil {
		tb.Fatal(err)
	}
	reply, err := newMessage(m.Output())
	if err != nil {
		tb.Fatal(err)
	}
	o, err := restDoor{r.restURL, r.client}.do(request, reply)
	if err != nil {
		tb.Fatalf("%s %s: %v", verb, target, err)
	}
	return o
}

// TestRESTRefusals sends what only REST can get wrong.
func TestRESTRefusals(t *testing.T) {
	r := newRig(t)
	r.answerData("{}")
	malformed := func(fields ...string) wantError {
		return wantError{Code: "INVALID_ARGUMENT", Reason: "MALFORMED_BODY", Fields: fields}
	}
	noRoute := wantError{Code: "NOT_FOUND", Reason: "ROUTE_NOT_FOUND"}
	wrongMethod := wantError{Code: "UNIMPLEMENTED", Reason: "METHOD_NOT_ALLOWED"}
	const (
		messages      = "/v1/conversations/a%7C1%7Cb/messages"
		conversation  = "/v1/conversations/a%7C1%7Cb"
		conversations = "/v1/conversations"
	)
	for _, c := range []struct {
		name, verb, target, body string
		want                     wantError
	}{
		{"unknown path", http.MethodGet, "/v1/nothing", "", noRoute},
		{"unknown verb of a path", http.MethodPost, "/v1/conversations:nothing", "{}", noRoute},
		{"another version", http.MethodGet, "/v2/conversations?account_id=a", "", noRoute},
		{"a slash too many", http.MethodGet, conversation + "/", "", noRoute},
		{"a segment too many", http.MethodGet, messages + "/1/2", "", noRoute},
		{"wrong method", http.MethodPut, conversation, "{}", wrongMethod},
		{"wrong method of a list", http.MethodPut, conversations, "{}", wrongMethod},
		{"a method that nobody knows", "BREW", conversation, "", wrongMethod},
		{"unknown field", http.MethodPost, messages, `{"message":{"content":{"text":"hi"}},"sender":"a"}`, malformed("sender")},
		{"unknown inner field", http.MethodPost, messages, `{"message":{"content":{"text":"hi","txt":"x"}}}`, malformed("message.content.txt")},
		{"unknown query parameter", http.MethodGet, conversations + "?account_id=a&limit=5", "", malformed("limit")},
		{"unknown query parameter beside a path", http.MethodGet, conversation + "?verbose=true", "", malformed("verbose")},
		{"query parameter beside a body", http.MethodPost, messages + "?extension=x", `{"message":{"content":{"text":"hi"}}}`, malformed("extension")},
		{"a number that is none", http.MethodGet, conversations + "?account_id=a&page_size=ten", "", malformed("page_size")},
		{"an id that is none", http.MethodGet, messages + "/first", "", malformed("message_server_id")},
		{"an id beyond 64 bits", http.MethodGet, messages + "/9223372036854775808", "", malformed("message_server_id")},
		{"no JSON", http.MethodPost, messages, "message=hi", malformed()},
		{"half of JSON", http.MethodPost, messages, `{"message":`, malformed()},
		{"a list", http.MethodPost, messages, "[]", malformed("")},
		{"two values", http.MethodPost, messages, `{"message":{"content":{"text":"hi"}}} {}`, malformed()},
		{"a field twice", http.MethodPost, messages, `{"message":{"content":{"text":"hi"}},"extension":"a","extension":"b"}`, malformed("extension")},
		{"two kinds of content", http.MethodPost, messages, `{"message":{"content":{"text":"hi","tip":"ho"}}}`, malformed("message.content.tip")},
		{"a text for a boolean", http.MethodPost, messages, `{"message":{"content":{"text":"hi"}},"sender_no_sense":"true"}`, malformed("sender_no_sense")},
		{"a fraction for an integer", http.MethodPost, messages, `{"message":{"content":{"text":"hi","sub_type":1.5}}}`, malformed("message.content.sub_type")},
		{"no UTF-8", http.MethodPost, messages, "{\"message\":{\"content\":{\"text\":\"\xff\"}}}", malformed("message.content.text")},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := r.http(t, c.verb, c.target, strings.NewReader(c.body))
			if err := c.want.verify(o); err != nil {
				t.Error(err)
			}
			if sent := r.take(); len(sent) != 0 {
				t.Errorf("the upstream got %d requests", len(sent))
			}
		})
	}
}

// TestGRPCRefusals sends what REST cannot say.
func TestGRPCRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.call(t, "grpc", "MessageService/UpdateMessage", `{"operator_id":"a","content":{"text":"b"}}`)
	want := wantError{Code: "INVALID_ARGUMENT", Reason: "INVALID_REQUEST", Fields: []string{"message"}}
	if err := want.verify(o); err != nil {
		t.Error(err)
	}
	nothing := &imv1.GetConversationRequest{}
	o, err := grpcDoor{r.conn}.invoke(t.Context(), "/yunxin.im.v1.ConversationService/Nothing", nothing, nothing)
	if err != nil {
		t.Fatal(err)
	}
	want = wantError{Code: "UNIMPLEMENTED", Reason: "METHOD_UNIMPLEMENTED"}
	if err := want.verify(o); err != nil {
		t.Error(err)
	}
}

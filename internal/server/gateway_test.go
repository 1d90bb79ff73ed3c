package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

func TestRefusalsOfTheGateway(t *testing.T) {
	r := start(t, realAPI, "--max-request-bytes=1KiB")
	long := strings.Repeat("x", 2<<10)
	chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	for name, c := range map[string]struct {
		method, path string
		body         io.Reader
		status       int
		reason       string
		field        string
	}{
		"no such path":         {"GET", "/v1/nope", nil, 404, "ROUTE_NOT_FOUND", ""},
		"no such path, root":   {"GET", "/nope", nil, 404, "ROUTE_NOT_FOUND", ""},
		"wrong method":         {"PUT", "/v1/conversations", nil, 405, "METHOD_NOT_ALLOWED", ""},
		"wrong method, page":   {"POST", "/docs/", nil, 405, "METHOD_NOT_ALLOWED", ""},
		"options":              {"OPTIONS", "/v1/conversations", nil, 405, "METHOD_NOT_ALLOWED", ""},
		"unknown field":        {"POST", "/v1/conversations", strings.NewReader(`{"conversation_id":"a|1|b","bogus":1}`), 400, "MALFORMED_BODY", "bogus"},
		"unknown inner field":  {"POST", aliceBob + "/messages", strings.NewReader(`{"message":{"content":{"txet":"x"}}}`), 400, "MALFORMED_BODY", "message.content.txet"},
		"duplicate field":      {"POST", "/v1/conversations", strings.NewReader(`{"conversation_id":"a","conversation_id":"b"}`), 400, "MALFORMED_BODY", "conversation_id"},
		"wrong type":           {"POST", "/v1/conversations", strings.NewReader(`{"conversation_id":1}`), 400, "MALFORMED_BODY", "conversation_id"},
		"wrong type in a list": {"POST", "/v1/conversations:batchGet", strings.NewReader("{\"conversation_ids\":[\"é\",\n 1]}"), 400, "MALFORMED_BODY", "conversation_ids[1]"},
		"list for an object":   {"POST", "/v1/conversations", strings.NewReader(`[]`), 400, "MALFORMED_BODY", ""},
		"number out of range":  {"POST", aliceBob + "/messages", strings.NewReader(`{"thread_config":{"thread_root":{"message_server_id":"9223372036854775808"}}}`), 400, "MALFORMED_BODY", "thread_config.thread_root.message_server_id"},
		"fraction":             {"POST", aliceBob + "/messages", strings.NewReader(`{"thread_config":{"thread_root":{"message_server_id":1.5}}}`), 400, "MALFORMED_BODY", "thread_config.thread_root.message_server_id"},
		"not UTF-8":            {"POST", "/v1/conversations", strings.NewReader("{\"conversation_id\":\"\xff\"}"), 400, "MALFORMED_BODY", "conversation_id"},
		"not JSON":             {"POST", "/v1/conversations", strings.NewReader(`{nope}`), 400, "MALFORMED_BODY", ""},
		"half JSON":            {"POST", "/v1/conversations", strings.NewReader(`{"conversation_id":`), 400, "MALFORMED_BODY", ""},
		"more than JSON":       {"POST", "/v1/conversations", strings.NewReader(`{"conversation_id":"a|1|b"} x`), 400, "MALFORMED_BODY", ""},
		"empty body":           {"POST", "/v1/conversations", nil, 400, "INVALID_REQUEST", "conversation_id"},
		"body of a GET":        {"GET", aliceBob, strings.NewReader(`{}`), 400, "MALFORMED_BODY", ""},
		"too large":            {"POST", "/v1/conversations", strings.NewReader(long), 413, "REQUEST_TOO_LARGE", ""},
		"too large, chunked":   {"POST", "/v1/conversations", chunked(`{"conversation_id":"` + long + `"}`), 413, "REQUEST_TOO_LARGE", ""},
		"too large after JSON": {"POST", "/v1/conversations", chunked(`{"conversation_id":"a|1|b"}` + strings.Repeat(" ", 2<<10)), 413, "REQUEST_TOO_LARGE", ""},
		"unknown parameter":    {"GET", "/v1/conversations?account_id=a&bogus=1", nil, 400, "MALFORMED_BODY", "bogus"},
		"unknown inner":        {"GET", "/v1/conversations?account_id.x=a", nil, 400, "MALFORMED_BODY", "account_id.x"},
		"parameter of a POST":  {"POST", "/v1/conversations?conversation_id=a", strings.NewReader(`{}`), 400, "MALFORMED_BODY", "conversation_id"},
		"parameter in path":    {"GET", aliceBob + "?conversation_id=x", nil, 400, "MALFORMED_BODY", "conversation_id"},
		"parameter twice":      {"GET", "/v1/conversations?account_id=a&account_id=b", nil, 400, "MALFORMED_BODY", "account_id"},
		"parameter, spelt":     {"GET", "/v1/conversations?accountId=a&account_id=b", nil, 400, "MALFORMED_BODY", "account_id"},
		"in path, spelt":       {"GET", aliceBob + "?conversationId=x", nil, 400, "MALFORMED_BODY", "conversationId"},
		"body against path":    {"POST", aliceBob + "/messages", strings.NewReader(`{"conversation_id":"bob|1|alice"}`), 400, "MALFORMED_BODY", "conversation_id"},
		"body against depth":   {"PATCH", "/v1/messages/7", strings.NewReader(`{"message":{"messageServerId":"8"}}`), 400, "MALFORMED_BODY", "message.message_server_id"},
		"parameter type":       {"GET", "/v1/conversations?account_id=a&page_size=many", nil, 400, "MALFORMED_BODY", "page_size"},
		"parameter UTF-8":      {"GET", "/v1/conversations?account_id=%FF", nil, 400, "MALFORMED_BODY", "account_id"},
		"bad query":            {"GET", "/v1/conversations?account_id=%zz", nil, 400, "MALFORMED_BODY", ""},
		"path type":            {"GET", aliceBob + "/messages/many", nil, 400, "MALFORMED_BODY", "message_server_id"},
		"path UTF-8":           {"GET", "/v1/conversations/%FF", nil, 400, "MALFORMED_BODY", "conversation_id"},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.do(t, c.method, c.path, c.body)
			f := a.failure(t, c.status, c.reason)
			if c.field != "" && fmt.Sprint(f.fields()) != "["+c.field+"]" {
				t.Errorf("fields %v, want %s: %s", f.fields(), c.field, a.body)
			}
			if strings.ContainsRune(a.body, '\u00a0') || strings.Contains(f.Message, "proto:") {
				t.Errorf("the library shows: %s", a.body)
			}
			if (c.status == http.StatusMethodNotAllowed) != (a.Header.Get("Allow") != "") {
				t.Errorf("Allow: %q", a.Header.Get("Allow"))
			}
			often := c.reason == "ROUTE_NOT_FOUND" || c.reason == "METHOD_NOT_ALLOWED" // of which few are logged
			if lines := r.logs.with(t, a.Header.Get("X-Trace-Id")); !often && len(lines) != 1 || len(lines) == 1 && (lines[0]["reason"] != c.reason || lines[0]["door"] != "rest") {
				t.Errorf("logged %v", lines)
			}
		})
	}
}

func TestInt64(t *testing.T) {
	var got, reply int64
	h := &handlers{
		send: func(_ context.Context, req *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) {
			got = req.GetThreadConfig().GetThreadRoot().GetMessageServerId()
			return &imv1.SendMessageResponse{Message: &imv1.Message{MessageServerId: got}}, nil
		},
		read: func(_ context.Context, req *imv1.GetMessageRequest) (*imv1.GetMessageResponse, error) {
			got = req.GetMessageServerId()
			return &imv1.GetMessageResponse{Message: &imv1.Message{MessageServerId: reply}}, nil
		},
	}
	r := start(t, h.api())
	for _, reply = range []int64{math.MinInt64, math.MinInt64 + 1, -1, 1, math.MaxInt64} {
		a := r.do(t, http.MethodGet, aliceBob+"/messages/1", http.NoBody)
		if !strings.Contains(a.body, fmt.Sprintf(`"message_server_id":"%d"`, reply)) {
			t.Errorf("%d in a reply: %s", reply, a.body)
		}
	}
	for _, want := range []int64{1, 1<<53 + 1, math.MaxInt64 - 1, math.MaxInt64} {
		for _, form := range []string{"%d", `"%d"`} {
			thread := fmt.Sprintf(`{"sender_id":"a","receiver_id":"b","create_time":"2026-01-02T03:04:05Z","message_client_id":"c","message_server_id":`+form+`}`, want)
			body := `{"message":{"content":{"text":"x"}},"thread_config":{"thread_root":` + thread + `,"thread_reply":` + thread + `}}`
			a := r.do(t, http.MethodPost, aliceBob+"/messages", strings.NewReader(body))
			if reply := fmt.Sprintf(`"message_server_id":"%d"`, want); got != want || !strings.Contains(a.body, reply) {
				t.Errorf("%d as %s: handler %d, answer %s", want, form, got, a.body)
			}
		}
		a := r.do(t, http.MethodGet, aliceBob+"/messages/"+strconv.FormatInt(want, 10), http.NoBody)
		if got != want {
			t.Errorf("%d in the path: handler %d, answer %s", want, got, a.body)
		}
	}
}

func TestNoMetadataFromHeaders(t *testing.T) {
	var seen metadata.MD
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		seen, _ = metadata.FromIncomingContext(ctx)
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-inner", "evil"))
		return echo(ctx, req)
	}}
	r := start(t, h.api())
	a := r.do(t, http.MethodGet, aliceBob, http.NoBody, "Grpc-Metadata-X-Trace-Id", "evil", "Grpc-Metadata-Role", "evil",
		"X-Trace-Id", "evil", "X-Rest-Timeout", "1ms", "Cookie", "evil", "Grpcgateway-Authorization", "evil", "TE", "trailers")
	if a.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if strings.Contains(fmt.Sprint(map[string][]string(seen)), "evil") {
		t.Errorf("metadata: %v", seen)
	}
	if strings.Contains(fmt.Sprint(a.Header), "evil") || len(a.Header.Values("X-Trace-Id")) != 1 {
		t.Errorf("headers: %v", a.Header)
	}
}

func TestNoMethodOverride(t *testing.T) {
	h := &handlers{get: func(context.Context, *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		panic("called")
	}}
	r := start(t, h.api())
	a := r.do(t, http.MethodPost, aliceBob, http.NoBody,
		"X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded")
	a.failure(t, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	h := &handlers{send: func(context.Context, *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) { panic("called") }}
	r := start(t, h.api())
	a := r.do(t, http.MethodPost, aliceBob+"/messages", strings.NewReader(`{"message":{"content":{"text":"x"}}}`),
		"Content-Type", "text/plain", "Origin", "https://evil.example")
	a.failure(t, http.StatusBadRequest, "INVALID_REQUEST")
}

// A site whose name was made to mean 127.0.0.1 gets neither calls nor pages. It does
// where callers prove who they are, which a page cannot.
func TestNamesOfOthersAreRefused(t *testing.T) {
	h := &handlers{get: echo}
	key, entry := newKey(t)
	callers := write(t, filepath.Join(t.TempDir(), "callers.yaml"), `callers: [{name: a, keys: [`+entry+`], scopes: ["*"]}]`)
	anybody, known := start(t, h.api()), start(t, h.api(), "--callers-file="+callers)
	ask := func(r *running, path, host string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(path), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("X-Api-Key", key)
		response, err := r.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{response, string(body)}
	}
	for host, good := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LOCALHOST.": true, "app.localhost:1": true, "127.0.0.1": true, "127.0.0.1:8080": true,
		"[::1]": true, "[::1]:8080": true, "192.168.1.5:80": true,
		"evil.example": false, "evil.example:8080": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false,
		"evillocalhost": false, "evil": false, "127.1": false, "0x7f000001": false, "..": false,
	} {
		for _, path := range []string{aliceBob, "/docs/", "/openapi.json", "/"} {
			a := ask(anybody, path, host)
			if !good {
				if f := a.failure(t, http.StatusBadRequest, "INVALID_REQUEST"); !strings.Contains(f.Message, "Host") {
					t.Errorf("Host: %s, %s: %s", host, path, f.Message)
				}
			} else if a.StatusCode >= http.StatusBadRequest {
				t.Errorf("Host: %s, %s: %d %s", host, path, a.StatusCode, a.body)
			}
			if a := ask(known, path, host); a.StatusCode >= http.StatusBadRequest {
				t.Errorf("Host: %s, %s, with a key: %d %s", host, path, a.StatusCode, a.body)
			}
		}
	}
}

// Streams over REST behave as the generated code makes them.
func TestStreamErrors(t *testing.T) {
	late := func(mux *runtime.ServeMux, _ grpc.ClientConnInterface) error {
		return mux.HandlePath(http.MethodGet, "/test/late", func(w http.ResponseWriter, req *http.Request, _ map[string]string) {
			_, marshaler := runtime.MarshalerForRequest(mux, req)
			ctx := runtime.NewServerMetadataContext(req.Context(), runtime.ServerMetadata{})
			sent := false
			runtime.ForwardResponseStream(ctx, mux, marshaler, w, req, func() (proto.Message, error) {
				if sent {
					return nil, errors.New("hunter2")
				}
				sent = true
				return &imv1.Conversation{ConversationId: "a|1|b"}, nil
			})
		})
	}
	r := start(t, (&handlers{}).api(late))
	r.do(t, http.MethodGet, "/v1/conversations:stream?account_id=a", http.NoBody).failure(t, http.StatusNotImplemented, "METHOD_UNIMPLEMENTED")

	a := r.do(t, http.MethodGet, "/test/late", http.NoBody)
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if a.StatusCode != http.StatusOK || len(lines) != 2 || !strings.Contains(lines[0], `{"result":`) {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if !strings.HasPrefix(lines[1], `{"error":`) || !strings.Contains(lines[1], "INTERNAL") || strings.Contains(lines[1], "hunter2") ||
		!strings.Contains(lines[1], a.Header.Get("X-Trace-Id")) {
		t.Errorf("the last line: %s", lines[1])
	}
}

func TestPanicOfTheGateway(t *testing.T) {
	broken := func(mux *runtime.ServeMux, _ grpc.ClientConnInterface) error {
		return mux.HandlePath(http.MethodGet, "/test/panic", func(http.ResponseWriter, *http.Request, map[string]string) { panic("kaboom") })
	}
	r := start(t, (&handlers{}).api(broken))
	a := r.do(t, http.MethodGet, "/test/panic", http.NoBody)
	a.failure(t, http.StatusInternalServerError, "INTERNAL")
	if lines := r.logs.with(t, "kaboom"); len(lines) != 1 || lines[0]["trace_id"] != a.Header.Get("X-Trace-Id") {
		t.Errorf("logged %v", lines)
	}
}

func TestPages(t *testing.T) {
	r := start(t, realAPI)
	for _, path := range []string{"/", "/docs"} {
		if a := r.do(t, http.MethodGet, path, http.NoBody); a.StatusCode != http.StatusFound || a.Header.Get("Location") != "/docs/" {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.Header.Get("Location"))
		}
	}
	page := r.do(t, http.MethodGet, "/docs/", http.NoBody)
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, "/openapi.json") {
		t.Fatalf("%d %s", page.StatusCode, page.body)
	}
	if !strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("the page may load what it likes")
	}
	for _, reference := range []string{`src="`, `href="`} {
		for _, after := range strings.Split(page.body, reference)[1:] {
			path, _, _ := strings.Cut(after, `"`)
			if !strings.HasPrefix(path, "/docs/") {
				t.Errorf("the page asks for %s", path)
			} else if a := r.do(t, http.MethodGet, path, http.NoBody); a.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", path, a.StatusCode)
			}
		}
	}
	document := r.do(t, http.MethodGet, "/openapi.json", http.NoBody)
	if document.StatusCode != http.StatusOK || !strings.Contains(document.body, "/v1/conversations/{conversation_id}") {
		t.Errorf("%d", document.StatusCode)
	}
}

func TestHugeHeaders(t *testing.T) {
	r := start(t, realAPI)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(aliceBob), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	response, err := r.http.Do(req)
	if err != nil {
		return // the server may hang up while the client still writes
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", response.StatusCode)
	}
}

// What is wrong is repeated in part at most, whatever its size, and only to its
// sender.
func TestWrongValuesAreCut(t *testing.T) {
	r := start(t, realAPI)
	long := "hunter2 " + strings.Repeat("é", 1<<19)
	for name, c := range map[string]struct{ path, body string }{
		"a number":        {aliceBob + "/messages", `{"thread_config":{"thread_root":{"message_server_id":"` + long + `"}}}`},
		"a switch":        {aliceBob + "/messages", `{"message_config":{"unread_enabled":"` + long + `"}}`},
		"a time":          {aliceBob + "/messages", `{"thread_config":{"thread_root":{"create_time":"` + long + `"}}}`},
		"an enum":         {aliceBob + "/messages", `{"thread_config":{"thread_root":{"conversation_type":"` + long + `"}}}`},
		"digits":          {"/v1/conversations", `{"conversation_id":` + strings.Repeat("7", 1<<20) + `}`},
		"an object":       {aliceBob + "/messages", `{"message":"` + long + `"}`},
		"a name":          {"/v1/conversations", `{"` + long + `":1}`},
		"a name twice":    {"/v1/conversations", `{"` + long + `":1,"` + long + `":1}`},
		"names in others": {aliceBob + "/messages", `{"message":{"content":{"` + long + `":{"` + long + `":1}}}}`},
		"a stream":        {"/v1/conversations:sendStreamMessage", `{"start":{"conversation_id":"a|1|b","message_config":{"unread_enabled":"` + long + `"}}}`},
		"not UTF-8":       {"/v1/conversations", `{"` + long + "\xff" + `":1}`},
		"no JSON":         {"/v1/conversations", long},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.do(t, http.MethodPost, c.path, strings.NewReader(c.body))
			a.failure(t, http.StatusBadRequest, "MALFORMED_BODY")
			if len(a.body) > 2<<10 || !utf8.ValidString(a.body) {
				t.Errorf("%d bytes: %.300s", len(a.body), a.body)
			}
			if text := r.logs.String(); strings.Contains(text, "hunter2") {
				t.Errorf("logged: %.300s", text)
			}
		})
	}
}

func FuzzBody(f *testing.F) {
	r := start(f, (&handlers{send: func(context.Context, *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) {
		return &imv1.SendMessageResponse{}, nil
	}}).api())
	for _, seed := range []string{`{}`, `{"message":{"content":{"text":"x"}}}`, `{"a":[{"b":1},[]]}`, "{\"\xff\":1}", `{"message":[`, `null`, `1e999`, "\n\n{\n\"x\" : 1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		r.door.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, aliceBob+"/messages", bytes.NewReader(body)))
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}

package sandbox

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestSignature(t *testing.T) {
	c := newClient(t, Options{})
	for _, tt := range []struct {
		name, header, value string
		code                engine.Code
		says                string
	}{
		{"unknown app", "AppKey", "other", engine.CodeUnknownApp, "app key"},
		{"no app", "AppKey", "", engine.CodeUnknownApp, "app key"},
		{"no nonce", "Nonce", "", engine.CodeForbidden, "Nonce"},
		{"long nonce", "Nonce", strings.Repeat("n", 129), engine.CodeForbidden, "Nonce"},
		{"other nonce", "Nonce", "m", engine.CodeForbidden, "CheckSum"},
		{"no time", "CurTime", "", engine.CodeForbidden, "CurTime"},
		{"signed time", "CurTime", "+1", engine.CodeForbidden, "CurTime"},
		{"huge time", "CurTime", "99999999999999999999", engine.CodeForbidden, "CurTime"},
		{"far time", "CurTime", "4611686018427387903", engine.CodeForbidden, "CurTime"},
		{"old time", "CurTime", strconv.FormatInt(c.now.Add(-301*time.Second).Unix(), 10), engine.CodeForbidden, "5m"},
		{"early time", "CurTime", strconv.FormatInt(c.now.Add(301*time.Second).Unix(), 10), engine.CodeForbidden, "5m"},
		{"no checksum", "CheckSum", "", engine.CodeForbidden, "CheckSum"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			r := c.request("GET", "/im/v2/conversation_overviews/alice", "")
			r.Header.Set(tt.header, tt.value)
			c.send(r).code(tt.code).says(tt.says)
		})
	}
	c.t = t
	r := c.request("GET", "/im/v2/conversation_overviews/alice", "")
	r.Header.Set("CheckSum", strings.ToUpper(r.Header.Get("CheckSum")))
	c.send(r).code(engine.CodeForbidden)

	r = c.request("GET", "/im/v2/conversation_overviews/alice", "")
	nonce := strings.Repeat("n", 128)
	r.Header.Set("Nonce", nonce)
	r.Header.Set("CheckSum", fmt.Sprintf("%x", sha1.Sum([]byte(AppSecret+nonce+r.Header.Get("CurTime")))))
	c.send(r).ok()

	r = c.request("GET", "/im/v2/conversation_overviews/alice", "")
	c.wait(5 * time.Minute)
	c.send(r).ok()
	c.send(r).ok() // a nonce may come twice
	c.wait(time.Second)
	c.send(r).code(engine.CodeForbidden)
}

func TestOwnCredentials(t *testing.T) {
	c := newClient(t, Options{AppKey: "mine", AppSecret: "s"})
	c.get("v2/conversation_overviews/alice").code(engine.CodeUnknownApp)
}

func TestRouting(t *testing.T) {
	c := newClient(t, Options{})
	for _, target := range []string{
		"GET /", "GET /im/v2/nothing", "PUT /im/v2/conversations", "GET /im/v3/conversations?account_id=alice",
		"GET /im/v2.1/conversation_groups?account_id=alice", "PATCH /im/v2.1/conversations/alice%7C1%7Cbob",
		"GET /im/v2/conversations/", "GET /im/v2//conversations?account_id=alice",
	} {
		method, path, _ := strings.Cut(target, " ")
		got := c.send(c.request(method, path, ""))
		want := http.StatusNotFound
		if path == "/im/v2/conversations/" {
			want = http.StatusOK // the empty id is refused as an id
		}
		if got.status != want {
			t.Errorf("%s: HTTP %d %s", target, got.status, got.raw)
		}
		if got.status == http.StatusNotFound && fmt.Sprint(got.body["code"]) != "404" {
			t.Errorf("%s: %s", target, got.raw)
		}
	}
	c.send(c.request("GET", "/nimserver/im/v2/conversation_overviews/alice", "")).ok()
	w := httptest.NewRecorder()
	c.s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/nimserver/health/liveness.action", http.NoBody))
	if w.Code != http.StatusOK {
		t.Errorf("liveness: HTTP %d", w.Code)
	}
}

func TestRoutes(t *testing.T) {
	c := newClient(t, Options{})
	all := c.s.Routes()
	if !slices.IsSorted(all) {
		t.Error("not sorted")
	}
	for _, want := range []string{
		"PATCH /im/v2/conversations/{conversation_id}/actions/stick_top_conversation",
		"POST /im/v2/conversations/{conversation_id}/actions/stick_top_conversation",
		"GET /im/v2.1/messages/actions/search_messages",
		"GET /im/v2/messages/actions/search_messages",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("no %s", want)
		}
	}
	// No path may fit two routes, because their order must not matter.
	for i, a := range all {
		for _, b := range all[:i] {
			if overlap(strings.Split(a, "/"), strings.Split(b, "/")) {
				t.Errorf("%s and %s overlap", a, b)
			}
		}
	}
}

// overlap reports whether some path fits both routes. The first segment is the
// method.
func overlap(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !strings.HasPrefix(a[i], "{") && !strings.HasPrefix(b[i], "{") && a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestPathIDsArriveAsSent(t *testing.T) {
	c := newClient(t, Options{Seed: []byte(`{"accounts":[{"id":"a"},{"id":".."},{"id":"."}],"rooms":[{"id":1,"creator":"a"}]}`)})
	server := httptest.NewServer(c.s)
	defer server.Close()
	overview := func(raw string) *reply {
		t.Helper()
		r := c.request("GET", "/", "")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/im/v2/conversation_overviews/"+raw, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = r.Header
		noRedirect := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			t.Error("redirected")
			return http.ErrUseLastResponse
		}}
		resp, err := noRedirect.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got := &reply{t: t, call: raw, status: resp.StatusCode}
		if err := json.NewDecoder(resp.Body).Decode(&got.body); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for raw, id := range map[string]string{
		"..": "..", ".": ".", "%2E%2e": "..", "A": "a",
	} {
		overview(raw).ok().is("account_id", id)
	}
	for raw, id := range map[string]string{
		"a%2Fb": "a/b", "a%25b": "a%b", "a%3Fb": "a?b", "a%2F..%2Fa": "a/../a", "a%2525": "a%25",
		"a%20b": "a b", "a+b": "a+b", "%E4%BD%A0": "你", "": "",
	} {
		overview(raw).code(codeAccountMissing).says(strconv.Quote(id))
	}

	// net/http's client would not send this one, others do.
	c.get("v2/conversation_overviews/a|b%2Fc").code(codeAccountMissing).says(`"a|b/c"`)

	for _, id := range []string{"a/b", "a%b", "a?b", "..", ".", "a%2Fb", "a//b", "#1", "a;b", "a b+c"} {
		sent := c.post("v2/chatrooms/1/messages", `{"sender_id":"a","message":{"message_client_id":%q,"message_type":0,"text":"x"}}`, id).ok()
		c.del("v2/chatrooms/1/messages/" + url.PathEscape(id) +
			"?operator_id=a&sender_id=a&notification_enabled=true&create_time=" + sent.str("message.create_time")).ok()
	}
}

func TestStrictReading(t *testing.T) {
	c := newClient(t, Options{})
	messages := conv("alice|1|bob", "/messages")
	for _, tt := range []struct{ method, target, body, says string }{
		{"POST", messages, `{"message":{"message_type":"0","text":"x"}}`, "message.message_type must be an integer"},
		{"POST", messages, `{"message":{"message_type":0.5,"text":"x"}}`, "message.message_type must be an integer"},
		{"POST", messages, `{"message":{"message_type":0,"text":5}}`, "message.text must be a string"},
		{"POST", messages, `{"message":[]}`, "message must be an object"},
		{"POST", messages, `{"message":{}}`, "message.message_type is missing"},
		{"POST", messages, `{}`, "message"},
		{"POST", messages, ``, "message"},
		{"POST", messages, `null`, "message"},
		{"POST", messages, `[]`, "not a JSON object"},
		{"POST", messages, `{"message":`, "not a JSON object"},
		{"POST", messages, `{"Message":{"message_type":0,"text":"x"}}`, "message"},
		{"POST", messages, `{"message":{"message_type":0,"text":"x"},"sender_no_sense":"true"}`, "sender_no_sense must be a boolean"},
		{"POST", messages, `{"message":{"message_type":0,"text":"x"},"push_config":{"push_forcepush_ids":["a",1]}}`, "push_config.push_forcepush_ids[1] must be a string"},
		{"POST", messages, `{"message":{"message_type":100,"attachment":"x"}}`, "attachment must be an object"},
		{"POST", "v2/conversations", `{"conversation_id":"alice"}`, "conversation_id"},
		{"POST", "v2/conversations", `{"conversation_id":5}`, "conversation_id must be a string"},
		{"POST", conv("alice|1|bob", "/batch_messages"), `{"messages":[{"message_server_id":1}]}`, "messages[0].create_time is missing"},
		{"POST", conv("alice|1|bob", "/batch_messages"), `{"messages":[{"message_server_id":9223372036854775808,"create_time":1}]}`, "messages[0].message_server_id"},
		{"POST", conv("alice|4|bob", "/messages"), `{}`, "conversation_id"},
		{"POST", conv("alice|2|bob", "/messages"), `{}`, "conversation_id"},
		{"POST", conv("alice|2|007", "/messages"), `{}`, "conversation_id"},
		{"GET", conv("alice|1|bob", "/messages?begin_time=0&end_time=1"), ``, "limit is missing"},
		{"GET", conv("alice|1|bob", "/messages?begin_time=0&end_time=1&limit=x"), ``, "limit must be an integer"},
		{"GET", conv("alice|1|bob", "/messages?begin_time=0&end_time=1&limit=1&descending=1"), ``, "descending must be true or false"},
		{"GET", conv("alice|1|bob", "/messages?begin_time=0&end_time=1&limit=1&message_type=0,x"), ``, "message_type"},
		{"GET", "v2/conversations?limit=5", ``, "account_id is missing"},
		{"GET", "v2/conversations?account_id=%zz", ``, "query"},
		{"DELETE", conv("alice|1|bob", "/messages/x?type=1"), ``, "message_server_id must be an integer"},
		// Neither a query parameter in the body nor the other way round counts.
		{"DELETE", conv("alice|1|bob", "/messages/1"), `{"type":1}`, "type is missing"},
		{"POST", conv("alice|1|bob", "/actions/stick_top_conversation?top_type=1"), `{}`, "top_type is missing"},
	} {
		c.do(tt.method, tt.target, tt.body).code(engine.CodeBadParameter).says(tt.says)
	}
	c.post(messages, `{"message":{"message_type":0,"text":"x","attachment":null,"new":1},"push_config":null,"new":{}}`).ok()
	c.do("POST", messages, `{"message":{"message_type":0,"text":"`+strings.Repeat("x", engine.MaxBody)+`"}}`).
		code(engine.CodeBadParameter).says("larger")
}

func TestNoBody(t *testing.T) {
	c := newClient(t, Options{})
	c.text("alice|1|bob", "hi")
	r := c.request("PATCH", "/im/"+conv("bob|1|alice", "/actions/clear_conversation_unread"), "")
	r.Body = nil
	c.send(r).ok()
}

func TestTraceID(t *testing.T) {
	c := newClient(t, Options{})
	send := func(id, trace, text string) *reply {
		t.Helper()
		r := c.request("POST", "/im/"+conv(id, "/messages"), fmt.Sprintf(`{"message":{"message_type":0,"text":%q}}`, text))
		r.Header.Set("X-custom-traceid", trace)
		return c.send(r)
	}
	first := send("alice|1|bob", "t1", "one").ok()
	again := send("alice|1|bob", "t1", "two").ok()
	if !bytes.Equal(first.raw, again.raw) {
		t.Errorf("answers differ: %s %s", first.raw, again.raw)
	}
	if other := send("alice|1|carol", "t1", "one").ok(); other.str("message_server_id") == first.str("message_server_id") {
		t.Error("another path got the same answer")
	}
	c.get("v2/conversation_overviews/bob").is("unread_count", "1")

	c.wait(10 * time.Minute)
	if again := send("alice|1|bob", "t1", "three").ok(); !bytes.Equal(first.raw, again.raw) {
		t.Error("forgotten too early")
	}
	c.wait(time.Second)
	if later := send("alice|1|bob", "t1", "four").ok(); bytes.Equal(first.raw, later.raw) {
		t.Error("never forgotten")
	}

	send("alice|1|bob", "t2", "").code(engine.CodeBadParameter)
	send("alice|1|bob", "t2", "now with a text").ok() // a refusal is not remembered

	// Reads are never answered from memory.
	r := c.request("GET", "/im/v2/conversation_overviews/carol", "")
	r.Header.Set("X-custom-traceid", "t3")
	before := c.send(r).str("unread_count")
	c.text("alice|1|carol", "more")
	if after := c.send(r).str("unread_count"); before == after {
		t.Error("read was answered from memory")
	}
}

func TestConcurrentCalls(t *testing.T) {
	c := newClient(t, Options{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 25 {
				r := c.request("POST", "/im/"+conv("alice|2|"+advanced, "/messages"), `{"message":{"message_type":0,"text":"x"}}`)
				r.Header.Set("X-custom-traceid", fmt.Sprint("pair", worker/2, i)) // every call comes from two workers
				c.s.ServeHTTP(httptest.NewRecorder(), r)
				c.s.ServeHTTP(httptest.NewRecorder(), c.request("GET", "/im/v2/conversations?account_id=bob", ""))
				c.s.Ledger()
				c.s.SetFault(engine.Fault{Route: "none"})
			}
		})
	}
	wg.Wait()
	c.get("v2/conversation_overviews/bob").is("unread_count", "100")
}

func TestSummary(t *testing.T) {
	got := newClient(t, Options{}).s.Summary()
	if !slices.Contains(got.Accounts, "alice") || fmt.Sprint(got.Teams, got.SuperTeams, got.Rooms) !=
		fmt.Sprintf("[%s %s] [%s] [%s]", advanced, hushed, super, lobby) {
		t.Errorf("%+v", got)
	}
}

func FuzzServeHTTP(f *testing.F) {
	f.Add("POST", "/im/v2/conversations/alice%7C1%7Cbob/messages", `{"message":{"message_type":0,"text":"x"}}`)
	f.Add("GET", "/im/v2.1/messages/actions/search_messages?operator_id=alice&keyword_list=[%22a%22]&start_time=-9223372036854775808&time_period=9223372036854775807", ``)
	f.Add("GET", "/im/v2/conversations?account_id=alice&page_token=MS4x", ``)
	f.Add("POST", "/im/v2/messages/actions/quick_comment", `{"messages":[{"conversation_type":9,"sender_id":"a","receiver_id":"b","message_server_id":1,"message_client_id":"c","create_time":1}]}`)
	f.Add("GET", "/im/v2/messages/actions/thread_messages?conversation_type=3&sender_id=alice&receiver_id=x&begin_time=1&end_time=2&limit=1&message_server_id=1&message_client_id=1&create_time=1", ``)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Path == "" {
			t.Skip()
		}
		c := newClient(t, Options{})
		r := c.request("POST", "/", body)
		r.Method, r.URL, r.RequestURI = method, u, target
		if target != "/health/liveness.action" && target != "/nimserver/health/liveness.action" {
			w := httptest.NewRecorder()
			c.s.ServeHTTP(w, r)
			if method != "GET" && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s", w.Body)
			}
		}
	})
}

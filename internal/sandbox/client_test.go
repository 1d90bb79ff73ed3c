package sandbox

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// Seeded teams and rooms.
const (
	advanced = "2366968294"       // alice owns, bob manages, carol and erin (muted) are in
	hushed   = "2366968295"       // all muted
	super    = "9007199254741993" // alice owns, bob manages, carol and dave are in
	lobby    = "9007199254740997"
)

// client signs and sends calls to a sandbox whose clock it holds.
type client struct {
	t     *testing.T
	s     *Sandbox
	clock func() time.Time
	mu    sync.Mutex
	now   time.Time
}

func newClient(t *testing.T, o Options) *client {
	t.Helper()
	c := &client{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	if o.Now == nil {
		o.Now = func() time.Time {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.now
		}
	}
	c.clock = o.Now
	var err error
	if c.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) wait(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *client) request(method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	curTime := strconv.FormatInt(c.clock().Unix(), 10)
	r.Header.Set("AppKey", AppKey)
	r.Header.Set("Nonce", "n")
	r.Header.Set("CurTime", curTime)
	r.Header.Set("CheckSum", fmt.Sprintf("%x", sha1.Sum([]byte(AppSecret+"n"+curTime))))
	return r
}

// do sends a call; target starts behind "/im/" and args fill its verbs.
func (c *client) do(method, target, body string) *reply {
	c.t.Helper()
	return c.send(c.request(method, "/im/"+target, body))
}

func (c *client) send(r *http.Request) *reply {
	c.t.Helper()
	w := httptest.NewRecorder()
	c.s.ServeHTTP(w, r)
	got := &reply{t: c.t, call: r.Method + " " + r.RequestURI, status: w.Code, raw: w.Body.Bytes()}
	dec := json.NewDecoder(bytes.NewReader(got.raw))
	dec.UseNumber()
	if err := dec.Decode(&got.body); err != nil {
		c.t.Fatalf("%s: answer %q: %v", got.call, got.raw, err)
	}
	return got
}

func (c *client) get(target string) *reply { c.t.Helper(); return c.do("GET", target, "") }
func (c *client) del(target string) *reply { c.t.Helper(); return c.do("DELETE", target, "") }
func (c *client) post(target, body string, args ...any) *reply {
	c.t.Helper()
	return c.do("POST", target, fmt.Sprintf(body, args...))
}
func (c *client) patch(target, body string, args ...any) *reply {
	c.t.Helper()
	return c.do("PATCH", target, fmt.Sprintf(body, args...))
}

// conv is the v2 path of a conversation.
func conv(id string, rest ...string) string {
	return "v2/conversations/" + url.PathEscape(id) + strings.Join(rest, "")
}

// text sends a text and returns the message's server id.
func (c *client) text(id, text string) string {
	c.t.Helper()
	return c.post(conv(id, "/messages"), `{"message":{"message_type":0,"text":%q}}`, text).ok().str("message_server_id")
}

type reply struct {
	t      *testing.T
	call   string
	status int
	raw    []byte
	body   map[string]any
}

func (r *reply) code(want engine.Code) *reply {
	r.t.Helper()
	if got := fmt.Sprint(r.body["code"]); got != strconv.Itoa(want.Number) {
		r.t.Fatalf("%s: code %s, want %d: %s", r.call, got, want.Number, r.raw)
	}
	if r.status != http.StatusOK {
		r.t.Fatalf("%s: HTTP %d", r.call, r.status)
	}
	if want != engine.CodeOK && fmt.Sprint(r.body["data"]) != "map[]" {
		r.t.Fatalf("%s: data of a refusal: %s", r.call, r.raw)
	}
	return r
}

func (r *reply) ok() *reply { r.t.Helper(); return r.code(engine.CodeOK) }

// says checks that the envelope's msg names something.
func (r *reply) says(part string) {
	r.t.Helper()
	if msg := fmt.Sprint(r.body["msg"]); !strings.Contains(msg, part) {
		r.t.Fatalf("%s: msg %q does not name %q", r.call, msg, part)
	}
}

// at returns what stands at a dotted path below data, or nil.
func (r *reply) at(path string) any {
	v := r.body["data"]
	for step := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case map[string]any:
			v = node[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

// str is at as text; a list becomes its items joined by commas.
func (r *reply) str(path string) string {
	switch v := r.at(path).(type) {
	case nil:
		return ""
	case []any:
		items := make([]string, len(v))
		for i := range v {
			items[i] = fmt.Sprint(v[i])
		}
		return strings.Join(items, ",")
	default:
		return fmt.Sprint(v)
	}
}

// is compares pairs of a path and the value there.
func (r *reply) is(pairs ...string) *reply {
	r.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := r.str(pairs[i]); got != pairs[i+1] {
			r.t.Fatalf("%s: %s = %q, want %q: %s", r.call, pairs[i], got, pairs[i+1], r.raw)
		}
	}
	return r
}

// each collects one member of every item of a list.
func (r *reply) each(list, member string) string {
	items, _ := r.at(list).([]any)
	var all []string
	for _, item := range items {
		object, _ := item.(map[string]any)
		all = append(all, fmt.Sprint(object[member]))
	}
	return strings.Join(all, ",")
}

func (r *reply) lists(list, member, want string) *reply {
	r.t.Helper()
	if got := r.each(list, member); got != want {
		r.t.Fatalf("%s: %s of %s = %q, want %q: %s", r.call, member, list, got, want, r.raw)
	}
	return r
}

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestRateLimit(t *testing.T) {
	c := newClient(t, Options{Rate: 3})
	call := func() *reply { return c.get("v2/conversation_overviews/alice") }
	for range 3 {
		call().ok()
	}
	call().code(engine.CodeRateLimited)
	c.get("v2/conversation_groups?account_id=alice").ok() // every API has its own budget
	c.wait(time.Second - time.Millisecond)
	call().code(engine.CodeRateLimited)
	c.wait(time.Millisecond)
	for range 3 {
		call().ok()
	}
	c.wait(time.Second)
	for range 3 {
		call().ok()
	}

	// Both versions of an API draw on one budget.
	for range 2 {
		c.get("v2/conversations?account_id=alice").ok()
	}
	c.get("v2.1/conversations?account_id=alice").ok()
	c.get("v2.1/conversations?account_id=alice").code(engine.CodeRateLimited)
}

// over sends a call over TCP, where a cut connection can be seen.
func over(c *client, server *httptest.Server, trace string) (int, error) {
	r := c.request("POST", "/im/"+conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"x"}}`)
	req, err := http.NewRequestWithContext(c.t.Context(), r.Method, server.URL+r.RequestURI, r.Body)
	if err != nil {
		return 0, err
	}
	req.Header = r.Header
	req.Header.Set("X-custom-traceid", trace)
	resp, err := server.Client().Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

var unavailable = engine.NewCode(503, "unavailable")

const sendRoute = "POST /im/v2/conversations/{conversation_id}/messages"

func TestFaults(t *testing.T) {
	c := newClient(t, Options{})
	server := httptest.NewServer(c.s)
	defer server.Close()
	received := func() string { return c.get("v2/conversation_overviews/bob").str("unread_count") }

	c.s.SetFault(engine.Fault{Route: sendRoute, Kind: engine.FaultReset, Times: 1})
	if status, err := over(c, server, "a"); err == nil {
		t.Errorf("no reset but HTTP %d", status)
	}
	if n := received(); n != "0" {
		t.Errorf("%s received after a reset", n)
	}

	c.s.SetFault(engine.Fault{Route: sendRoute, Kind: engine.FaultLostAnswer, Times: 1})
	if status, err := over(c, server, "b"); err == nil {
		t.Errorf("answer not lost but HTTP %d", status)
	}
	if status, err := over(c, server, "b"); err != nil || status != http.StatusOK {
		t.Errorf("retry: HTTP %d, %v", status, err)
	}
	if n := received(); n != "1" {
		t.Errorf("%s received after a lost answer and a retry", n)
	}

	c.s.SetFault(engine.Fault{Route: sendRoute, Kind: engine.FaultBadGateway, Times: 1})
	if status, err := over(c, server, "c"); err != nil || status != http.StatusBadGateway {
		t.Errorf("HTTP %d, %v", status, err)
	}
	if n := received(); n != "1" {
		t.Errorf("%s received after a 502", n)
	}

	type record struct {
		code                int
		committed, repeated bool
		fault               engine.FaultKind
	}
	want := []record{{0, false, false, engine.FaultReset}, {200, true, false, engine.FaultLostAnswer}, {200, false, true, engine.FaultNone}, {502, false, false, engine.FaultBadGateway}}
	var got []record
	for _, e := range c.s.Ledger() {
		if e.Route == sendRoute {
			got = append(got, record{e.Code, e.Committed, e.Repeated, e.Fault})
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ledger %v, want %v", got, want)
	}
}

func TestRefuseFaults(t *testing.T) {
	c := newClient(t, Options{})
	send := func() *reply {
		return c.post(conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"x"}}`)
	}
	c.s.SetFault(engine.Fault{Route: sendRoute, Kind: engine.FaultRefuse, Every: 3, Times: 2})
	for i := 1; i <= 9; i++ {
		want := engine.CodeOK
		if i == 3 || i == 6 {
			want = engine.CodeRateLimited
		}
		send().code(want)
	}
	c.get("v2/conversation_overviews/bob").is("unread_count", "7")

	c.s.SetFault(engine.Fault{Kind: engine.FaultRefuse, Code: unavailable})
	send().code(unavailable)
	c.get("v2/conversation_overviews/bob").code(unavailable)
	c.s.SetFault(engine.Fault{Route: sendRoute}) // a route's own fault goes first, even none at all
	send().ok()
	c.s.ClearFaults()
	c.get("v2/conversation_overviews/bob").ok()
}

func TestLatency(t *testing.T) {
	c := newClient(t, Options{})
	c.s.SetFault(engine.Fault{Latency: time.Millisecond})
	c.get("v2/conversation_overviews/bob").ok()

	c.s.SetFault(engine.Fault{Latency: time.Hour})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("caller left"))
	r := c.request("POST", "/im/"+conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"x"}}`).WithContext(ctx)
	c.s.ServeHTTP(httptest.NewRecorder(), r)
	c.s.ClearFaults()
	c.get("v2/conversation_overviews/bob").is("unread_count", "0")
}

func TestLedger(t *testing.T) {
	c := newClient(t, Options{})
	r := c.request("POST", "/im/"+conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"x"}}`)
	r.Header.Set("X-custom-traceid", "trace")
	c.send(r).ok()
	c.wait(time.Second)
	c.get("v2/conversations/alice%7C1%7Cghost").code(engine.CodeBadParameter)
	c.send(c.request("GET", "/nowhere", ""))
	unsigned := c.request("GET", "/im/v2/conversation_overviews/alice", "")
	unsigned.Header.Del("CheckSum")
	c.send(unsigned).code(engine.CodeForbidden)

	got := c.s.Ledger()
	want := []engine.Entry{
		{Time: c.now.Add(-time.Second), Route: sendRoute, Path: "/im/v2/conversations/alice%7C1%7Cbob/messages", TraceID: "trace", Code: 200, Committed: true},
		{Time: c.now, Route: "GET /im/v2/conversations/{conversation_id}", Path: "/im/v2/conversations/alice%7C1%7Cghost", Code: 414},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}

	for i := range engine.MaxLedger + 5 {
		c.get("v2/conversation_overviews/" + strconv.Itoa(i))
	}
	got = c.s.Ledger()
	if len(got) != engine.MaxLedger || got[0].Path != "/im/v2/conversation_overviews/5" || got[engine.MaxLedger-1].Path != "/im/v2/conversation_overviews/"+strconv.Itoa(engine.MaxLedger+4) {
		t.Errorf("%d entries, from %s to %s", len(got), got[0].Path, got[len(got)-1].Path)
	}
}

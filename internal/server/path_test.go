package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// raw sends a path exactly as it is written, and returns the id that the handler
// saw.
type pathProbe struct {
	*running

	seen *string
}

func newPathProbe(t testing.TB) pathProbe {
	t.Helper()
	var seen string
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		seen = req.GetConversationId()
		return echo(ctx, req)
	}}
	return pathProbe{start(t, h.api()), &seen}
}

func (p pathProbe) get(t testing.TB, segment string) (seen string, w *httptest.ResponseRecorder) {
	t.Helper()
	u, err := url.ParseRequestURI("/v1/conversations/" + segment)
	if err != nil {
		t.Fatal(err)
	}
	*p.seen = "(not called)"
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	req.URL = u // as net/http makes it of the request line
	w = httptest.NewRecorder()
	p.rest.Handler.ServeHTTP(w, req)
	return *p.seen, w
}

func TestPathIsDecodedOnce(t *testing.T) {
	p := newPathProbe(t)
	for sent, want := range map[string]string{
		"a|1|b":                "a|1|b", // not encoded, as some clients do
		"a%7C1%7Cb":            "a|1|b",
		"a%7c1%7Cb":            "a|1|b",
		"a%2Fb|1|c":            "a/b|1|c",
		"a%2fb%7C1%7Cc":        "a/b|1|c",
		"a%252Fb%7C1%7Cc":      "a%2Fb|1|c",
		"a%25252Fb%7C1%7Cc":    "a%252Fb|1|c",
		"a%3Fb%23c%25%7C1%7Cc": "a?b#c%|1|c",
		"..%7C1%7C..":          "..|1|..",
		"%2E%2E%7C1%7C..":      "..|1|..",
		"a:b%7C1%7Cc:d":        "a:b|1|c:d",
		"a%3Ab%7C1%7Cc":        "a:b|1|c",
		"a+b%7C1%7Cc":          "a+b|1|c",
		"a%2Bb%7C1%7Cc":        "a+b|1|c",
		"%E4%BD%A0%7C1%7Cb":    "你|1|b",
		"你|1|b":                "你|1|b",
		"a;b=c&d%7C1%7Cc":      "a;b=c&d|1|c",
		"a%2F..%2Fb%7C1%7Cc":   "a/../b|1|c",
		"a%2F%2Fb%7C1%7Cc":     "a//b|1|c",
	} {
		if seen, w := p.get(t, sent); seen != want {
			t.Errorf("%s: the handler saw %q, want %q: %s", sent, seen, want, w.Body)
		}
	}
}

// The server on its socket does the same to the path as the handler alone.
func TestPathOverTCP(t *testing.T) {
	p := newPathProbe(t)
	for _, id := range []string{"a/b|1|c", "a%2Fb|1|c", "..|1|..", "a?b#c%|1|c", "a//b|1|/"} {
		p.do(t, http.MethodGet, "/v1/conversations/"+url.PathEscape(id), http.NoBody)
		if *p.seen != id {
			t.Errorf("%q arrived as %q", id, *p.seen)
		}
	}
	// Such a path is an id, and none to be cleaned.
	for _, path := range []string{"/v1/conversations/..", "/v1/conversations/%2E%2E", "/v1/conversations/."} {
		a := p.do(t, http.MethodGet, path, http.NoBody)
		if fields := a.failure(t, http.StatusBadRequest, "INVALID_REQUEST").fields(); fmt.Sprint(fields) != "[conversation_id]" {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}

func TestIDsOverGRPC(t *testing.T) {
	p := newPathProbe(t)
	for _, id := range []string{"a/b|1|c", "a%2Fb|1|c", "..|1|..", "a?b#c%|1|c", "a%7C|1|b"} {
		if _, err := p.running.get(t.Context(), id); err != nil || *p.seen != id {
			t.Errorf("%q arrived as %q: %v", id, *p.seen, err)
		}
	}
}

// FuzzPathID sends an id through the REST door. It arrives equal, or is refused
// with the name of its field.
func FuzzPathID(f *testing.F) {
	p := newPathProbe(f)
	for _, seed := range []string{"a|1|b", "a/b|1|c", "a%2Fb|1|c", "..", "", "a:b|1|:batchGet", "\xff", "\x00", "a?b#c|1|c", "a%", " "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		for _, sent := range []string{url.PathEscape(id), everyByte(id)} {
			seen, w := p.get(t, sent)
			switch {
			case w.Code == http.StatusOK && seen == id:
			case w.Code == http.StatusBadRequest && strings.Contains(w.Body.String(), `"field":"conversation_id"`):
			default:
				t.Errorf("%q sent as %s: the handler saw %q, answer %d %s", id, sent, seen, w.Code, w.Body)
			}
		}
	})
}

// everyByte encodes all bytes, needed or not.
func everyByte(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

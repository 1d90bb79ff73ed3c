package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Every rule in the protos is known to checkParameters under the name that the mux has
// for it.
func TestEveryRouteIsChecked(t *testing.T) {
	d := newTestDoor(t)
	for key, route := range d.routes {
		segments := []string{}
		for _, segment := range route.segments {
			if strings.HasPrefix(segment, "{") {
				segment = "1"
			}
			segments = append(segments, segment)
		}
		path := strings.Join(segments, "/") + route.suffix
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), route.verb, path+"?bogus=1", http.NoBody))
		if body := w.Body.String(); w.Code != http.StatusBadRequest || !strings.Contains(body, "MALFORMED_BODY") ||
			strings.Count(body, `"field"`) != 1 || !strings.Contains(body, `"field":"bogus"`) {
			t.Errorf("%s: %d %s", key, w.Code, body)
		}
	}
}

func TestAllow(t *testing.T) {
	all := newTestDoor(t).routes
	for path, want := range map[string]string{
		"/v1/conversations":          "[GET POST]",
		"/v1/conversations/a%2Fb":    "[DELETE GET PATCH]",
		"/v1/conversations:batchGet": "[POST]",
		"/v1/messages/7":             "[PATCH]",
		"/v1/messages/7:modify":      "[PATCH]", // an id that is not a number
	} {
		if got := fmt.Sprint(all.methods(path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestParseErrorOfUnknownForm(t *testing.T) {
	if text, field := explain([]byte(`{}`), errors.New("proto:\u00a0something new")); text != "something new" || field != "" {
		t.Errorf("%q, %q", text, field)
	}
}

func TestFieldAt(t *testing.T) {
	const data = `{"a":{"b":[{},{"c":"x","d":[1,2,{"e":null}]}]},"f":-1}`
	for part, want := range map[string]string{
		`"a"`:   "a",
		`{"b"`:  "a",
		`"b"`:   "a.b",
		`[{}`:   "a.b",
		`"c"`:   "a.b[1].c",
		`"x"`:   "a.b[1].c",
		`2,{`:   "a.b[1].d[1]",
		`"e"`:   "a.b[1].d[2].e",
		`null`:  "a.b[1].d[2].e",
		`"f"`:   "f",
		`-1`:    "f",
		`{"a":`: "",
	} {
		if got := fieldAt([]byte(data), int64(strings.Index(data, part))); got != want {
			t.Errorf("%s: %q, want %q", part, got, want)
		}
	}
	if got := fieldAt([]byte(data), int64(len(data))); got != "" {
		t.Errorf("beyond the end: %q", got)
	}
}

package server

import (
	"net/http"
	"strings"
	"testing"
)

// The last line of a stream reports whether it is complete.
func TestLastLineOfStreams(t *testing.T) {
	const (
		list  = "/v1/conversations:stream?account_id="
		send  = "/v1/conversations:sendStreamMessage"
		begin = `{"start":{"conversation_id":"alice|1|bob"},"text":"a"}` + "\n"
	)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		end                string
	}{
		"complete":           {http.MethodGet, list + "alice", "", 200, `{"status":{"code":0}}` + "\n"},
		"complete, both":     {http.MethodPost, send, begin + `{"text":"b"}`, 200, `{"status":{"code":0}}` + "\n"},
		"failed at once":     {http.MethodGet, list + "nobody", "", 404, `"reason":"ACCOUNT_NOT_FOUND"`},
		"half a body":        {http.MethodPost, send, begin + `{"text":`, 200, `"reason":"MALFORMED_BODY"`},
		"unknown field":      {http.MethodPost, send, begin + `{"txt":"b"}`, 200, `"reason":"MALFORMED_BODY"`},
		"unreadable at once": {http.MethodPost, send, `nope`, 400, `"reason":"MALFORMED_BODY"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, realAPI)
			a := r.do(t, c.method, c.path, strings.NewReader(c.body))
			lines := strings.SplitAfter(strings.TrimSuffix(a.body, "\n"), "\n")
			last := lines[len(lines)-1]
			if !strings.HasSuffix(a.body, c.end) && !strings.Contains(last, c.end) {
				t.Fatalf("ends in %q, want %q: %s", last, c.end, a.body)
			}
			if a.StatusCode != c.status || strings.Count(a.body, `"status"`)+strings.Count(a.body, `"reason"`) != 1 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			if c.status == http.StatusOK && !strings.HasPrefix(a.body, `{"result":`) {
				t.Errorf("begins with %q", lines[0])
			}
		})
	}
}

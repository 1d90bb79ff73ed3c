package attacks

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

const prefix = "/nimserver"

// A recorder is an upstream that notes what it was asked and answers what it was
// told to.
type recorder struct {
	*httptest.Server

	mu      sync.Mutex
	answers [][]byte // in turn; the last one again and again
	sent    []sent
	quiet   bool // notes nothing
}

// sent is one request as it arrived.
type sent struct {
	method string
	path   string // below the prefix, still encoded
	query  string // still encoded
	header http.Header
	body   []byte
}

func newRecorder(tb testing.TB) *recorder {
	tb.Helper()
	r := &recorder{answers: [][]byte{[]byte(`{"code":200,"msg":"success","data":{}}`)}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.record))
	tb.Cleanup(r.Close)
	return r
}

func (r *recorder) url() string { return r.URL + prefix }

func (r *recorder) record(w http.ResponseWriter, request *http.Request) {
	target, query, _ := strings.Cut(request.RequestURI, "?")
	if target == prefix+"/health/liveness.action" {
		return // a probe, which is no call
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	if !r.quiet {
		r.sent = append(r.sent, sent{request.Method, strings.TrimPrefix(target, prefix), query, request.Header, body})
	}
	answer := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	r.mu.Unlock()
	w.Header()["Content-Type"] = []string{"application/json;charset=utf-8"}
	_, _ = w.Write(answer)
}

// answer sets the answers to the next requests.
func (r *recorder) answer(answers ...[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = answers
}

// take returns the requests since the last take.
func (r *recorder) take() []sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.sent
	r.sent = nil
	return taken
}

// A rig is a facade in this process, in front of a recorder.
type rig struct {
	*recorder
	facade
}

func newRig(tb testing.TB, args ...string) *rig {
	tb.Helper()
	r := newRecorder(tb)
	return &rig{r, startFacade(tb, r.url(), args...)}
}

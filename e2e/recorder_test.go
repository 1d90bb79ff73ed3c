package e2e

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
)

// prefix stands before all paths of the recorded upstream: base URLs may have
// one, and an absolute path would lose it.
const prefix = "/nimserver"

// A recorder is an upstream that notes what it was asked and answers what it was
// told to.
type recorder struct {
	*httptest.Server

	mu       sync.Mutex
	answer   http.HandlerFunc
	requests []recorded
}

// recorded is one request as it arrived.
type recorded struct {
	method string
	path   string // below the prefix, still encoded
	query  url.Values
	header http.Header
	body   []byte
}

func newRecorder(tb testing.TB) *recorder {
	tb.Helper()
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(r.record))
	tb.Cleanup(r.Close)
	return r
}

func (r *recorder) record(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	target, rawQuery, _ := strings.Cut(request.RequestURI, "?")
	if target == prefix+"/health/liveness.action" {
		return // a probe, which is no call
	}
	path, ok := strings.CutPrefix(target, prefix)
	query, err := url.ParseQuery(rawQuery)
	if !ok || err != nil {
		http.Error(w, "cannot be recorded: "+request.RequestURI, http.StatusNotFound)
		return
	}
	r.mu.Lock()
	r.requests = append(r.requests, recorded{request.Method, path, query, request.Header, body})
	answer := r.answer
	r.mu.Unlock()
	answer(w, request)
}

// answerWith sets the answer to all requests from now on.
func (r *recorder) answerWith(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// answerBody sets the answer to HTTP 200 with a body.
func (r *recorder) answerBody(body string) {
	r.answerWith(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		_, _ = io.WriteString(w, body)
	})
}

// answerInTurn sets the answers to the next requests. Further ones are refused.
func (r *recorder) answerInTurn(exchanges []exchange) {
	next := make(chan exchange, len(exchanges))
	for _, x := range exchanges {
		next <- x
	}
	r.answerWith(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case x := <-next:
			w.Header().Set("Content-Type", "application/json;charset=utf-8")
			_, _ = w.Write(x.Response)
		default:
			http.Error(w, "no answer is left", http.StatusNotFound)
		}
	})
}

// answerData sets the answer to a success with the given data.
func (r *recorder) answerData(data string) {
	r.answerBody(`{"code":200,"msg":"success","data":` + data + `}`)
}

// take returns the requests since the last take.
func (r *recorder) take() []recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.requests
	r.requests = nil
	return taken
}

// one checks that there was one request since the last take.
func (r *recorder) one(tb testing.TB) {
	tb.Helper()
	if requests := r.take(); len(requests) != 1 {
		tb.Fatalf("the upstream got %d requests, want 1: %v", len(requests), requests)
	}
}

func (r recorded) traceID() string { return r.header.Get("X-custom-traceid") }

// checkSigned verifies the headers of a call by the vendor's definition: the
// SHA-1 of secret, nonce and time.
func (r recorded) checkSigned(tb testing.TB) {
	tb.Helper()
	nonce, curTime := r.header.Get("Nonce"), r.header.Get("CurTime")
	seconds, err := strconv.ParseInt(curTime, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		tb.Errorf("CurTime is %q", curTime)
	}
	if len(nonce) < 16 || len(nonce) > 128 {
		tb.Errorf("Nonce is %q", nonce)
	}
	sum := sha1.Sum([]byte(harness.AppSecret + nonce + curTime))
	if want := hex.EncodeToString(sum[:]); r.header.Get("CheckSum") != want {
		tb.Errorf("CheckSum is %q, want %q", r.header.Get("CheckSum"), want)
	}
	if have := r.header.Get("AppKey"); have != harness.AppKey {
		tb.Errorf("AppKey is %q", have)
	}
	if have := r.header.Get("Content-Type"); len(r.body) > 0 && !strings.HasPrefix(have, "application/json") {
		tb.Errorf("Content-Type is %q", have)
	}
}

// A rig is a facade in front of a recorded upstream.
type rig struct {
	*recorder
	*facade

	args []string // of the server
}

func newRig(tb testing.TB, args ...string) *rig {
	tb.Helper()
	r := newRecorder(tb)
	return &rig{r, startFacade(tb, append(harness.Upstream(tb, r.URL+prefix), args...)...), args}
}

// call makes a call through the named door.
func (r *rig) call(tb testing.TB, doorName, rpc, request string) *outcome {
	tb.Helper()
	o, err := r.try(tb.Context(), doorName, rpc, []byte(request))
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

// try is call where no testing.TB is at hand.
func (r *rig) try(ctx context.Context, doorName, rpc string, request []byte) (*outcome, error) {
	m, err := method(rpc)
	if err != nil {
		return nil, err
	}
	o, err := r.door(doorName).call(ctx, m, request)
	if err != nil {
		return nil, fmt.Errorf("%s over %s: %w", rpc, doorName, err)
	}
	return o, nil
}

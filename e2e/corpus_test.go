package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
)

// TestCorpus runs every case through both doors and compares what came back
// through one with the other. Cases that could also run against a live service do
// not depend on what happened before; for any other the sandbox begins anew.
func TestCorpus(t *testing.T) {
	t.Parallel()
	if live := liveService(t); live != nil {
		live.corpus(t)
		return
	}
	for file, cases := range loadCases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			// One for each door: what a call through one does is not seen
			// through the other.
			scenes, doors := map[string]*scene{}, map[string]door{}
			for _, name := range doorNames {
				scenes[name] = newScene(t)
				doors[name] = scenes[name].door(name)
			}
			for i := range cases {
				t.Run(cases[i].Name, func(t *testing.T) {
					for _, s := range scenes {
						if cases[i].Sandbox {
							s.reset(t)
						}
					}
					cases[i].compare(t, doors, vars{"unique": fmt.Sprintf("e2e%d", i)})
				})
			}
		})
	}
}

// TestCorpusV21 runs the cases again where the upstream says more: its paths of
// version v2.1. What holds for callers is the same.
func TestCorpusV21(t *testing.T) {
	t.Parallel()
	for file, cases := range loadCases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, "--api-version=v2.1")
			for i := range cases {
				if !cases[i].Sandbox {
					continue
				}
				t.Run(cases[i].Name, func(t *testing.T) {
					s.reset(t)
					if _, err := cases[i].run(t, s.door("grpc"), vars{}); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// A scene is a facade in front of the sandbox of the cases. The sandbox can begin
// anew, at a fraction of what it costs to start a server.
type scene struct {
	*facade

	seed    []byte
	sandbox atomic.Pointer[sandbox.Sandbox]
}

func newScene(tb testing.TB, args ...string) *scene {
	tb.Helper()
	seed, err := os.ReadFile("testdata/seed.json")
	if err != nil {
		tb.Fatal(err)
	}
	s := &scene{seed: seed}
	s.reset(tb)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.sandbox.Load().ServeHTTP(w, r)
	}))
	tb.Cleanup(upstream.Close)
	s.facade = startFacade(tb, append(append(harness.Upstream(tb, upstream.URL), args...), "--stream-interval=1ms")...)
	return s
}

// reset lets the sandbox begin anew.
func (s *scene) reset(tb testing.TB) {
	tb.Helper()
	fresh, err := sandbox.New(sandbox.Options{AppKey: harness.AppKey, AppSecret: harness.AppSecret, Seed: s.seed})
	if err != nil {
		tb.Fatal(err)
	}
	s.sandbox.Store(fresh)
}

// compare runs a case through both doors and compares what came of it.
func (c *testCase) compare(t *testing.T, doors map[string]door, v vars) {
	t.Helper()
	outcomes := map[string][]*outcome{}
	for _, name := range doorNames {
		own := vars{"alice": "alice", "bob": "bob"}
		maps.Copy(own, v)
		var err error
		if outcomes[name], err = c.run(t, doors[name], own); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for i := range c.Steps {
		if err := agree(outcomes[doorNames[0]][i], outcomes[doorNames[1]][i]); err != nil {
			t.Errorf("step %d, %s: %v", i+1, c.Steps[i].Call, err)
		}
	}
}

// run makes the calls of a case through a door.
func (c *testCase) run(tb testing.TB, d door, v vars) ([]*outcome, error) {
	tb.Helper()
	var all []*outcome
	for i := range c.Steps {
		s := &c.Steps[i]
		o, err := s.run(tb, d, v)
		if err != nil {
			return nil, fmt.Errorf("step %d, %s: %w", i+1, s.Call, err)
		}
		all = append(all, o)
	}
	return all, nil
}

func (s *step) run(tb testing.TB, d door, v vars) (*outcome, error) {
	tb.Helper()
	m, err := method(s.Call)
	if err != nil {
		return nil, err
	}
	o, err := s.call(tb.Context(), m, d, v)
	if err != nil {
		return nil, err
	}
	return o, s.verify(o, v)
}

func (s *step) call(ctx context.Context, m protoreflect.MethodDescriptor, d door, v vars) (*outcome, error) {
	if m.IsStreamingServer() {
		requests, err := s.stream(v)
		if err != nil {
			return nil, err
		}
		return d.stream(ctx, m, requests)
	}
	request, err := s.single(v)
	if err != nil {
		return nil, err
	}
	return d.call(ctx, m, request)
}

// TestCaseMistakes makes sure that a mistake in a case cannot pass for success.
func TestCaseMistakes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"unknown key":         "cases: [{case: c, steps: [{call: MessageService/GetMessage, reply: {}, repyl: {}}]}]",
		"unknown RPC":         "cases: [{case: c, steps: [{call: MessageService/Get, reply: {}}]}]",
		"no expectation":      "cases: [{case: c, steps: [{call: MessageService/GetMessage}]}]",
		"two expectations":    "cases: [{case: c, steps: [{call: MessageService/GetMessage, reply: {}, invalid: [a]}]}]",
		"error without cause": "cases: [{case: c, steps: [{call: MessageService/GetMessage, error: {code: NOT_FOUND}}]}]",
		"reply of a stream":   "cases: [{case: c, steps: [{call: MessageService/StreamMessages, reply: {}}]}]",
		"no stream":           "cases: [{case: c, steps: [{call: MessageService/GetMessage, replies: [{}]}]}]",
		"requests":            "cases: [{case: c, steps: [{call: MessageService/StreamMessages, requests: [{}], replies: [{}]}]}]",
		"one request":         "cases: [{case: c, steps: [{call: MessageService/SendStreamMessage, request: {}, replies: [{}]}]}]",
		"no steps":            "cases: [{case: c}]",
		"key twice":           "cases: [{case: c, case: d, steps: []}]",
	} {
		if _, err := parseCases([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// corpus runs the cases that need no particular state against a live service,
// one after the other: its rate limits are shared with others.
func (l *live) corpus(t *testing.T) {
	t.Helper()
	for file, cases := range loadCases(t) {
		for i := range cases {
			for _, name := range doorNames {
				t.Run(fmt.Sprintf("%s/%s/%s", filepath.Base(file), cases[i].Name, name), func(t *testing.T) {
					if cases[i].Sandbox {
						t.Skip("needs the sandbox")
					}
					if _, err := cases[i].run(t, l.door(name), l.vars()); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

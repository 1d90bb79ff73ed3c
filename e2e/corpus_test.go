package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// TestCorpus runs every case through both doors and compares what came back
// through one with the other. Cases that could also run against a live service do
// not depend on what happened before, so those of a file share their servers.
func TestCorpus(t *testing.T) {
	t.Parallel()
	if live := liveService(t); live != nil {
		live.corpus(t)
		return
	}
	for file, cases := range loadCases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			shared := startDoors(t)
			for i := range cases {
				t.Run(cases[i].Name, func(t *testing.T) {
					doors := shared
					if cases[i].Sandbox {
						doors = startDoors(t)
					}
					cases[i].compare(t, doors, vars{"unique": fmt.Sprintf("e2e%d", i)})
				})
			}
		})
	}
}

// startSandbox starts a server on the sandbox of the cases.
func startSandbox(tb testing.TB, args ...string) *facade {
	tb.Helper()
	return startFacade(tb, append([]string{"--sandbox", "--sandbox-seed=testdata/seed.json"}, args...)...)
}

// startDoors starts a server for each door, so that what a call through one does
// is not seen through the other.
func startDoors(tb testing.TB) map[string]door {
	tb.Helper()
	doors := map[string]door{}
	for _, name := range doorNames {
		doors[name] = startSandbox(tb).door(name)
	}
	return doors
}

// TestCorpusV21 runs the cases again where the upstream says more: its paths of
// version v2.1. What holds for callers is the same.
func TestCorpusV21(t *testing.T) {
	t.Parallel()
	for file, cases := range loadCases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			for i := range cases {
				if !cases[i].Sandbox {
					continue
				}
				t.Run(cases[i].Name, func(t *testing.T) {
					if _, err := cases[i].run(t, startSandbox(t, "--api-version=v2.1").door("grpc"), vars{}); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
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
	request := []byte("{}")
	if !s.Request.IsZero() {
		if request, err = jsonOf(&s.Request, v.expand); err != nil {
			return nil, err
		}
	}
	o, err := d.call(tb.Context(), m, request)
	if err != nil {
		return nil, err
	}
	return o, s.verify(o, v)
}

// TestEveryRPC fails for an RPC that was added without a case or without a wire
// vector.
func TestEveryRPC(t *testing.T) {
	t.Parallel()
	inCase, inVector := map[string]bool{}, map[string]bool{}
	for _, cases := range loadCases(t) {
		for _, c := range cases {
			for _, s := range c.Steps {
				inCase[s.Call] = inCase[s.Call] || !s.Reply.IsZero()
			}
		}
	}
	for _, v := range loadVectors(t) {
		inVector[v.RPC] = true
	}
	for _, name := range allMethods() {
		if !inCase[name] {
			t.Errorf("%s has no case with a reply: add one in e2e/cases", name)
		}
		if !inVector[name] {
			t.Errorf("%s has no wire vector: add one in e2e/testdata/wire", name)
		}
	}
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

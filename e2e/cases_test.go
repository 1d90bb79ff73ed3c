package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A caseFile is one file of the corpus.
type caseFile struct {
	Cases []testCase `yaml:"cases"`
}

// A testCase is a list of calls that build on each other. It does not say
// through which door they go.
type testCase struct {
	// Name says what the case shows.
	Name string `yaml:"case"`
	// Sandbox keeps the case from a live service: it needs the accounts and
	// teams of testdata/seed.json, or a state in which nothing has happened yet.
	Sandbox bool   `yaml:"sandbox"`
	Steps   []step `yaml:"steps"`
}

// A step is one call and what must come of it: a reply, an error, or a refusal
// of this service that names the fields. A stream has replies, and an error may
// come after them.
type step struct {
	Call     string            `yaml:"call"`
	Request  yaml.Node         `yaml:"request"`
	Requests yaml.Node         `yaml:"requests"`
	Reply    yaml.Node         `yaml:"reply"`
	Replies  yaml.Node         `yaml:"replies"`
	Error    *wantError        `yaml:"error"`
	Invalid  []string          `yaml:"invalid"`
	Save     map[string]string `yaml:"save"`
}

// wantError is an error's expected content; the fields must be exactly these.
type wantError struct {
	Code         string        `yaml:"code"`
	Reason       string        `yaml:"reason"`
	UpstreamCode string        `yaml:"upstream_code"`
	Fields       []string      `yaml:"fields"`
	RetryAfter   time.Duration `yaml:"retry_after"`
}

// expected returns the error that the step must end in, or nil.
func (s *step) expected() *wantError {
	if s.Invalid == nil {
		return s.Error
	}
	return &wantError{Code: "INVALID_ARGUMENT", Reason: "INVALID_REQUEST", Fields: s.Invalid}
}

// parseCases reads a case file. A key that it does not know is an error: a
// misspelt expectation would otherwise hold for ever.
func parseCases(text []byte) ([]testCase, error) {
	var file caseFile
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	for _, c := range file.Cases {
		if c.Name == "" || len(c.Steps) == 0 {
			return nil, fmt.Errorf("case %q: needs a name and steps", c.Name)
		}
		for i, s := range c.Steps {
			if err := s.check(); err != nil {
				return nil, fmt.Errorf("case %q, step %d: %w", c.Name, i+1, err)
			}
		}
	}
	return file.Cases, nil
}

func (s *step) check() error {
	m, err := method(s.Call)
	if err != nil {
		return err
	}
	reply, replies := !s.Reply.IsZero(), !s.Replies.IsZero()
	failures := 0
	for _, given := range []bool{reply, s.Error != nil, s.Invalid != nil} {
		if given {
			failures++
		}
	}
	switch {
	case m.IsStreamingServer() && reply, !m.IsStreamingServer() && replies:
		return errors.New("a stream has replies, any other call a reply")
	case m.IsStreamingClient() && !s.Request.IsZero(), !m.IsStreamingClient() && !s.Requests.IsZero():
		return errors.New("a stream in both directions has requests, any other call a request")
	case failures > 1, failures == 0 && !replies:
		return errors.New("needs a reply, an error or invalid, and only one of them")
	case s.Save != nil && !reply && !replies:
		return errors.New("only a reply can be saved from")
	case s.Error != nil && s.Error.Reason == "":
		return errors.New("an error needs a reason")
	}
	return nil
}

// loadCases reads the whole corpus, by file.
func loadCases(tb testing.TB) map[string][]testCase {
	tb.Helper()
	names, err := filepath.Glob("cases/*.yaml")
	if err != nil || len(names) == 0 {
		tb.Fatalf("no cases: %v", err)
	}
	all := map[string][]testCase{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		if all[name], err = parseCases(text); err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

// verify compares an outcome with what the step expects, and keeps what later
// steps need.
func (s *step) verify(o *outcome, v vars) error {
	if err := s.verifyStream(o, v); err != nil {
		return fmt.Errorf("%w\nin %v", err, o)
	}
	if want := s.expected(); want != nil {
		return want.verify(o)
	}
	if o.status != nil {
		return fmt.Errorf("failed: %v", o)
	}
	if s.Reply.IsZero() {
		return nil
	}
	expected, err := jsonOf(&s.Reply, v.expand)
	if err != nil {
		return err
	}
	if err := contains(o.reply, expected); err != nil {
		return fmt.Errorf("%w\nin %v", err, o)
	}
	for name, path := range s.Save {
		if v[name], err = pick(o.reply, path); err != nil {
			return fmt.Errorf("%w\nin %v", err, o)
		}
	}
	return nil
}

func (w *wantError) verify(o *outcome) error {
	if o.status == nil {
		return fmt.Errorf("want %s, have %v", w.Reason, o)
	}
	code, err := codeNamed(w.Code)
	if err != nil {
		return err
	}
	fields := slices.Sorted(slices.Values(w.Fields))
	switch {
	case o.status.Code() != code || o.info().GetReason() != w.Reason:
		return fmt.Errorf("want %s %s, have %v", w.Code, w.Reason, o)
	case o.info().GetMetadata()["upstream_code"] != w.UpstreamCode:
		return fmt.Errorf("want upstream code %q, have %v", w.UpstreamCode, o)
	case !slices.Equal(o.fields(), fields):
		return fmt.Errorf("want fields %q, have %v", fields, o)
	case o.retry().GetRetryDelay().AsDuration() < w.RetryAfter || o.retry().GetRetryDelay().AsDuration() > 2*w.RetryAfter:
		return fmt.Errorf("want a retry after %s, or up to twice that, have %s: %v", w.RetryAfter, o.retry().GetRetryDelay().AsDuration(), o)
	}
	return nil
}

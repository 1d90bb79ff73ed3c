package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxProblems are reported of one file: more do not help, and would fill the log.
const maxProblems = 20

// A walk reads the nodes of a YAML file and collects all that is wrong, each with
// its line. Decoding into structs would do less: it ignores null, takes the last
// of two equal keys, and knows no line of what breaks a rule.
//
// Values are taken as they were written: an id such as 12345678 is no number. They
// are not repeated in errors where somebody may have pasted a key.
type walk struct {
	problems []error
	more     int
}

func (w *walk) failf(n *yaml.Node, format string, args ...any) {
	if len(w.problems) == maxProblems {
		w.more++
		return
	}
	w.problems = append(w.problems, fmt.Errorf("line "+strconv.Itoa(n.Line)+": "+format, args...))
}

func (w *walk) err() error {
	if w.more > 0 {
		w.problems, w.more = append(w.problems, fmt.Errorf("and %d more", w.more)), 0
	}
	return errors.Join(w.problems...)
}

// fields returns the values of a mapping that takes these keys and no others, and
// nil for what is no mapping.
func (w *walk) fields(n *yaml.Node, known ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		w.failf(n, "must be a mapping, with the keys %s", strings.Join(known, ", "))
		return nil
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch _, twice := values[key.Value]; {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
			w.failf(key, "unknown key %s: there are %s", quote(key.Value), strings.Join(known, ", "))
		case twice:
			w.failf(key, "%s is given twice", key.Value)
		default:
			values[key.Value] = value
		}
	}
	return values
}

// items returns the items of a list. Without a value there are none, but a null,
// as it is left when all items are commented out, is not a list: whether it would
// mean none or all nobody should have to guess.
func (w *walk) items(n *yaml.Node) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		w.failf(n, "must be a list; [] is an empty one")
		return nil
	}
	return n.Content
}

// text returns a value, which must not be empty. Without one it is "" and not ok.
func (w *walk) text(n *yaml.Node) (text string, ok bool) {
	if n == nil {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
		w.failf(n, "must be a plain value that is not empty")
		return "", false
	}
	return n.Value, true
}

// required is text for a key that a mapping must have.
func (w *walk) required(mapping *yaml.Node, values map[string]*yaml.Node, key string) (text string, ok bool) {
	if values[key] == nil {
		w.failf(mapping, "%s is missing", key)
	}
	return w.text(values[key])
}

// time returns a time; without one it is zero.
func (w *walk) time(n *yaml.Node) time.Time {
	text, ok := w.text(n)
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		w.failf(n, "must be a time such as 2027-01-01T00:00:00Z")
	}
	return t
}

// quote shows a text in an error, cut short: it may be anything, and should not
// be a secret that somebody has put into the wrong place.
func quote(text string) string {
	const most = 40
	switch {
	case strings.Contains(text, keyPrefix):
		return redacted
	case len(text) > most:
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}

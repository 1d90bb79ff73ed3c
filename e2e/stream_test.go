package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// single makes the request of a step that has one.
func (s *step) single(v vars) ([]byte, error) {
	if s.Request.IsZero() {
		return []byte("{}"), nil
	}
	return jsonOf(&s.Request, v.expand)
}

// stream makes the requests of a step whose replies are a stream. Of requests in
// the plural, the reply at the same place answers one, unless it is null.
func (s *step) stream(v vars) ([]frame, error) {
	if s.Requests.IsZero() {
		one, err := s.single(v)
		return []frame{{json: one}}, err
	}
	sent, err := listOf(&s.Requests, v)
	if err != nil {
		return nil, err
	}
	replies, err := listOf(&s.Replies, v)
	if err != nil {
		return nil, err
	}
	requests := make([]frame, len(sent))
	for i := range sent {
		requests[i] = frame{json: sent[i], answered: i < len(replies) && string(replies[i]) != "null"}
	}
	return requests, nil
}

// verifyStream compares the replies of a stream with those that the step expects,
// and keeps what later steps need.
func (s *step) verifyStream(o *outcome, v vars) error {
	list, err := listOf(&s.Replies, v)
	if err != nil {
		return err
	}
	var expected []json.RawMessage
	for _, item := range list {
		if string(item) != "null" {
			expected = append(expected, item)
		}
	}
	if len(o.replies) != len(expected) {
		return fmt.Errorf("%d replies, want %d", len(o.replies), len(expected))
	}
	for i, item := range expected {
		if err := contains(o.replies[i], item); err != nil {
			return fmt.Errorf("[%d] %w", i, err)
		}
	}
	if s.Replies.IsZero() {
		return nil
	}
	for name, path := range s.Save {
		place, path, _ := strings.Cut(path, ".")
		i, err := strconv.Atoi(place)
		if err != nil || i >= len(o.replies) {
			return fmt.Errorf("there is no reply %s", place)
		}
		if v[name], err = pick(o.replies[i], path); err != nil {
			return err
		}
	}
	return nil
}

// listOf is the list that a YAML value stands for, empty if there is none.
func listOf(n *yaml.Node, v vars) (list []json.RawMessage, err error) {
	if n.IsZero() {
		return nil, nil
	}
	text, err := jsonOf(n, v.expand)
	if err != nil {
		return nil, err
	}
	return list, json.Unmarshal(text, &list)
}

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// jsonOf writes a YAML value as JSON. Scalars are copied, never computed: an
// int64 or a decimal fraction keeps the digits it was written with. Texts pass
// through expand. A mapping {$times: n, $item: x} is a list of n times x, in
// which ${i} counts from 0.
func jsonOf(n *yaml.Node, expand func(string) (string, error)) ([]byte, error) {
	w := jsonWriter{expand: expand}
	if err := w.value(n); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

type jsonWriter struct {
	bytes.Buffer

	expand func(string) (string, error)
}

func (w *jsonWriter) value(n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		if len(n.Content) > 0 && n.Content[0].Value == "$times" {
			return w.times(n)
		}
		return w.mapping(n)
	case yaml.SequenceNode:
		return w.list(len(n.Content), func(i int) error { return w.value(n.Content[i]) })
	case yaml.AliasNode:
		return w.value(n.Alias)
	case yaml.ScalarNode:
		return w.scalar(n)
	default:
		return at(n, "not a value")
	}
}

func (w *jsonWriter) mapping(n *yaml.Node) error {
	seen := map[string]bool{}
	w.WriteByte('{')
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Tag != "!!str" || seen[key.Value] {
			return at(key, "key %q is no text or stands here twice", key.Value)
		}
		seen[key.Value] = true
		if i > 0 {
			w.WriteByte(',')
		}
		w.text(key.Value)
		w.WriteByte(':')
		if err := w.value(n.Content[i+1]); err != nil {
			return err
		}
	}
	w.WriteByte('}')
	return nil
}

func (w *jsonWriter) list(n int, item func(int) error) error {
	w.WriteByte('[')
	for i := range n {
		if i > 0 {
			w.WriteByte(',')
		}
		if err := item(i); err != nil {
			return err
		}
	}
	w.WriteByte(']')
	return nil
}

func (w *jsonWriter) times(n *yaml.Node) error {
	if len(n.Content) != 4 || n.Content[2].Value != "$item" {
		return at(n, "want {$times: n, $item: x}")
	}
	count, err := strconv.Atoi(n.Content[1].Value)
	if err != nil {
		return at(n, "$times: %v", err)
	}
	outer := w.expand
	defer func() { w.expand = outer }()
	return w.list(count, func(i int) error {
		w.expand = func(s string) (string, error) { return outer(counted(s, i)) }
		return w.value(n.Content[3])
	})
}

func (w *jsonWriter) scalar(n *yaml.Node) error {
	switch n.Tag {
	case "!!str", "!!timestamp":
		s, err := w.expand(n.Value)
		if err != nil {
			return at(n, "%v", err)
		}
		w.text(s)
	case "!!int", "!!float":
		if !json.Valid([]byte(n.Value)) { // 0x10, 1_000, .5, .inf
			return at(n, "%s is not a number in JSON", n.Value)
		}
		w.WriteString(n.Value)
	case "!!bool":
		if n.Value != "true" && n.Value != "false" {
			return at(n, "write true or false")
		}
		w.WriteString(n.Value)
	case "!!null":
		w.WriteString("null")
	default:
		return at(n, "JSON has no %s", n.Tag)
	}
	return nil
}

func (w *jsonWriter) text(s string) {
	literal, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has JSON
	}
	w.Write(literal)
}

func at(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", n.Line, fmt.Errorf(format, args...))
}

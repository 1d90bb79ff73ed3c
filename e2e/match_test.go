package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// contains checks that a reply has everything that an expectation names: a
// field has the given value and is present, a list has the given number of
// items, and what is expected to be null is absent. Fields that are not named
// may be anything. Values are compared as the proto's types, never as floats.
func contains(reply proto.Message, expected []byte) error {
	want := reply.ProtoReflect().New()
	if err := protojson.Unmarshal(expected, want.Interface()); err != nil {
		return fmt.Errorf("the expectation does not fit: %w", err)
	}
	return containsMessage("reply", reply.ProtoReflect(), want, expected)
}

func containsMessage(path string, have, want protoreflect.Message, expected []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(expected, &members); err != nil { // not an object: a time
		return same(path, proto.Equal(have.Interface(), want.Interface()), have.Interface(), want.Interface())
	}
	for name, raw := range members {
		fd := fieldNamed(have.Descriptor(), name)
		if fd == nil {
			return fmt.Errorf("%s has no field %s", path, name)
		}
		inner := path + "." + name
		switch {
		case string(raw) == "null":
			if have.Has(fd) {
				return fmt.Errorf("%s: must be absent, is %v", inner, have.Get(fd))
			}
		case fd.IsList():
			if err := containsList(inner, fd, have.Get(fd).List(), want.Get(fd).List(), raw); err != nil {
				return err
			}
		case fd.HasPresence() && !have.Has(fd):
			return fmt.Errorf("%s: is absent, want %s", inner, raw)
		case fd.Message() != nil && !fd.IsMap():
			if err := containsMessage(inner, have.Get(fd).Message(), want.Get(fd).Message(), raw); err != nil {
				return err
			}
		default:
			if err := same(inner, have.Get(fd).Equal(want.Get(fd)), have.Get(fd), want.Get(fd)); err != nil {
				return err
			}
		}
	}
	return nil
}

func containsList(path string, fd protoreflect.FieldDescriptor, have, want protoreflect.List, expected []byte) error {
	var items []json.RawMessage
	if err := json.Unmarshal(expected, &items); err != nil {
		return err
	}
	if have.Len() != len(items) {
		return fmt.Errorf("%s: has %d items, want %d", path, have.Len(), len(items))
	}
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		err := same(at, have.Get(i).Equal(want.Get(i)), have.Get(i), want.Get(i))
		if fd.Message() != nil {
			err = containsMessage(at, have.Get(i).Message(), want.Get(i).Message(), item)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func same(path string, equal bool, have, want any) error {
	if equal {
		return nil
	}
	return fmt.Errorf("%s: is %v, want %v", path, have, want)
}

func fieldNamed(desc protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := desc.Fields().ByTextName(name); fd != nil {
		return fd
	}
	return desc.Fields().ByJSONName(name)
}

// pick returns the value at a path such as "results.0.conversation.sort_order",
// as text. A value that is absent or zero is an error: nothing worth keeping.
func pick(reply proto.Message, path string) (string, error) {
	value := protoreflect.ValueOfMessage(reply.ProtoReflect())
	var fd protoreflect.FieldDescriptor
	for step := range strings.SplitSeq(path, ".") {
		missing := fmt.Errorf("%s: nothing at %q", path, step)
		if list, ok := value.Interface().(protoreflect.List); ok {
			i, err := strconv.Atoi(step)
			if err != nil || i >= list.Len() {
				return "", missing
			}
			value = list.Get(i)
			continue
		}
		m, ok := value.Interface().(protoreflect.Message)
		if !ok {
			return "", missing
		}
		if fd = fieldNamed(m.Descriptor(), step); fd == nil || !m.Has(fd) {
			return "", missing
		}
		value = m.Get(fd)
	}
	if m, ok := value.Interface().(protoreflect.Message); ok {
		ts, ok := m.Interface().(*timestamppb.Timestamp)
		if !ok {
			return "", fmt.Errorf("%s: is no single value", path)
		}
		return ts.AsTime().Format(time.RFC3339Nano), nil
	}
	return value.String(), nil
}

// exact parses JSON without losing a digit: numbers stay text.
func exact(tb testing.TB, text []byte) any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("not JSON: %v\n%s", err, text)
	}
	if d.More() {
		tb.Fatalf("more than one JSON value: %s", text)
	}
	return v
}

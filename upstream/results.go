package upstream

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// results reads one of the two lists in which a batch answers.
func (d *decoder) results(s slot, array []byte, list protoreflect.List) error {
	if s.failed && array[0] == '{' {
		return d.lists(s, array, list)
	}
	if array[0] != '[' {
		return fmt.Errorf("want an array, have %s", excerpt(array))
	}
	for element := range elements(array) {
		if isNull(element) {
			continue
		}
		if s.failed && element[0] == '{' && holdsLists(element) {
			if err := d.lists(s, element, list); err != nil {
				return err
			}
			continue
		}
		v := list.NewElement()
		if err := d.result(s, element, v.Message()); err != nil {
			return fmt.Errorf("[%d]: %w", list.Len(), err)
		}
		list.Append(v)
	}
	return nil
}

// lists reads the items that failed out of lists by kind, in which one operation
// is said to answer.
func (d *decoder) lists(s slot, object []byte, list protoreflect.List) error {
	for name, value := range members(object) {
		if value[0] != '[' {
			continue
		}
		if err := d.results(s, value, list); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func holdsLists(object []byte) bool {
	for _, value := range members(object) {
		if value[0] == '[' {
			return true
		}
	}
	return false
}

func (d *decoder) result(s slot, item []byte, m protoreflect.Message) error {
	p := s.message
	object := item[0] == '{'
	switch {
	case !object && !p.key.isAbsent(item):
		if err := d.single(p.key, item, m); err != nil {
			return err
		}
	case !object: // a nameless item
	case s.failed:
		if err := d.slots(p, item, m); err != nil {
			return err
		}
	default:
		return d.object(p, item, m)
	}
	if s.failed {
		var code int64
		var message string
		if object {
			code, message = failure(item)
		}
		m.Set(p.failed.FieldDescriptor, protoreflect.ValueOfMessage(d.status(code, message).ProtoReflect()))
	}
	return nil
}

// failure reads why an item failed, under either of the documented names.
func failure(item []byte) (code int64, message string) {
	for name, value := range members(item) {
		if isNull(value) {
			continue
		}
		switch name {
		case "error_code", "code":
			code, _ = integer(value, 64)
		case "error_msg", "msg":
			message = text(value)
		}
	}
	return code, message
}

package codec

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// results reads one of the two lists in which a batch answers into a field of m.
// One operation is said to answer with the items that failed in lists by kind:
// a list of such a name may have a field of its own, named name.kind.
func (d *decoder) results(p *plan, name string, value []byte, m protoreflect.Message) error {
	s := p.slots[name]
	if s.failed && s.message.isContainer(value) {
		for kind, list := range members(value) {
			if err := d.kind(p, name, kind, list, m); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
		return nil
	}
	if value[0] != '[' {
		return fmt.Errorf("want an array, have %s", excerpt(value))
	}
	list := m.Mutable(s.FieldDescriptor).List()
	for element := range elements(value) {
		var err error
		switch {
		case isNull(element):
		case s.failed && s.message.isContainer(element):
			err = d.results(p, name, element, m)
		default:
			v := list.NewElement()
			if err = d.result(s, element, v.Message()); err == nil {
				list.Append(v)
			}
		}
		if err != nil {
			return fmt.Errorf("[%d]: %w", list.Len(), err)
		}
	}
	return nil
}

// kind reads one list of a container.
func (d *decoder) kind(p *plan, name, kind string, list []byte, m protoreflect.Message) error {
	if list[0] != '[' {
		return nil
	}
	if own := name + "." + kind; p.slots[own].field != nil {
		name = own
	}
	return d.results(p, name, list, m)
}

// isContainer tells an object of lists from an item that failed, which has a
// name or a code.
func (p *plan) isContainer(value []byte) bool {
	if value[0] != '{' {
		return false
	}
	holdsList := false
	for name, v := range members(value) {
		s, ok := p.slots[name]
		if ok && s.field == p.key || name == "error_code" || name == "code" {
			return false
		}
		holdsList = holdsList || v[0] == '['
	}
	return holdsList
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

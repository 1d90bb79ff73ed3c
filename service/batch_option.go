package service

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// newBatch reads the option batch of a method.
func newBatch(m protoreflect.MethodDescriptor) (*batch, error) {
	option, _ := proto.GetExtension(m.Options(), upstreamv1.E_Batch).(*upstreamv1.Batch)
	b := &batch{limit: int(option.GetLimit()), group: option.GetGroupBy()}
	var err error
	if b.reply, err = replyType(m); err == nil {
		err = errors.Join(b.findItems(m, option), b.findResults(m))
	}
	if err == nil {
		err = b.check(m)
	}
	if err != nil {
		return nil, fmt.Errorf("batch of %s: %w", m.FullName(), err)
	}
	return b, nil
}

// check reports what does not fit together.
func (b *batch) check(m protoreflect.MethodDescriptor) error {
	kind := b.keyField().Kind()
	switch {
	case kind != b.name.Kind():
		return fmt.Errorf("items are named by %s, results by %s", kind, b.name.Kind())
	case kind != protoreflect.StringKind && kind != protoreflect.Int64Kind:
		return fmt.Errorf("items are named by %s: it must be string or int64", kind)
	case b.limit < 0:
		return errors.New("limit is negative")
	case b.limit > 0 && m.Output().Fields().Len() > 1:
		return fmt.Errorf("a limit divides the call, and %s holds more than results", m.Output().FullName())
	case b.group != upstreamv1.GroupBy_GROUP_BY_UNSPECIFIED && (b.limit == 0 || kind != protoreflect.StringKind):
		return errors.New("group_by is for items with a limit that are named by texts")
	}
	return nil
}

// keyField returns the field that names an item.
func (b *batch) keyField() protoreflect.FieldDescriptor {
	if b.key != nil {
		return b.key
	}
	return b.items[len(b.items)-1]
}

func (b *batch) findItems(m protoreflect.MethodDescriptor, option *upstreamv1.Batch) error {
	message := m.Input()
	for name := range strings.SplitSeq(option.GetItems(), ".") {
		if message == nil {
			return fmt.Errorf("%q goes through what is no message", option.GetItems())
		}
		f := message.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return fmt.Errorf("%s has no field %q", message.FullName(), name)
		}
		if len(b.items) > 0 && b.items[len(b.items)-1].IsList() {
			return fmt.Errorf("%q goes through a list", option.GetItems())
		}
		b.items, message = append(b.items, f), f.Message()
	}
	last := b.items[len(b.items)-1]
	switch {
	case !last.IsList():
		return fmt.Errorf("%s is no list", last.FullName())
	case (message == nil) != (option.GetKey() == ""):
		return errors.New("key is for items that are messages")
	case message == nil:
		return nil
	}
	if b.key = message.Fields().ByName(protoreflect.Name(option.GetKey())); b.key == nil {
		return fmt.Errorf("%s has no field %q", message.FullName(), option.GetKey())
	}
	return nil
}

// findResults finds the list of results in the reply.
func (b *batch) findResults(m protoreflect.MethodDescriptor) error {
	b.results = m.Output().Fields().ByName("results")
	if b.results == nil || !b.results.IsList() || b.results.Message() == nil {
		return fmt.Errorf("%s has no list of messages named results", m.Output().FullName())
	}
	fields := b.results.Message().Fields()
	b.name, b.error = fields.Get(0), fields.ByName("error")
	if b.error == nil || b.error.IsList() || b.error.Message() == nil || b.error.Message().FullName() != "google.rpc.Status" {
		return fmt.Errorf("%s has no google.rpc.Status named error", b.results.Message().FullName())
	}
	return nil
}

package upstream

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// Merge says when reads of single items are answered by one call of a batch.
type Merge string

// When reads are merged.
const (
	MergeNever   Merge = "never" // also if empty
	MergePressed Merge = "auto"  // while the quota of the single read is nearly used up
	MergeAlways  Merge = "always"
)

// mergedRead answers calls of a method that reads one item by calls of one that reads
// many, as the option batch of the latter says.
type mergedRead struct {
	batcher batcher[protoreflect.Message]
	when    Merge
	single  string // the method that reads one item
	batch   string // the method that reads many

	item  protoreflect.FieldDescriptor // of the single request
	into  protoreflect.FieldDescriptor // of the single reply
	items protoreflect.FieldDescriptor // of the batch request
	list  protoreflect.FieldDescriptor // of the batch reply: the results
	found protoreflect.FieldDescriptor // of a result: what the single reply has
	in    protoreflect.MessageType     // of the batch
	out   protoreflect.MessageType
}

// newMergedReads finds the methods that a batch method names as its single form.
func (c *Conn) newMergedReads(services []protoreflect.ServiceDescriptor, when Merge) (map[string]*mergedRead, error) {
	reads := make(map[string]*mergedRead)
	if when == "" || when == MergeNever {
		return reads, nil
	}
	for _, service := range services {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			option, _ := proto.GetExtension(method.Options(), upstreamv1.E_Batch).(*upstreamv1.Batch)
			if option.GetSingle() == "" {
				continue
			}
			r := &mergedRead{when: when}
			if err := r.describe(method, option); err != nil {
				return nil, fmt.Errorf("batch of %s: %w", method.FullName(), err)
			}
			r.batcher.limit = int(option.GetLimit())
			r.batcher.call = func(ctx context.Context, items []string) (map[string]protoreflect.Message, error) {
				return r.call(ctx, c, items)
			}
			reads[r.single] = r
		}
	}
	return reads, nil
}

// wanted reports whether a read should be merged. Callers with a quota share read
// alone: what they do together with others would be kept to their share as well.
func (r *mergedRead) wanted(ctx context.Context, c *Conn) bool {
	if infoOf(ctx).HasShare() {
		return false
	}
	return r.when == MergeAlways || c.quotas[r.single].Pressed()
}

// get reads one item together with others, or returns false.
func (r *mergedRead) get(ctx context.Context, request, reply proto.Message) (done bool, err error) {
	value, done, err := r.batcher.get(ctx, request.ProtoReflect().Get(r.item).String())
	if done && err == nil {
		proto.Reset(reply)
		reply.ProtoReflect().Set(r.into, protoreflect.ValueOfMessage(proto.Clone(value.Interface()).ProtoReflect()))
	}
	return done, err
}

// call reads some items. It leaves out those that it did not get: the error of an item
// of a batch is not that of a read of one.
func (r *mergedRead) call(ctx context.Context, c *Conn, items []string) (map[string]protoreflect.Message, error) {
	request, reply := r.in.New(), r.out.New()
	list := request.Mutable(r.items).List()
	for _, item := range items {
		list.Append(protoreflect.ValueOfString(item))
	}
	if err := c.Invoke(ctx, r.batch, request.Interface(), reply.Interface()); err != nil {
		return nil, err
	}
	values := make(map[string]protoreflect.Message, len(items))
	results := reply.Get(r.list).List()
	for i := range results.Len() {
		result := results.Get(i).Message()
		if result.Has(r.found) {
			values[fold(result.Get(result.Descriptor().Fields().Get(0)).String())] = result.Get(r.found).Message()
		}
	}
	return values, nil
}

// describe finds the fields by which a batch method and its single form are the same.
func (r *mergedRead) describe(method protoreflect.MethodDescriptor, option *upstreamv1.Batch) error {
	service, ok := method.Parent().(protoreflect.ServiceDescriptor)
	single := service.Methods().ByName(protoreflect.Name(option.GetSingle()))
	if !ok || single == nil {
		return fmt.Errorf("%s has no method %q", method.Parent().FullName(), option.GetSingle())
	}
	r.single = fmt.Sprintf("/%s/%s", service.FullName(), single.Name())
	r.batch = fmt.Sprintf("/%s/%s", service.FullName(), method.Name())
	r.in, r.out = messageType(method.Input()), messageType(method.Output())
	r.items = method.Input().Fields().ByName(protoreflect.Name(option.GetItems()))
	if r.items == nil || !r.items.IsList() || r.items.Kind() != protoreflect.StringKind || method.Input().Fields().Len() != 1 {
		return errors.New("only a request with nothing but a list of ids can stand for single reads")
	}
	if single.Input().Fields().Len() != 1 || single.Output().Fields().Len() != 1 {
		return fmt.Errorf("%s must have one field in its request and one in its reply", single.FullName())
	}
	r.item, r.into = single.Input().Fields().Get(0), single.Output().Fields().Get(0)
	for i := range method.Output().Fields().Len() {
		list := method.Output().Fields().Get(i)
		if !list.IsList() || list.Message() == nil {
			continue
		}
		for j := range list.Message().Fields().Len() {
			if f := list.Message().Fields().Get(j); f.Message() != nil && f.Message() == r.into.Message() {
				r.list, r.found = list, f
			}
		}
	}
	if r.item.Kind() != protoreflect.StringKind || r.found == nil || option.GetLimit() <= 0 {
		return fmt.Errorf("no result holds what %s replies, or there is no limit", single.FullName())
	}
	return nil
}

// messageType returns the generated type of a message, or a dynamic one in tests.
func messageType(desc protoreflect.MessageDescriptor) protoreflect.MessageType {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(desc.FullName()); err == nil {
		return t
	}
	return dynamicpb.NewMessageType(desc)
}

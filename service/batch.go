package service

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// batchConcurrency is how many calls of one batch are in progress at a time: enough to
// hide the latency of the upstream, few enough to leave its rate limit to others.
const batchConcurrency = 8

// batch carries out a request about many items in calls of a few, as the option batch
// of the method says.
type batch struct {
	items   []protoreflect.FieldDescriptor // the path to the list of items
	key     protoreflect.FieldDescriptor   // of an item that is a message
	limit   int                            // items of a call; 0: all
	group   upstreamv1.GroupBy
	results protoreflect.FieldDescriptor // of the reply
	name    protoreflect.FieldDescriptor // of a result: its item
	error   protoreflect.FieldDescriptor // of a result
	reply   protoreflect.MessageType
}

type partCall = func(context.Context, proto.Message) (proto.Message, error)

// run answers every item once, in the order of the request.
func (b *batch) run(ctx context.Context, request proto.Message, call partCall) (proto.Message, error) {
	if b.limit == 0 {
		reply, err := call(ctx, request)
		if err != nil {
			return nil, err
		}
		known := make(results)
		known.addAll(b, reply)
		b.answer(reply, b.keys(request), known)
		return reply, nil
	}
	items := b.list(request.ProtoReflect())
	keys := b.keys(request)
	parts := b.parts(keys)
	replies, errs := b.callAll(ctx, request, items, parts, call)
	if allAlike(errs) {
		return nil, errs[0]
	}
	known := make(results)
	for i, part := range parts {
		if errs[i] == nil {
			known.addAll(b, replies[i])
			continue
		}
		for _, at := range part {
			known.add(keys[at], b.failure(keys[at], errs[i]))
		}
	}
	reply := b.reply.New().Interface()
	b.answer(reply, keys, known)
	return reply, nil
}

// callAll makes the calls of all parts, few at a time.
func (b *batch) callAll(ctx context.Context, request proto.Message, items protoreflect.List, parts [][]int, call partCall) ([]proto.Message, []error) {
	replies, errs := make([]proto.Message, len(parts)), make([]error, len(parts))
	rest := b.without(request)
	var calls errgroup.Group
	calls.SetLimit(batchConcurrency)
	for i, part := range parts {
		calls.Go(func() error {
			of := proto.Clone(rest)
			list := b.list(of.ProtoReflect())
			for _, at := range part {
				list.Append(items.Get(at))
			}
			replies[i], errs[i] = call(ctx, of)
			return nil
		})
	}
	_ = calls.Wait() // errors are in errs
	return replies, errs
}

// allAlike reports whether all parts failed for one reason. Then the request fails for
// it. If reasons differ, none may speak for the others: "nothing was sent" is not true
// of a part whose answer was lost. If a part succeeded, the others fail by themselves.
func allAlike(errs []error) bool {
	if len(errs) == 0 || slices.Contains(errs, nil) {
		return false
	}
	first := reasonOf(errs[0])
	return !slices.ContainsFunc(errs, func(err error) bool { return reasonOf(err) != first })
}

// reasonOf returns the reason of an error, or its code if it says none.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*apierror.Error](err); ok {
		return e.Reason
	}
	return status.Code(err).String()
}

// without returns a copy of a request that has no items.
func (b *batch) without(request proto.Message) proto.Message {
	m := request.ProtoReflect()
	list := b.list(m)
	held := make([]protoreflect.Value, list.Len())
	for i := range held {
		held[i] = list.Get(i)
	}
	list.Truncate(0)
	rest := proto.Clone(request)
	for _, item := range held {
		list.Append(item)
	}
	return rest
}

// list returns the items of a request.
func (b *batch) list(m protoreflect.Message) protoreflect.List {
	last := len(b.items) - 1
	for _, f := range b.items[:last] {
		if !m.Has(f) {
			return m.NewField(f).Message().NewField(b.items[last]).List()
		}
		m = m.Get(f).Message()
	}
	return m.Mutable(b.items[last]).List()
}

// keys returns what names the items: texts or integers.
func (b *batch) keys(request proto.Message) []any {
	list := b.list(request.ProtoReflect())
	keys := make([]any, list.Len())
	for i := range keys {
		item := list.Get(i)
		if b.key != nil {
			item = item.Message().Get(b.key)
		}
		keys[i] = item.Interface()
	}
	return keys
}

// parts splits items, by their place, into what one call takes. Items given twice are
// asked for once: a message must not be sent twice.
func (b *batch) parts(keys []any) [][]int {
	var parts [][]int
	open := make(map[string]int) // by group: the part that takes more
	seen := make(map[any]bool, len(keys))
	for at, key := range keys {
		if seen[fold(key)] {
			continue
		}
		seen[fold(key)] = true
		group := b.groupOf(key)
		i, ok := open[group]
		if !ok || len(parts[i]) == b.limit {
			i = len(parts)
			open[group] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], at)
	}
	return parts
}

// groupOf returns what items must have in common to be in one call.
func (b *batch) groupOf(key any) string {
	id, _ := key.(string)
	if b.group != upstreamv1.GroupBy_GROUP_BY_CONVERSATION_OWNER {
		return ""
	}
	owner, _, _ := strings.Cut(id, "|")
	return strings.ToLower(owner)
}

// answer gives each item its result, named as the request named it.
func (b *batch) answer(reply proto.Message, keys []any, known results) {
	list := reply.ProtoReflect().Mutable(b.results).List()
	list.Truncate(0)
	for _, key := range keys {
		result, ok := known[key]
		if !ok {
			if result, ok = known[fold(key)]; ok {
				result = proto.Clone(result.Interface()).ProtoReflect()
				result.Set(b.name, protoreflect.ValueOf(key))
			} else {
				result = b.failure(key, apierror.New(imv1.ErrorReason_ERROR_REASON_UPSTREAM_REPLY_INVALID, "the upstream did not answer for this item"))
			}
		}
		list.Append(protoreflect.ValueOfMessage(result))
	}
}

// failure makes the result of an item that failed.
func (b *batch) failure(key any, why error) protoreflect.Message {
	result := b.reply.New().NewField(b.results).List().NewElement().Message()
	result.Set(b.name, protoreflect.ValueOf(key))
	result.Set(b.error, protoreflect.ValueOfMessage(status.Convert(why).Proto().ProtoReflect()))
	return result
}

// results finds a result by its item. The upstream answers with ids in lower case, so a
// text is also found in that form.
type results map[any]protoreflect.Message

type folded string

func fold(key any) any {
	if s, ok := key.(string); ok {
		return folded(strings.ToLower(s))
	}
	return key
}

func (known results) add(key any, result protoreflect.Message) {
	known[key], known[fold(key)] = result, result
}

// addAll adds the results of a reply.
func (known results) addAll(b *batch, reply proto.Message) {
	list := reply.ProtoReflect().Get(b.results).List()
	for i := range list.Len() {
		result := list.Get(i).Message()
		known.add(result.Get(b.name).Interface(), result)
	}
}

// replyType returns the generated type of a method's reply.
func replyType(m protoreflect.MethodDescriptor) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
}

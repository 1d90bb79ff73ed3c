package service

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Calls of one batch under way at a time: enough to hide the latency of the
// upstream, few enough to leave its rate limit to others.
const batchConcurrency = 8

// A batch carries out a request about many items in calls of a few. A result
// names its item in its first field, and may hold a google.rpc.Status in a field
// named error.
type batch[I any, R proto.Message] struct {
	// limit is how many items the upstream takes in a call.
	limit int
	// key names an item as its result does: a string or an int64.
	key func(I) any
	// group keeps items with different values in different calls; nil if the
	// upstream does not mind.
	group func(I) string
	// call asks the upstream about some items.
	call func(context.Context, []I) ([]R, error)
}

// run answers every item once, in the order of the request. A part that fails as
// a whole gives its error to its items. If all parts fail for one reason, so does
// the request; if their reasons differ, none may speak for the others: "nothing was
// sent" is not true of a part whose answer was lost. Nor may the end of the
// caller's patience: the parts that are left then fail by themselves, unsent.
//
// Items given twice are asked for once: a message must not be sent twice.
func (b batch[I, R]) run(ctx context.Context, items []I) ([]R, error) {
	parts := b.parts(items)
	answers := make([][]R, len(parts))
	errs := make([]error, len(parts))
	var calls errgroup.Group
	calls.SetLimit(batchConcurrency)
	for i, part := range parts {
		calls.Go(func() error {
			answers[i], errs[i] = b.call(ctx, part)
			return nil
		})
	}
	_ = calls.Wait() // errors are in errs
	known := make(results[R])
	failed := 0
	for i, part := range parts {
		for _, r := range answers[i] {
			known.add(r)
		}
		if errs[i] == nil {
			continue
		}
		failed++
		for _, item := range part {
			known.add(failure[R](b.key(item), status.Convert(errs[i])))
		}
	}
	if failed == len(parts) && len(parts) > 0 && alike(errs) {
		return nil, errs[0]
	}
	return inOrder(items, b.key, known), nil
}

// alike tells whether errors have one reason.
func alike(errs []error) bool {
	first := reasonOf(errs[0])
	return !slices.ContainsFunc(errs, func(err error) bool { return reasonOf(err) != first })
}

// parts splits the items, without those that repeat, into what one call takes.
func (b batch[I, R]) parts(items []I) [][]I {
	var parts [][]I
	open := make(map[string]int) // by group: the part that takes more
	seen := make(map[any]bool, len(items))
	for _, item := range items {
		key := fold(b.key(item))
		if seen[key] {
			continue
		}
		seen[key] = true
		group := ""
		if b.group != nil {
			group = b.group(item)
		}
		i, ok := open[group]
		if !ok || len(parts[i]) == b.limit {
			i = len(parts)
			open[group] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], item)
	}
	return parts
}

// results finds a result by the key of its item. The upstream answers with ids
// in lower case, so a text is also found in that form.
type results[R proto.Message] map[any]R

type folded string

func fold(key any) any {
	if s, ok := key.(string); ok {
		return folded(strings.ToLower(s))
	}
	return key
}

func (known results[R]) add(result R) {
	m := result.ProtoReflect()
	key := m.Get(m.Descriptor().Fields().Get(0)).Interface()
	known[key] = result
	known[fold(key)] = result
}

// take returns the result of an item, naming it as the request did.
func (known results[R]) take(key any) R {
	if r, ok := known[key]; ok {
		return r
	}
	r, ok := known[fold(key)]
	if !ok {
		return failure[R](key, unanswered())
	}
	r = proto.CloneOf(r)
	m := r.ProtoReflect()
	m.Set(m.Descriptor().Fields().Get(0), protoreflect.ValueOf(key))
	return r
}

// failure makes the result of an item that failed.
func failure[R proto.Message](key any, why *status.Status) R {
	var zero R
	m := zero.ProtoReflect().New()
	fields := m.Descriptor().Fields()
	m.Set(fields.Get(0), protoreflect.ValueOf(key))
	m.Set(fields.ByName("error"), protoreflect.ValueOfMessage(why.Proto().ProtoReflect()))
	result, _ := m.Interface().(R)
	return result
}

// unanswered is the error of an item that the upstream passed over.
func unanswered() *status.Status {
	return status.Convert(replyInvalid("the upstream did not answer for this item"))
}

// byItem finds the results of one answer by their items.
func byItem[R proto.Message](answer []R) results[R] {
	known := make(results[R], len(answer))
	for _, r := range answer {
		known.add(r)
	}
	return known
}

// inOrder gives each item its result, in the order of the items.
func inOrder[I any, R proto.Message](items []I, key func(I) any, known results[R]) []R {
	ordered := make([]R, len(items))
	for i, item := range items {
		ordered[i] = known.take(key(item))
	}
	return ordered
}

// itself is the key of an item that is its own.
func itself[K comparable](key K) any { return key }

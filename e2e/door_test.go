package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/yunxin-facade/yunxin-facade/service"
)

// A door is a way into the service. A request is proto JSON, whatever the door.
type door interface {
	// call returns an error only if the call could not be made or what came
	// back is not what this door promises to every caller.
	call(ctx context.Context, method protoreflect.MethodDescriptor, request []byte) (*outcome, error)
	// stream is call for an RPC whose replies are a stream. A request that
	// is answered waits for its reply before the next one is sent.
	stream(ctx context.Context, method protoreflect.MethodDescriptor, requests []frame) (*outcome, error)
}

// A frame is one request of a stream.
type frame struct {
	json     []byte
	answered bool // by a reply of its own
}

// streamTimeout ends the streams of a test that waits for what never comes.
const streamTimeout = 20 * time.Second

// An outcome is what a call came to.
type outcome struct {
	reply   proto.Message   // nil if the call failed, or is a stream
	replies []proto.Message // of a stream; it may still have failed in the end
	status  *status.Status  // nil if it succeeded
	traceID string          // of the header x-trace-id
	body    []byte          // as it came over REST, unless it is a stream
}

// doorNames is the order in which doors are tried.
var doorNames = []string{"grpc", "rest"}

// method finds an RPC by its short name, such as MessageService/SendMessage.
func method(name string) (protoreflect.MethodDescriptor, error) {
	owner, rpc, _ := strings.Cut(name, "/")
	for _, s := range service.Descriptors() {
		if string(s.Name()) != owner {
			continue
		}
		if m := s.Methods().ByName(protoreflect.Name(rpc)); m != nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no RPC %s", name)
}

// shortName is the name by which method finds an RPC.
func shortName(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("%s/%s", m.Parent().Name(), m.Name())
}

// allMethods lists the short names of all RPCs.
func allMethods() []string {
	var names []string
	for _, s := range service.Descriptors() {
		for i := range s.Methods().Len() {
			names = append(names, shortName(s.Methods().Get(i)))
		}
	}
	return names
}

// detail returns the detail of a type that an error has, or nil.
func detail[D proto.Message](s *status.Status) (found D) {
	for _, d := range s.Details() {
		if typed, ok := d.(D); ok {
			return typed
		}
	}
	return found
}

func (o *outcome) info() *errdetails.ErrorInfo     { return detail[*errdetails.ErrorInfo](o.status) }
func (o *outcome) retry() *errdetails.RetryInfo    { return detail[*errdetails.RetryInfo](o.status) }
func (o *outcome) invalid() *errdetails.BadRequest { return detail[*errdetails.BadRequest](o.status) }

// fields names the fields that the error complains about, sorted, each once.
func (o *outcome) fields() []string {
	names := map[string]bool{}
	for _, v := range o.invalid().GetFieldViolations() {
		names[v.GetField()] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// String shows an outcome in the messages of tests.
func (o *outcome) String() string {
	replies := ""
	if len(o.replies) > 0 {
		replies = fmt.Sprintf("%d replies %v, then ", len(o.replies), o.replies)
	}
	if o.status == nil {
		return fmt.Sprintf("%s%T{%v}", replies, o.reply, o.reply)
	}
	return replies + fmt.Sprintf("%s %s (%s) fields %q, metadata %v",
		o.status.Code(), o.info().GetReason(), o.status.Message(), o.fields(), o.info().GetMetadata())
}

// sound checks what holds for every outcome: a trace id in the header, and for
// an error one ErrorInfo of this service with the same trace id.
func (o *outcome) sound() error {
	if o.traceID == "" {
		return fmt.Errorf("no x-trace-id in the answer: %v", o)
	}
	if o.status == nil {
		return nil
	}
	info := o.info()
	switch {
	case o.status.Code() == codes.OK:
		return fmt.Errorf("an error with code OK")
	case info.GetReason() == "" || info.GetDomain() != "yunxin-facade":
		return fmt.Errorf("no google.rpc.ErrorInfo of this service: %v", o.status)
	case info.GetMetadata()["trace_id"] != o.traceID:
		return fmt.Errorf("the header says trace id %q, the error %q", o.traceID, info.GetMetadata()["trace_id"])
	}
	return nil
}

func isTraceID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// agree tells where two outcomes of the same call differ. Two sandboxes that were
// told the same say the same: their clocks stand still (see testdata/seed.json),
// and only the trace ids and their addresses are not foreseen.
func agree(a, b *outcome) error {
	if (a.status == nil) != (b.status == nil) {
		return fmt.Errorf("one call failed: %v\nand %v", a, b)
	}
	x := append(slices.Clone(a.replies), a.reply, a.status.Proto())
	y := append(slices.Clone(b.replies), b.reply, b.status.Proto())
	unforeseen := func(p cmp.Path) bool {
		member, ok := p.Last().(cmp.MapIndex)
		return ok && slices.Contains([]string{"trace_id", "upstream_trace_id", "endpoint", "retry_delay"}, member.Key().String())
	}
	// An id that the facade made for a message is the trace id, with the
	// message's number if there are several.
	clientID := func(p cmp.Path) bool {
		member, ok := p.Index(-2).(cmp.MapIndex)
		return ok && member.Key().String() == "message_client_id"
	}
	bothMade := cmp.Comparer(func(a, b string) bool {
		idA, numberA, _ := strings.Cut(a, "-")
		idB, numberB, _ := strings.Cut(b, "-")
		return a == b || isTraceID(idA) && isTraceID(idB) && numberA == numberB
	})
	if diff := cmp.Diff(x, y, protocmp.Transform(),
		cmp.FilterPath(unforeseen, cmp.Ignore()), cmp.FilterPath(clientID, bothMade)); diff != "" {
		return fmt.Errorf("the doors differ:\n%s", diff)
	}
	return nil
}

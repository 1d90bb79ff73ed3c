package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

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
}

// An outcome is what a call came to.
type outcome struct {
	reply   proto.Message  // nil if the call failed
	status  *status.Status // nil if it succeeded
	traceID string         // of the header x-trace-id
	body    []byte         // as it came over REST
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
	if o.status == nil {
		return fmt.Sprintf("%T{%v}", o.reply, o.reply)
	}
	return fmt.Sprintf("%s %s (%s) fields %q, metadata %v",
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

// agree tells where two outcomes of the same call differ. Two sandboxes that were
// told the same say the same: their clocks stand still (see testdata/seed.json),
// and only the trace ids are random.
func agree(a, b *outcome) error {
	if (a.status == nil) != (b.status == nil) {
		return fmt.Errorf("one call failed: %v\nand %v", a, b)
	}
	x, y := a.reply, b.reply
	if a.status != nil {
		x, y = a.status.Proto(), b.status.Proto()
	}
	isTraceID := func(p cmp.Path) bool {
		member, ok := p.Last().(cmp.MapIndex)
		return ok && member.Key().String() == "trace_id"
	}
	if diff := cmp.Diff(x, y, protocmp.Transform(), cmp.FilterPath(isTraceID, cmp.Ignore())); diff != "" {
		return fmt.Errorf("the doors differ:\n%s", diff)
	}
	return nil
}

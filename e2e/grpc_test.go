package e2e

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// traceHeader carries the trace id of a call back to its caller.
const traceHeader = "x-trace-id"

// grpcDoor calls over gRPC. Requests and replies are found by the method's
// descriptor, so a new RPC needs nothing here.
type grpcDoor struct{ conn *grpc.ClientConn }

func (d grpcDoor) call(ctx context.Context, m protoreflect.MethodDescriptor, request []byte) (*outcome, error) {
	in, err := newMessage(m.Input())
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(request, in); err != nil {
		return nil, fmt.Errorf("the request does not fit: %w", err)
	}
	reply, err := newMessage(m.Output())
	if err != nil {
		return nil, err
	}
	return d.invoke(ctx, fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), in, reply)
}

func (d grpcDoor) invoke(ctx context.Context, name string, in, reply proto.Message) (*outcome, error) {
	var header, trailer metadata.MD
	o := &outcome{reply: reply}
	if err := d.conn.Invoke(ctx, name, in, reply, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		o.reply, o.status = nil, status.Convert(err)
	}
	// An error without a message has its header in the trailer.
	if ids := metadata.Join(header, trailer).Get(traceHeader); len(ids) > 0 {
		o.traceID = ids[0]
	}
	return o, o.sound()
}

func newMessage(desc protoreflect.MessageDescriptor) (proto.Message, error) {
	typ, err := protoregistry.GlobalTypes.FindMessageByName(desc.FullName())
	if err != nil {
		return nil, err
	}
	return typ.New().Interface(), nil
}

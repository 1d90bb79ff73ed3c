package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	return d.invoke(ctx, fullName(m), in, reply)
}

// fullName is the method's name on the wire.
func fullName(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

func (d grpcDoor) invoke(ctx context.Context, name string, in, reply proto.Message) (*outcome, error) {
	var header, trailer metadata.MD
	o := &outcome{reply: reply}
	if err := d.conn.Invoke(ctx, name, in, reply, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		o.reply, o.status = nil, status.Convert(err)
	}
	o.traceID = traceID(header, trailer)
	return o, o.sound()
}

// traceID finds a call's trace id. An error without a message has its header in
// the trailer.
func traceID(header, trailer metadata.MD) string {
	if ids := metadata.Join(header, trailer).Get(traceHeader); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

func (d grpcDoor) stream(ctx context.Context, m protoreflect.MethodDescriptor, requests []frame) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: m.IsStreamingServer(), ClientStreams: m.IsStreamingClient()}
	stream, err := d.conn.NewStream(ctx, desc, fullName(m))
	if err != nil {
		return nil, err
	}
	o := &outcome{}
	for _, request := range requests {
		in, err := newMessage(m.Input())
		if err != nil {
			return nil, err
		}
		if err := protojson.Unmarshal(request.json, in); err != nil {
			return nil, fmt.Errorf("the request does not fit: %w", err)
		}
		if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) { // EOF: it ended, receive tells why
			return nil, err
		}
		if request.answered {
			if _, err := o.receive(stream, m); err != nil {
				return nil, err
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	for more := o.status == nil; more; {
		if more, err = o.receive(stream, m); err != nil {
			return nil, err
		}
	}
	header, err := stream.Header()
	if err != nil && o.status == nil {
		return nil, err
	}
	o.traceID = traceID(header, stream.Trailer())
	return o, o.sound()
}

// receive adds the next reply to the outcome, or the error with which the stream
// ended. It returns whether there may be more.
func (o *outcome) receive(stream grpc.ClientStream, m protoreflect.MethodDescriptor) (more bool, err error) {
	reply, err := newMessage(m.Output())
	if err != nil {
		return false, err
	}
	switch err := stream.RecvMsg(reply); {
	case err == nil:
		o.replies = append(o.replies, reply)
		return true, nil
	case !errors.Is(err, io.EOF):
		o.status = status.Convert(err)
	}
	return false, nil
}

func newMessage(desc protoreflect.MessageDescriptor) (proto.Message, error) {
	typ, err := protoregistry.GlobalTypes.FindMessageByName(desc.FullName())
	if err != nil {
		return nil, err
	}
	return typ.New().Interface(), nil
}

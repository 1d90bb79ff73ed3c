package service

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// handler carries out a method: one of its functions is set.
type handler struct {
	method  string // as gRPC names it
	in, out protoreflect.FullName
	unary   func(context.Context, proto.Message) (proto.Message, error)
	stream  func(grpc.ServerStream) error
}

// unary makes a handler of a function with types of its own. Register checks that they
// are those of the method.
func unary[In, Out proto.Message](method string, f func(context.Context, In) (Out, error)) handler {
	var in In
	var out Out
	return handler{
		method: method, in: in.ProtoReflect().Descriptor().FullName(), out: out.ProtoReflect().Descriptor().FullName(),
		unary: func(ctx context.Context, request proto.Message) (proto.Message, error) {
			typed, _ := request.(In)
			return f(ctx, typed)
		},
	}
}

// bidirectional makes a handler of a function for a stream both ways.
func bidirectional[In, Out any](method string, f func(grpc.BidiStreamingServer[In, Out]) error) handler {
	return handler{method: method, stream: func(stream grpc.ServerStream) error {
		return f(&grpc.GenericServerStream[In, Out]{ServerStream: stream})
	}}
}

// forwarder makes the handlers of services from their descriptors.
type forwarder struct {
	up  grpc.ClientConnInterface
	own map[string]handler // written by hand
}

// service describes a service to gRPC, with handlers of its own.
func (f forwarder) service(generated *grpc.ServiceDesc) (*grpc.ServiceDesc, error) {
	service, err := descriptor(generated)
	if err != nil {
		return nil, err
	}
	desc := *generated
	desc.Methods, desc.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i := range desc.Methods {
		h, err := f.handler(service.Methods().ByName(protoreflect.Name(desc.Methods[i].MethodName)))
		if err != nil {
			return nil, err
		}
		desc.Methods[i].Handler = h
	}
	for i := range desc.Streams {
		h, err := f.streamHandler(service.Methods().ByName(protoreflect.Name(desc.Streams[i].StreamName)))
		if err != nil {
			return nil, err
		}
		desc.Streams[i].Handler = func(_ any, stream grpc.ServerStream) error { return h(stream) }
	}
	return &desc, nil
}

func fullMethod(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// handler makes the handler of a method with one request and one reply.
func (f forwarder) handler(m protoreflect.MethodDescriptor) (grpc.MethodHandler, error) {
	name := fullMethod(m)
	in, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	if err != nil {
		return nil, err
	}
	call, err := f.call(m)
	if err != nil {
		return nil, err
	}
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		request := in.New().Interface()
		if err := decode(request); err != nil {
			return nil, err
		}
		if interceptor == nil {
			return call(ctx, request)
		}
		return interceptor(ctx, request, &grpc.UnaryServerInfo{Server: srv, FullMethod: name}, func(ctx context.Context, request any) (any, error) {
			message, _ := request.(proto.Message)
			return call(ctx, message)
		})
	}, nil
}

// call returns what carries out a method: its own function, or otherwise the upstream's
// operation, once or in the parts of a batch.
func (f forwarder) call(m protoreflect.MethodDescriptor) (func(context.Context, proto.Message) (proto.Message, error), error) {
	if own, ok := f.own[fullMethod(m)]; ok {
		if own.unary == nil || own.in != m.Input().FullName() || own.out != m.Output().FullName() {
			return nil, fmt.Errorf("%s is written for %s and %s", m.FullName(), own.in, own.out)
		}
		return own.unary, nil
	}
	if proto.HasExtension(m.Options(), upstreamv1.E_PagesOf) {
		return nil, fmt.Errorf("%s has pages_of and is no stream", m.FullName())
	}
	if !proto.HasExtension(m.Options(), upstreamv1.E_Operation) {
		return nil, fmt.Errorf("%s has neither the option operation nor a function", m.FullName())
	}
	call, err := f.operation(m)
	if err != nil || !proto.HasExtension(m.Options(), upstreamv1.E_Batch) {
		return call, err
	}
	b, err := newBatch(m)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, request proto.Message) (proto.Message, error) {
		return b.run(ctx, request, call)
	}, nil
}

// operation returns a call of the upstream's operation.
func (f forwarder) operation(m protoreflect.MethodDescriptor) (func(context.Context, proto.Message) (proto.Message, error), error) {
	name := fullMethod(m)
	out, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	return func(ctx context.Context, request proto.Message) (proto.Message, error) {
		reply := out.New().Interface()
		if err := f.up.Invoke(ctx, name, request, reply); err != nil {
			return nil, err
		}
		return reply, nil
	}, err
}

// streamHandler makes the handler of a stream: its own function, or otherwise the pages of
// another method.
func (f forwarder) streamHandler(m protoreflect.MethodDescriptor) (func(grpc.ServerStream) error, error) {
	if own, ok := f.own[fullMethod(m)]; ok {
		if own.stream == nil {
			return nil, fmt.Errorf("%s is a stream and its function is not", m.FullName())
		}
		return own.stream, nil
	}
	p, err := newPages(m)
	if err != nil {
		return nil, err
	}
	if p.call, err = f.operation(p.list); err != nil {
		return nil, err
	}
	return p.stream, nil
}

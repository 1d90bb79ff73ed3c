package rest

import (
	"context"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
)

// conn is the connection of the generated gateway to the services. It calls their
// handlers with messages that are decoded already, under the context of the REST call.
// No metadata passes, in either direction.
type conn struct {
	methods callinfo.Methods
	unary   map[string]unaryHandler
	streams map[string]streamHandler
}

type (
	unaryHandler  func(ctx context.Context, decode func(any) error) (any, error)
	streamHandler func(grpc.ServerStream) error
)

// RegisterService implements grpc.ServiceRegistrar.
func (c *conn) RegisterService(desc *grpc.ServiceDesc, impl any) {
	name := func(method string) string { return "/" + desc.ServiceName + "/" + method }
	for _, m := range desc.Methods {
		c.unary[name(m.MethodName)] = func(ctx context.Context, decode func(any) error) (any, error) {
			return m.Handler(impl, ctx, decode, nil)
		}
	}
	for _, s := range desc.Streams {
		c.streams[name(s.StreamName)] = func(stream grpc.ServerStream) error { return s.Handler(impl, stream) }
	}
}

// enter hands a call over to its handler, which records it from now on.
func (c *conn) enter(ctx context.Context, method string) *call {
	call := callOf(ctx)
	call.entered = true
	call.info.Method, call.info.Name = c.methods[method], method
	return call
}

// Invoke implements grpc.ClientConnInterface.
func (c *conn) Invoke(ctx context.Context, method string, request, reply any, _ ...grpc.CallOption) error {
	handler, ok := c.unary[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "there is no method %q", method)
	}
	c.enter(ctx, method)
	answer, err := handler(ctx, func(m any) error { return assign(m, request) })
	if err != nil {
		return err
	}
	return assign(reply, answer)
}

// NewStream implements grpc.ClientConnInterface. The REST call waits for the goroutine of
// the handler before it ends.
func (c *conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	handler, ok := c.streams[method]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "there is no method %q", method)
	}
	s := &stream{ctx: ctx, desc: desc, requests: make(chan any), replies: make(chan any), ended: make(chan struct{})}
	s.closeSend = sync.OnceFunc(func() { close(s.requests) })
	c.enter(ctx, method).handlers.Go(func() {
		defer close(s.ended)
		s.err = handler(serverStream{s})
	})
	return clientStream{s}, nil
}

// assign copies a message, because its receiver may change it.
func assign(to, from any) error {
	target, ok := to.(proto.Message)
	source, valid := from.(proto.Message)
	if !ok || !valid {
		return fmt.Errorf("a message is a %T, and should be a %T", from, to)
	}
	proto.Merge(target, source)
	return nil
}

// stream is a call with many messages. Its channels are not buffered: a sender waits until
// its message is received.
type stream struct {
	ctx       context.Context //nolint:containedctx // a stream is what has the context of its call
	desc      *grpc.StreamDesc
	requests  chan any
	closeSend func() // closes requests
	replies   chan any
	ended     chan struct{} // closed when the handler has returned
	err       error         // what it returned
}

func (s *stream) Context() context.Context { return s.ctx }

// serverStream is the handler's end of a stream. It drops headers and trailers.
type serverStream struct{ *stream }

func (serverStream) SetHeader(metadata.MD) error  { return nil }
func (serverStream) SendHeader(metadata.MD) error { return nil }
func (serverStream) SetTrailer(metadata.MD)       {}

func (s serverStream) RecvMsg(m any) error {
	select {
	case request, ok := <-s.requests:
		if !ok {
			return io.EOF
		}
		return assign(m, request)
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

func (s serverStream) SendMsg(m any) error {
	select {
	case s.replies <- m:
		return nil
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

// clientStream is the gateway's end of a stream.
type clientStream struct{ *stream }

func (clientStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (clientStream) Trailer() metadata.MD         { return nil }

func (s clientStream) CloseSend() error {
	s.closeSend()
	return nil
}

// SendMsg returns no error if the generated code expects none: RecvMsg has it.
func (s clientStream) SendMsg(m any) error {
	select {
	case s.requests <- m:
		return nil
	case <-s.ended:
		if s.desc.ClientStreams {
			return io.EOF
		}
		return nil
	}
}

// RecvMsg waits for the handler even if the context is done, because the handler knows
// what became of the call.
func (s clientStream) RecvMsg(m any) error {
	select {
	case reply := <-s.replies:
		if err := assign(m, reply); err != nil || s.desc.ServerStreams {
			return err
		}
		<-s.ended
		return s.err
	case <-s.ended:
		if s.err != nil {
			return s.err
		}
		return io.EOF
	}
}

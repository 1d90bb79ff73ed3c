package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/auth"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/internal/rest"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// chain is what every call passes once on its way to its handler and back, over either
// door. Its steps stand in unary, stream, admit and check, in their order: telemetry sees all
// that refuses a call; a full server refuses a call before anything else is done for
// it; it is clear who calls before the message is read; and what the caller may do is
// clear before anything is made of the message.
//
// It wraps the handlers instead of being an interceptor: the library runs interceptors
// of unary calls when it has read their message.
type chain struct {
	*telemetry

	methods   callinfo.Methods
	admission *admission
	access    *access // nil if callers are not authenticated
	apps      *apps
	arrivals  *arrivals
	validator protovalidate.Validator
	times     times
	largest   int             // bytes of a request
	draining  <-chan struct{} // closed when the server stops
}

// registrar registers services with handlers that pass the chain.
type registrar struct {
	*grpc.Server // whose services reflection shows

	chain *chain
	rest  grpc.ServiceRegistrar // or nil
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	own := *desc
	own.Methods, own.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range desc.Methods {
		own.Methods[i].Handler = r.chain.unary(fmt.Sprintf("/%s/%s", desc.ServiceName, m.MethodName), m.Handler)
	}
	for i, m := range desc.Streams {
		own.Streams[i].Handler = r.chain.stream(fmt.Sprintf("/%s/%s", desc.ServiceName, m.StreamName), m.Handler)
	}
	r.Server.RegisterService(&own, impl)
	if r.rest != nil {
		r.rest.RegisterService(&own, impl)
	}
}

// unknown is the handler of methods that do not exist.
func (c *chain) unknown(srv any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	return c.stream(name, func(any, grpc.ServerStream) error { return unknownMethod(name) })(srv, stream)
}

func unknownMethod(name string) error {
	return apierror.New(imv1.ErrorReason_ERROR_REASON_METHOD_UNIMPLEMENTED, "there is no method %q", name)
}

// unary returns a handler that leads through the chain to another one.
func (c *chain) unary(name string, handler grpc.MethodHandler) grpc.MethodHandler {
	method := c.methods[name]
	return func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (reply any, err error) {
		ctx, info := c.begin(ctx, name, method)
		defer c.end(ctx, info, &err)
		if err := c.identifyGRPC(ctx, info); err != nil {
			return nil, err
		}
		read := func(m any) error { return c.arrivals.receive(ctx, func() error { return decode(m) }) }
		return handler(srv, ctx, read, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, call, leave, err := c.admit(ctx, info)
			if err != nil {
				return nil, err
			}
			defer leave()
			letGo, err := c.check(ctx, info, call, req)
			defer letGo()
			if err != nil {
				return nil, err
			}
			return next(ctx, req)
		})
	}
}

// stream returns a handler that leads through the chain to another one.
func (c *chain) stream(name string, handler grpc.StreamHandler) grpc.StreamHandler {
	method := c.methods[name]
	return func(srv any, stream grpc.ServerStream) (err error) {
		ctx, info := c.begin(stream.Context(), name, method)
		defer c.end(ctx, info, &err)
		if err := c.identifyGRPC(ctx, info); err != nil {
			return err
		}
		ctx, call, leave, err := c.admit(ctx, info)
		if err != nil {
			return err
		}
		defer leave()
		s := &checkedStream{ServerStream: stream, ctx: ctx, chain: c, info: info, call: call, letGo: func() {}}
		defer func() { s.letGo() }()
		return handler(srv, s)
	}
}

// admit counts a call, and finds out what its caller may do and how the upstream is called
// for it. The caller must call leave at the end.
func (c *chain) admit(ctx context.Context, info *callinfo.Info) (_ context.Context, call *auth.Call, leave func(), err error) {
	calls := c.admission.of(info)
	if !calls.enter() {
		return nil, nil, nil, calls.refuse()
	}
	defer func() {
		if leave == nil { // refused, or a panic
			calls.leave()
		}
	}()
	if call, err = c.authorize(info); err != nil {
		return nil, nil, nil, err
	}
	if ctx, err = c.forUpstream(ctx, info); err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := c.limit(ctx, info)
	return ctx, call, func() { cancel(); calls.leave() }, nil
}

// check refuses a message that its caller may not send, that is too large, or that breaks
// rules of the protos. letGo must be called when the message is not needed any more.
func (c *chain) check(ctx context.Context, info *callinfo.Info, call *auth.Call, m any) (letGo func(), err error) {
	message, ok := m.(proto.Message)
	if !ok {
		return func() {}, fmt.Errorf("a request of type %T is no message", m)
	}
	size := proto.Size(message)
	letGo, err = c.arrivals.keep(ctx, size)
	if err == nil {
		err = c.allow(info, call, message)
	}
	if err == nil {
		err = c.validate(info, message, size)
	}
	return letGo, err
}

// begin makes the record of a call, and tells the caller its trace id at once, so that
// no way out of the call can lose it. The REST door has done both already.
func (c *chain) begin(ctx context.Context, name string, method *callinfo.Method) (context.Context, *callinfo.Info) {
	if info := callinfo.From(ctx); info != nil {
		return ctx, info
	}
	info := &callinfo.Info{
		Door: callinfo.GRPC, TraceID: upstream.NewTraceID(), Begin: time.Now(), Name: callinfo.Shorten(name), Method: method,
		Apps: metadata.ValueFromIncomingContext(ctx, callinfo.AppHeader),
		Keys: metadata.ValueFromIncomingContext(ctx, callinfo.KeyHeader),
	}
	if p, ok := peer.FromContext(ctx); ok {
		info.Address = callinfo.Host(p.Addr.String())
	}
	// Fails only outside of a call.
	_ = grpc.SetHeader(ctx, metadata.Pairs(callinfo.TraceHeader, info.TraceID))
	return callinfo.With(ctx, info), info
}

// identifyGRPC is Identify for a call of the gRPC door. The REST door has asked already,
// before it read the body.
func (c *chain) identifyGRPC(ctx context.Context, info *callinfo.Info) error {
	if info.Door == callinfo.REST {
		return nil
	}
	return c.Identify(ctx, info, rest.Credentials{
		Authorization: metadata.ValueFromIncomingContext(ctx, callinfo.AuthorizationHeader),
		APIKey:        metadata.ValueFromIncomingContext(ctx, callinfo.APIKeyHeader),
		TLS:           connectionIn(ctx),
	})
}

// Identify refuses calls that are too many, and finds out who makes the others. It
// implements rest.Chain.
func (c *chain) Identify(ctx context.Context, info *callinfo.Info, shown rest.Credentials) error {
	if err := c.admission.of(info).look(); err != nil {
		return err
	}
	if c.access == nil || info.Method != nil && info.Method.Health {
		return nil
	}
	return c.access.identify(ctx, info, auth.Credentials{
		Authorization: shown.Authorization, APIKey: shown.APIKey, Certificate: c.access.identity.certificate(shown.TLS),
	})
}

// checkedStream checks each message that it receives.
type checkedStream struct {
	grpc.ServerStream

	ctx   context.Context //nolint:containedctx // a stream is what has the context of its call
	chain *chain
	info  *callinfo.Info
	call  *auth.Call // nil if callers are not authenticated
	letGo func()     // of the last message
}

// Context implements grpc.ServerStream.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *checkedStream) RecvMsg(m any) error {
	err := s.chain.arrivals.receive(s.ctx, func() error { return s.ServerStream.RecvMsg(m) })
	if err != nil {
		return err
	}
	s.letGo()
	s.letGo, err = s.chain.check(s.ctx, s.info, s.call, m)
	return err
}

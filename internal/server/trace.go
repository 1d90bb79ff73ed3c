package server

import (
	"context"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// Headers between the gateway and the gRPC server. From any other caller they
// mean nothing.
const (
	traceHeader   = "x-trace-id" // and to callers, on both doors
	timeoutHeader = "x-rest-timeout"
	callerHeader  = "x-rest-caller"
)

// trace gives every call a trace id, and tells it to the caller at once, so
// that no way out of the call can lose it.
func trace() interceptor {
	begin := func(ctx context.Context) context.Context {
		id := fromGateway(ctx, traceHeader)
		if id == "" {
			id = upstream.NewTraceID()
		}
		// Fails only outside of a call.
		_ = grpc.SetHeader(ctx, metadata.Pairs(traceHeader, id))
		return upstream.WithTraceID(ctx, id)
	}
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(begin(ctx), req)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, withContext(begin(stream.Context()), stream))
		},
	}
}

// The doors, as the log names them.
const (
	doorGRPC = "grpc"
	doorREST = "rest"
)

// door tells where a call came in. Nobody but the gateway can use the listener
// in memory.
func door(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && isMemory(p.Addr) {
		return doorREST
	}
	return doorGRPC
}

// fromGateway returns what the gateway says about a call, or "".
func fromGateway(ctx context.Context, header string) string {
	if door(ctx) != doorREST {
		return ""
	}
	values := metadata.ValueFromIncomingContext(ctx, header)
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// withContext gives a stream another context.
func withContext(ctx context.Context, stream grpc.ServerStream) grpc.ServerStream {
	wrapped := middleware.WrapServerStream(stream)
	wrapped.WrappedContext = ctx
	return wrapped
}

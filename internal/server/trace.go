package server

import (
	"context"

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
	return before(func(ctx context.Context, _ string) (context.Context, error) {
		id := fromGateway(ctx, traceHeader)
		if id == "" {
			id = upstream.NewTraceID()
		}
		// Fails only outside of a call.
		_ = grpc.SetHeader(ctx, metadata.Pairs(traceHeader, id))
		return upstream.WithCallInfo(ctx, upstream.CallInfo{TraceID: id}), nil
	})
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

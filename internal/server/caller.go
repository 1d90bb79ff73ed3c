package server

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// caller says who calls, so that callers can take turns. Where no caller has to
// prove who it is, it is known by its IP address, and all behind one proxy are one
// caller.
func caller() interceptor {
	begin := func(ctx context.Context) context.Context {
		if known := authenticated(ctx); known != nil {
			return upstream.WithQuotaShare(upstream.WithCaller(ctx, known.Name()), known.QuotaShare())
		}
		return upstream.WithCaller(ctx, addressIn(ctx))
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

// addressIn returns the IP address that a call came from.
func addressIn(ctx context.Context) string {
	if door(ctx) == doorREST {
		return fromGateway(ctx, callerHeader)
	}
	if p, ok := peer.FromContext(ctx); ok {
		return hostOf(p.Addr.String())
	}
	return ""
}

// hostOf leaves out the port, which differs with each connection.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return host
}

package server

import (
	"context"
	"net"

	"google.golang.org/grpc/peer"

	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// caller says who calls, so that callers can take turns. Where no caller has to
// prove who it is, it is known by its IP address, and all behind one proxy are one
// caller.
func caller() interceptor {
	return before(func(ctx context.Context, _ string) (context.Context, error) {
		info := upstream.CallInfoOf(ctx)
		if known := authenticated(ctx); known != nil {
			info.Caller, info.QuotaShare = known.Name(), known.QuotaShare()
		} else {
			info.Caller = addressIn(ctx)
		}
		return upstream.WithCallInfo(ctx, info), nil
	})
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

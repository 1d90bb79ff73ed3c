package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// deadline bounds every call: by the caller's wish or else the default, and
// always by the longest time allowed. A stream has no default but a longest time
// of its own, for how long it takes depends on what it carries.
//
// Streams of health checks and reflection may last until the server drains,
// which ends them: GracefulStop would wait for them in vain.
func deadline(draining <-chan struct{}, fallback, longest, longestStream time.Duration) interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, cancel := limitTime(ctx, fallback, longest)
			defer cancel()
			return next(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if isInfrastructure(info.FullMethod) {
				ctx, cancel := context.WithCancel(stream.Context())
				defer cancel()
				go func() {
					select {
					case <-draining:
						cancel()
					case <-ctx.Done():
					}
				}()
				return next(srv, withContext(ctx, stream))
			}
			ctx, cancel := limitTime(stream.Context(), longestStream, longestStream)
			defer cancel()
			return next(srv, withContext(ctx, stream))
		},
	}
}

// limitTime reads the wish of a REST caller from a header: were it the deadline
// of the gateway's own call, both sides would time out together, and the
// gateway's bare error would race with the handler's, which knows what was sent.
func limitTime(ctx context.Context, fallback, longest time.Duration) (context.Context, context.CancelFunc) {
	timeout := fallback
	if wish, err := time.ParseDuration(fromGateway(ctx, timeoutHeader)); err == nil {
		timeout = wish
	} else if _, ok := ctx.Deadline(); ok {
		timeout = longest
	}
	return context.WithTimeout(ctx, min(timeout, longest))
}

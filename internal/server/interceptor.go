package server

import (
	"context"
	"slices"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"
)

// interceptor is one link of the chain, in its two forms.
type interceptor struct {
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

// before makes a link of what is to be found out before a call goes on: with another
// context, or not at all.
func before(begin func(ctx context.Context, method string) (context.Context, error)) interceptor {
	return around(func(ctx context.Context, method string) (context.Context, func(), error) {
		ctx, err := begin(ctx, method)
		return ctx, func() {}, err
	})
}

// around makes a link of what begins with a call and ends with it.
func around(begin func(ctx context.Context, method string) (_ context.Context, end func(), err error)) interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, end, err := begin(ctx, info.FullMethod)
			if err != nil {
				return nil, err
			}
			defer end()
			return next(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			ctx, end, err := begin(stream.Context(), info.FullMethod)
			if err != nil {
				return err
			}
			defer end()
			return next(srv, withContext(ctx, stream))
		},
	}
}

// withContext gives a stream another context.
func withContext(ctx context.Context, stream grpc.ServerStream) grpc.ServerStream {
	wrapped := middleware.WrapServerStream(stream)
	wrapped.WrappedContext = ctx
	return wrapped
}

// forms tells the two forms of links apart.
func forms(links []interceptor) (unary []grpc.UnaryServerInterceptor, stream []grpc.StreamServerInterceptor) {
	for _, link := range links {
		unary = append(unary, link.unary)
		stream = append(stream, link.stream)
	}
	return unary, stream
}

// chained makes one interceptor of many, the first outermost.
func chained(links []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		for _, link := range slices.Backward(links) {
			inner := next
			next = func(ctx context.Context, req any) (any, error) { return link(ctx, req, info, inner) }
		}
		return next(ctx, req)
	}
}

package server

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// keyHeader names the caller's intention, on both doors: calls with the same key
// and the same request are one operation to the upstream.
const keyHeader = "idempotency-key"

const maxKeyLength = 256

// idempotency passes the caller's key on to the upstream's client.
func idempotency(reasons *upstream.Reasons) interceptor {
	begin := func(ctx context.Context) (context.Context, error) {
		keys := metadata.ValueFromIncomingContext(ctx, keyHeader)
		if len(keys) == 0 {
			return ctx, nil
		}
		if len(keys) > 1 || !isKey(keys[0]) {
			return ctx, reasons.Error(ctx, "INVALID_REQUEST",
				"%s must be given once, with 1 to %d visible ASCII characters", keyHeader, maxKeyLength)
		}
		key := keys[0]
		if known := authenticated(ctx); known != nil {
			key = known.Name() + " " + key // two callers may choose the same one
		}
		return upstream.WithIdempotencyKey(ctx, key), nil
	}
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, err := begin(ctx)
			if err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			ctx, err := begin(stream.Context())
			if err != nil {
				return err
			}
			return next(srv, withContext(ctx, stream))
		},
	}
}

func isKey(s string) bool {
	invisible := func(r rune) bool { return r <= ' ' || r > '~' }
	return s != "" && len(s) <= maxKeyLength && !strings.ContainsFunc(s, invisible)
}

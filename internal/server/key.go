package server

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// keyHeader names the caller's intention, on both doors: calls with the same key
// and the same request are one operation to the upstream.
const keyHeader = "idempotency-key"

const maxKeyLength = 256

// idempotency passes the caller's key on to the upstream's client.
func idempotency() interceptor {
	return before(func(ctx context.Context, _ string) (context.Context, error) {
		keys := metadata.ValueFromIncomingContext(ctx, keyHeader)
		if len(keys) == 0 {
			return ctx, nil
		}
		if len(keys) > 1 || !isKey(keys[0]) {
			return ctx, apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				"%s must be given once, with 1 to %d visible ASCII characters", keyHeader, maxKeyLength)
		}
		key := keys[0]
		if known := authenticated(ctx); known != nil {
			key = known.Name() + " " + key // two callers may choose the same one
		}
		info := upstream.CallInfoOf(ctx)
		info.IdempotencyKey = key
		return upstream.WithCallInfo(ctx, info), nil
	})
}

func isKey(s string) bool {
	invisible := func(r rune) bool { return r <= ' ' || r > '~' }
	return s != "" && len(s) <= maxKeyLength && !strings.ContainsFunc(s, invisible)
}

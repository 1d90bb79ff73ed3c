package server

import (
	"context"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// recoverHandler turns the panic of a handler into an error that carries its
// stack. The log interceptor writes both down, once.
func recoverHandler() interceptor {
	return interceptor{unary: recovery.UnaryServerInterceptor(), stream: recovery.StreamServerInterceptor()}
}

// recoverChain guards the interceptors between it and the handler. What panics
// there the log interceptor does not see, so it is written down here.
func recoverChain(refusals *refusals) interceptor {
	handle := recovery.WithRecoveryHandlerContext(func(ctx context.Context, value any) error {
		refusals.logPanic(ctx, value)
		return refusals.complete(ctx, apierror.New(imv1.ErrorReason_ERROR_REASON_INTERNAL, internalText))
	})
	return interceptor{unary: recovery.UnaryServerInterceptor(handle), stream: recovery.StreamServerInterceptor(handle)}
}

// logPanic must be called while the panic's stack still stands.
func (r *refusals) logPanic(ctx context.Context, value any) {
	r.log.LogAttrs(ctx, slog.LevelError, "panic", slog.Any("panic", value),
		slog.String("stack", string(debug.Stack())), slog.String("trace_id", upstream.CallInfoOf(ctx).TraceID))
}

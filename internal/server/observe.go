package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// observe writes one line about every call, and sees to it that its error is of
// the one kind that callers know. Lines name calls, never what was said in them.
func observe(refusals *refusals) interceptor {
	finish := func(ctx context.Context, method string, begin time.Time, err error) error {
		if isInfrastructure(method) {
			refusals.log.LogAttrs(ctx, slog.LevelDebug, "call", callAttrs(ctx, door(ctx), method, status.Code(err), "", begin)...)
			return err
		}
		if err == nil {
			refusals.log.LogAttrs(ctx, slog.LevelInfo, "call", callAttrs(ctx, door(ctx), method, codes.OK, "", begin)...)
			return nil
		}
		refusal := refusals.complete(ctx, err)
		attrs := callAttrs(ctx, door(ctx), method, refusal.Code, refusal.Reason, begin)
		refusals.log.LogAttrs(ctx, level(refusal.Code), "call", append(attrs, causeAttrs(err)...)...)
		return refusal
	}
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			begin := time.Now()
			reply, err := next(ctx, req)
			return reply, finish(ctx, info.FullMethod, begin, err)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			begin := time.Now()
			err := next(srv, stream)
			return finish(stream.Context(), info.FullMethod, begin, err)
		},
	}
}

func callAttrs(ctx context.Context, door, method string, code codes.Code, reason string, begin time.Time) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("code", code.String()),
		slog.Duration("duration", time.Since(begin)),
		slog.String("trace_id", upstream.TraceID(ctx)),
		slog.String("door", door),
	}
	if reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	return attrs
}

// causeAttrs tell what is behind an error of which callers learn nothing. What
// is behind an *upstream.Error is logged where it is made.
func causeAttrs(err error) []slog.Attr {
	if panicked, ok := errors.AsType[*recovery.PanicError](err); ok {
		return []slog.Attr{slog.Any("panic", panicked.Panic), slog.String("stack", string(panicked.Stack))}
	}
	if _, ok := errors.AsType[*upstream.Error](err); ok {
		return nil
	}
	return []slog.Attr{slog.String("cause", err.Error())}
}

// level asks whose problem it is: ours, the upstream's or the caller's.
func level(code codes.Code) slog.Level {
	switch code {
	case codes.Internal, codes.DataLoss:
		return slog.LevelError
	case codes.Unknown, codes.Unavailable:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

package server

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// refusals makes every error the one kind that callers see, with a reason and a
// trace id.
type refusals struct {
	reasons *upstream.Reasons
	log     *slog.Logger
}

// denial is an error of which the cause is for the log only.
type denial struct {
	refusal *upstream.Error
	cause   error
}

// Error implements error.
func (d *denial) Error() string { return d.refusal.Error() }

// Unwrap returns what callers see.
func (d *denial) Unwrap() error { return d.refusal }

// internalText says nothing of the cause, which may hold anything.
const internalText = "internal error: the trace id finds its cause in the log"

// complete turns err into an error for callers. An *upstream.Error is one; what
// else arrives here comes from contexts, from the gRPC library, or is a bug.
func (r *refusals) complete(ctx context.Context, err error) *upstream.Error {
	if refusal, ok := errors.AsType[*upstream.Error](err); ok {
		if id := upstream.TraceID(ctx); refusal.TraceID != id { // of a call that served others too
			own := *refusal
			own.TraceID = id
			return &own
		}
		return refusal
	}
	code := status.FromContextError(err).Code()
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		code, text = s.Code(), s.Message()
		if info, ok := detail[*errdetails.ErrorInfo](s); ok { // a handler said why
			refusal := r.reasons.Error(ctx, info.GetReason(), "%s", text)
			refusal.Code = code // as the call ended; the reason says what was done
			bad, _ := detail[*errdetails.BadRequest](s)
			for _, v := range bad.GetFieldViolations() {
				refusal.Violations = append(refusal.Violations, upstream.Violation{
					Field: v.GetField(), Description: v.GetDescription(), Rule: v.GetReason(),
				})
			}
			return refusal
		}
	}
	switch code {
	case codes.Canceled:
		return r.reasons.Error(ctx, "CANCELLED", "the call was cancelled")
	case codes.DeadlineExceeded:
		return r.reasons.Error(ctx, "DEADLINE_EXCEEDED", "the deadline passed")
	case codes.InvalidArgument:
		return r.reasons.Error(ctx, "INVALID_REQUEST", "%s", text)
	case codes.ResourceExhausted:
		return r.reasons.Error(ctx, "REQUEST_TOO_LARGE", "%s", text)
	case codes.Unimplemented:
		return r.reasons.Error(ctx, "METHOD_UNIMPLEMENTED", "%s", text)
	case codes.Unavailable:
		// The way from the gateway to the handler was cut while the server
		// stops: nobody knows how far the call got.
		return r.reasons.Error(ctx, "OUTCOME_UNKNOWN", "the server stopped during the call")
	default:
		return r.reasons.Error(ctx, "INTERNAL", internalText)
	}
}

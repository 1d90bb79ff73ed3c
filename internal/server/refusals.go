package server

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// refusals makes every error the one kind that callers see, with a reason and a
// trace id.
type refusals struct {
	log *slog.Logger
}

// denial is an error of which the cause is for the log only.
type denial struct {
	refusal *apierror.Error
	cause   error
}

// Error implements error.
func (d *denial) Error() string { return d.refusal.Error() }

// Unwrap returns what callers see.
func (d *denial) Unwrap() error { return d.refusal }

// internalText says nothing of the cause, which may hold anything.
const internalText = "internal error: the trace id finds its cause in the log"

// complete turns err into the error that callers see: one of the known kind, under
// the trace id of the call.
func (r *refusals) complete(ctx context.Context, err error) *apierror.Error {
	e, ok := errors.AsType[*apierror.Error](err)
	if !ok {
		e = foreign(err)
	}
	if id := upstream.CallInfoOf(ctx).TraceID; e.TraceID != id { // also if the error is that of a shared call
		own := *e
		own.TraceID = id
		return &own
	}
	return e
}

// foreign makes an error of one that comes from a context, from the gRPC library, or
// from a bug.
func foreign(err error) *apierror.Error {
	code := status.FromContextError(err).Code()
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		code, text = s.Code(), s.Message()
	}
	switch code {
	case codes.Canceled:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_CANCELLED, "the call was cancelled")
	case codes.DeadlineExceeded:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "the deadline passed")
	case codes.InvalidArgument:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s", text)
	case codes.ResourceExhausted:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE, "%s", text)
	case codes.Unimplemented:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_METHOD_UNIMPLEMENTED, "%s", text)
	case codes.Unavailable:
		// The way from the gateway to the handler was cut while the server
		// stops: nobody knows how far the call got.
		return apierror.New(imv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, "the server stopped during the call")
	default:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_INTERNAL, internalText)
	}
}

package server

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// internalText says nothing of the cause, which may hold anything.
const internalText = "internal error: the trace id finds its cause in the log"

// complete turns err into the one kind of error that callers see, under the trace id of
// the call.
func complete(info *callinfo.Info, err error) *apierror.Error {
	e, ok := errors.AsType[*apierror.Error](err)
	if !ok {
		e = foreign(err)
	}
	if e.TraceID != info.TraceID { // the error may be that of a shared call
		own := *e
		own.TraceID = info.TraceID
		return &own
	}
	return e
}

// foreign makes an error of one from a context, from the gRPC library, or from a bug.
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
	default:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_INTERNAL, internalText)
	}
}

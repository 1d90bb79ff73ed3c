package service

import (
	"errors"

	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// invalid is the error for a request that no rule in the protos can judge.
func invalid(field, rule string) error {
	e := apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s: %s", field, rule)
	e.Violations = []apierror.Violation{{Field: field, Description: rule}}
	return e
}

// replyInvalid is the error for an answer of the upstream that contradicts
// itself.
func replyInvalid(text string) error {
	return apierror.New(imv1.ErrorReason_ERROR_REASON_UPSTREAM_REPLY_INVALID, "%s", text)
}

// reasonOf returns the reason of an error, or its code if it says none.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*apierror.Error](err); ok {
		return e.Reason
	}
	return status.Code(err).String()
}

package service

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// Most errors come from the upstream's client and are passed on. Those of this
// package say their reason in a detail; the server adds what it knows of the
// call.

// invalid is the error for a request that no rule in the protos can judge.
func invalid(field, rule string) error {
	return refusal(codes.InvalidArgument, imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, field+": "+rule,
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: rule}}}).Err()
}

// replyInvalid is the error for an answer of the upstream that contradicts
// itself.
func replyInvalid(text string) *status.Status {
	return refusal(codes.Internal, imv1.ErrorReason_ERROR_REASON_UPSTREAM_REPLY_INVALID, text)
}

// reasonOf returns the reason of an error, or its code if it says none.
func reasonOf(err error) string {
	s := status.Convert(err)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return s.Code().String()
}

func refusal(code codes.Code, reason imv1.ErrorReason, text string, details ...protoadapt.MessageV1) *status.Status {
	s := status.New(code, text)
	detailed, err := s.WithDetails(append(details, &errdetails.ErrorInfo{
		Reason: strings.TrimPrefix(reason.String(), "ERROR_REASON_"),
		Domain: "yunxin-facade",
	})...)
	if err != nil { // only for code OK
		return s
	}
	return detailed
}

// Package apierror has the one kind of error that callers see. A handler makes or
// passes on an *Error, and the door turns it into a gRPC status once.
package apierror

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// Domain is the domain of the google.rpc.ErrorInfo of every error.
const Domain = "yunxin-facade"

// Error is the one kind of error that reaches callers. New and Table make it.
type Error struct {
	// Reason is a value of the enum of reasons, without its prefix.
	Reason string
	// Code is the gRPC code.
	Code codes.Code
	// RESTStatus is the HTTP status of the REST view, or 0 for the usual one of Code.
	RESTStatus int
	// Message is for people; programs read Reason.
	Message string
	// UpstreamCode is the code that the upstream answered, or 0.
	UpstreamCode int64
	// HTTPStatus is the upstream's HTTP status if it was not 200.
	HTTPStatus int
	// TraceID names the call in the log of this service. The door sets it.
	TraceID string
	// UpstreamTraceID names the call in the log of the upstream.
	UpstreamTraceID string
	// Endpoint is the host that was called.
	Endpoint string
	// Violations name the fields of a bad request.
	Violations []Violation

	// Retry says whether repeating can do harm, as the table has it.
	Retry upstreamv1.Retry
	// After is the least wait before a repetition makes sense.
	After time.Duration
	// Idempotent reports that executing the call twice does no harm: it is a read,
	// an idempotent write, or has an idempotency key.
	Idempotent bool
	// Keyed reports that only its idempotency key makes the call idempotent.
	Keyed bool
	// Cause is for the log, never for callers.
	Cause error
}

// Violation is one broken rule of a request.
type Violation struct {
	// Field is the path of the field, such as "message.content.text".
	Field string
	// Description says the rule.
	Description string
	// Rule is the rule's id, such as "string.max_len".
	Rule string
}

// Error implements error. The text may hold what callers must not see.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Reason + ": " + e.Message + ": " + e.Cause.Error()
	}
	return e.Reason + ": " + e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// RetryAfter returns how long to wait before the call may be repeated as it is. It
// is 0 if the call must not be repeated, because the answer would be the same or
// because the call might be executed twice.
func (e *Error) RetryAfter() time.Duration {
	safe := e.Retry == upstreamv1.Retry_RETRY_SAFE ||
		e.Retry == upstreamv1.Retry_RETRY_IDEMPOTENT && e.Idempotent
	if !safe {
		return 0
	}
	return (e.After + time.Millisecond - 1).Truncate(time.Millisecond) // no earlier
}

// GRPCStatus makes the status that callers see.
func (e *Error) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{e.info()}
	if wait := e.RetryAfter(); wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	if len(e.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range e.Violations {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: v.Field, Description: v.Description, Reason: v.Rule,
			})
		}
		details = append(details, bad)
	}
	s := status.New(e.Code, e.Message)
	detailed, err := s.WithDetails(details...)
	if err != nil { // only for code OK, which the table does not have
		return s
	}
	return detailed
}

func (e *Error) info() *errdetails.ErrorInfo {
	metadata := map[string]string{}
	if e.TraceID != "" {
		metadata["trace_id"] = e.TraceID
	}
	if e.UpstreamTraceID != e.TraceID && e.UpstreamTraceID != "" {
		metadata["upstream_trace_id"] = e.UpstreamTraceID
	}
	if e.UpstreamCode != 0 {
		metadata["upstream_code"] = strconv.FormatInt(e.UpstreamCode, 10)
	}
	if e.HTTPStatus != 0 {
		metadata["http_status"] = strconv.Itoa(e.HTTPStatus)
	}
	if e.Reason == OutcomeUnknown && e.Keyed {
		metadata["repeat"] = "safe with the same idempotency key"
	}
	if e.Endpoint != "" {
		metadata["endpoint"] = e.Endpoint
	}
	return &errdetails.ErrorInfo{Reason: e.Reason, Domain: Domain, Metadata: metadata}
}

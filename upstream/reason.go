package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// Reasons that this package gives itself; the enum of reasons must have them.
const (
	reasonInvalidRequest   = "INVALID_REQUEST"
	reasonUnreachable      = "UPSTREAM_UNREACHABLE"
	reasonOutcomeUnknown   = "OUTCOME_UNKNOWN"
	reasonUnavailable      = "UPSTREAM_UNAVAILABLE"
	reasonHTTPStatus       = "UPSTREAM_HTTP_STATUS"
	reasonReplyInvalid     = "UPSTREAM_REPLY_INVALID"
	reasonReplyTooLarge    = "UPSTREAM_REPLY_TOO_LARGE"
	reasonCodeUnknown      = "UPSTREAM_CODE_UNKNOWN"
	reasonDeadlineExceeded = "DEADLINE_EXCEEDED"
	reasonCancelled        = "CANCELLED"
	reasonInternal         = "INTERNAL"
	reasonQuotaExceeded    = "QUOTA_EXCEEDED"
	reasonOverloaded       = "OVERLOADED"
	reasonClockSkewed      = "CLOCK_SKEWED"
)

// Codes of the upstream with a meaning to this package. Numbers below that of
// success are the facade's own reasons.
const (
	codeSuccess   = 200
	codeRateLimit = 416
)

// How long callers are told to wait, and up to twice as long, if nothing better
// is known.
const (
	repeatAfter   = time.Second
	repeatLimited = 10 * time.Second // the upstream blocks the operation for a while
)

// A reason is one line of the error table.
type reason struct {
	name  string // without the enum's prefix
	code  codes.Code
	retry upstreamv1.Retry
}

// Reasons is the error table: from upstream codes and the facade's own reasons
// to the gRPC code and whether to try again.
type Reasons struct {
	byName map[string]reason
	byCode map[int64]reason
	spread *spread // of when callers come again
}

// NewReasons reads the table from an enum: its numbers from 200 up are the
// upstream's codes, and each value says its meaning in an option.
func NewReasons(enum protoreflect.EnumDescriptor) (*Reasons, error) {
	r := &Reasons{byName: make(map[string]reason), byCode: make(map[int64]reason), spread: newSpread()}
	values := enum.Values()
	prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
	for i := range values.Len() {
		value := values.Get(i)
		if value.Number() == 0 {
			continue
		}
		option, _ := proto.GetExtension(value.Options(), upstreamv1.E_Code).(*upstreamv1.Code)
		if option.GetStatus() == 0 {
			return nil, fmt.Errorf("%s has no gRPC code", value.FullName())
		}
		line := reason{
			name:  strings.TrimPrefix(string(value.Name()), prefix),
			code:  codes.Code(option.GetStatus()), //nolint:gosec // the two enums have the same numbers
			retry: option.GetRetry(),
		}
		r.byName[line.name] = line
		if value.Number() >= codeSuccess {
			r.byCode[int64(value.Number())] = line
		}
	}
	return r, r.check()
}

func (r *Reasons) check() error {
	var errs []error
	for _, name := range []string{
		reasonInvalidRequest, reasonUnreachable, reasonOutcomeUnknown, reasonUnavailable,
		reasonHTTPStatus, reasonReplyInvalid, reasonReplyTooLarge, reasonCodeUnknown,
		reasonDeadlineExceeded, reasonCancelled, reasonInternal,
		reasonQuotaExceeded, reasonOverloaded, reasonClockSkewed,
	} {
		if _, ok := r.byName[name]; !ok {
			errs = append(errs, fmt.Errorf("the table has no reason %s", name))
		}
	}
	return errors.Join(errs...)
}

// Error makes an error for one of the facade's own reasons, named without the
// enum's prefix. It carries the trace id of the context.
func (r *Reasons) Error(ctx context.Context, name, format string, args ...any) *Error {
	line, ok := r.byName[name]
	if !ok {
		line = r.byName[reasonInternal]
	}
	return &Error{
		Reason:  line.name,
		Code:    line.code,
		Message: fmt.Sprintf(format, args...),
		TraceID: TraceID(ctx),
		retry:   line.retry,
		after:   r.pause(line, repeatAfter),
	}
}

// pause returns when a call may come again, if it may: not all in one instant.
func (r *Reasons) pause(line reason, least time.Duration) time.Duration {
	if line.retry == upstreamv1.Retry_RETRY_UNSPECIFIED {
		return 0
	}
	return least + r.spread.over(least)
}

// refusal makes the error for a code that the upstream answered.
func (r *Reasons) refusal(code int64, message string) *Error {
	line, ok := r.byCode[code]
	if !ok {
		line = r.byName[reasonCodeUnknown]
	}
	after := repeatAfter
	if code == codeRateLimit {
		after = repeatLimited
	}
	return &Error{
		Reason:       line.name,
		Code:         line.code,
		Message:      upstreamText(code, message),
		UpstreamCode: code,
		retry:        line.retry,
		after:        r.pause(line, after),
	}
}

// upstreamText limits the foreign text that reaches a caller.
func upstreamText(code int64, message string) string {
	const most = 512
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + "..."
	}
	if message == "" && code == 0 {
		return "the upstream gave no reason"
	}
	if message == "" {
		return fmt.Sprintf("upstream code %d", code)
	}
	return fmt.Sprintf("%s (upstream code %d)", message, code)
}

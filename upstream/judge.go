package upstream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
)

// judge turns an attempt into the operation's data or its error.
func (c *Conn) judge(ctx context.Context, op operation, a attempt) ([]byte, *Error) {
	var e *Error
	answer, err := readEnvelope(a.body)
	switch {
	case a.err != nil:
		e = c.failed(ctx, op, a)
	case err == nil && answer.code == codeSuccess && a.status == http.StatusOK:
		return answer.data, nil
	case err == nil && answer.code != codeSuccess:
		e = c.refused(ctx, answer, a)
	case a.status != http.StatusOK:
		e = c.badStatus(ctx, op, a)
	default:
		e = c.reasons.Error(ctx, reasonReplyInvalid, "the upstream's answer cannot be read: %v", err)
	}
	return nil, c.complete(e, op, a)
}

// complete adds to an error what is known of the operation.
func (c *Conn) complete(e *Error, op operation, a attempt) *Error {
	e.TraceID, e.UpstreamTraceID, e.class = op.rpc, op.id, op.class
	if a.host != nil {
		e.Endpoint = a.host.name
	}
	if a.status != http.StatusOK && a.status != 0 {
		e.HTTPStatus = a.status
	}
	if e.cause == nil {
		e.cause = a.err
	}
	return e
}

// failed judges an attempt without an answer.
func (c *Conn) failed(ctx context.Context, op operation, a attempt) *Error {
	switch {
	case errors.Is(a.err, errReplyTooLarge):
		return c.reasons.Error(ctx, reasonReplyTooLarge, "%v", a.err)
	case ctx.Err() != nil:
		return c.ended(ctx, op, a)
	case !a.sent:
		return c.reasons.Error(ctx, reasonUnreachable, "no endpoint of the upstream can be reached; nothing was sent")
	case op.class <= keyedWrite:
		return c.reasons.Error(ctx, reasonOutcomeUnknown, "the upstream's answer was lost; the call may have been executed")
	default:
		return c.reasons.Error(ctx, reasonUnavailable, "the upstream's answer was lost")
	}
}

// ended judges an attempt that ended with the caller's patience. The gRPC code
// says that, and the reason whether anything may have been done.
func (c *Conn) ended(ctx context.Context, op operation, a attempt) *Error {
	name, code, what := reasonCancelled, codes.Canceled, "the caller went away"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		name, code, what = reasonDeadlineExceeded, codes.DeadlineExceeded, "the deadline passed"
	}
	if a.sent && op.class != read {
		name, what = reasonOutcomeUnknown, what+"; the call may have been executed"
	}
	e := c.reasons.Error(ctx, name, "%s", what)
	e.Code = code
	return e
}

// badStatus judges an HTTP status that comes without an envelope: below 500 the
// call was refused, from 500 up a gateway on the way knows no more than we do.
func (c *Conn) badStatus(ctx context.Context, op operation, a attempt) *Error {
	switch {
	case a.status < http.StatusInternalServerError:
		return c.reasons.Error(ctx, reasonHTTPStatus, "the upstream answered HTTP status %d", a.status)
	case op.class <= keyedWrite:
		return c.reasons.Error(ctx, reasonOutcomeUnknown, "the upstream answered HTTP status %d; the call may have been executed", a.status)
	default:
		return c.reasons.Error(ctx, reasonUnavailable, "the upstream answered HTTP status %d", a.status)
	}
}

// refused judges an answer with a code of the upstream. It refuses signatures by
// codes that have other meanings too, which would send people looking for the
// wrong mistake.
func (c *Conn) refused(ctx context.Context, answer envelope, a attempt) *Error {
	e := c.reasons.refusal(answer.code, answer.message)
	if !refuses(answer.code, a.skew) {
		return e
	}
	skewed := c.reasons.Error(ctx, reasonClockSkewed, "the clock of this service is %v off the upstream's, which refuses its signatures", a.skew.Abs().Round(time.Second))
	skewed.UpstreamCode, skewed.cause = e.UpstreamCode, e
	return skewed
}

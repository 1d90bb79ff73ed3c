package upstream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// judge turns an attempt into the operation's data or its error.
func (c *Conn) judge(ctx context.Context, op operation, a attempt) ([]byte, *apierror.Error) {
	var e *apierror.Error
	answer, err := readEnvelope(a.body)
	switch {
	case a.err != nil:
		e = c.failed(ctx, op, a)
	case err == nil && answer.code == apierror.CodeSuccess && a.status == http.StatusOK:
		return answer.data, nil
	case err == nil && answer.code != apierror.CodeSuccess:
		e = c.refused(ctx, answer, a)
	case a.status != http.StatusOK:
		e = c.badStatus(ctx, op, a)
	default:
		e = c.table.Error(apierror.ReplyInvalid, "the upstream's answer cannot be read: %v", err)
	}
	return nil, c.complete(e, op, a)
}

// complete adds to an error what is known of the operation.
func (c *Conn) complete(e *apierror.Error, op operation, a attempt) *apierror.Error {
	e.TraceID, e.UpstreamTraceID = op.rpc, op.id
	e.Idempotent, e.Keyed = op.class != plainWrite, op.class == keyedWrite
	if a.host != nil {
		e.Endpoint = a.host.name
	}
	if a.status != http.StatusOK && a.status != 0 {
		e.HTTPStatus = a.status
	}
	if e.Cause == nil {
		e.Cause = a.err
	}
	return e
}

// failed judges an attempt without an answer.
func (c *Conn) failed(ctx context.Context, op operation, a attempt) *apierror.Error {
	switch {
	case errors.Is(a.err, errReplyTooLarge):
		return c.table.Error(apierror.ReplyTooLarge, "%v", a.err)
	case ctx.Err() != nil:
		return c.ended(ctx, op, a)
	case !a.sent:
		return c.table.Error(apierror.Unreachable, "no endpoint of the upstream can be reached; nothing was sent")
	case op.class <= keyedWrite:
		return c.table.Error(apierror.OutcomeUnknown, "the upstream's answer was lost; the call may have been executed")
	default:
		return c.table.Error(apierror.Unavailable, "the upstream's answer was lost")
	}
}

// ended judges an attempt that ended with the caller's patience. The gRPC code
// says that, and the reason whether anything may have been done.
func (c *Conn) ended(ctx context.Context, op operation, a attempt) *apierror.Error {
	name, code, what := apierror.Cancelled, codes.Canceled, "the caller went away"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		name, code, what = apierror.DeadlineExceeded, codes.DeadlineExceeded, "the deadline passed"
	}
	if a.sent && op.class != read {
		name, what = apierror.OutcomeUnknown, what+"; the call may have been executed"
	}
	e := c.table.Error(name, "%s", what)
	e.Code = code
	return e
}

// badStatus judges an HTTP status that comes without an envelope: below 500 the
// call was refused, from 500 up a gateway on the way knows no more than we do.
func (c *Conn) badStatus(ctx context.Context, op operation, a attempt) *apierror.Error {
	switch {
	case a.status < http.StatusInternalServerError:
		return c.table.Error(apierror.HTTPStatus, "the upstream answered HTTP status %d", a.status)
	case op.class <= keyedWrite:
		return c.table.Error(apierror.OutcomeUnknown, "the upstream answered HTTP status %d; the call may have been executed", a.status)
	default:
		return c.table.Error(apierror.Unavailable, "the upstream answered HTTP status %d", a.status)
	}
}

// refused judges an answer with a code of the upstream. It refuses signatures by
// codes that have other meanings too, which would send people looking for the
// wrong mistake.
func (c *Conn) refused(ctx context.Context, answer envelope, a attempt) *apierror.Error {
	e := c.table.Upstream(answer.code, answer.message)
	if !refuses(answer.code, a.skew) {
		return e
	}
	skewed := c.table.Error(apierror.ClockSkewed, "the clock of this service is %v off the upstream's, which refuses its signatures", a.skew.Abs().Round(time.Second))
	skewed.UpstreamCode, skewed.Cause = e.UpstreamCode, e
	return skewed
}

package upstream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/codec"
	"github.com/yunxin-facade/yunxin-facade/upstream/credentials"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
)

// Codes with which the upstream refuses signatures. They have other meanings too.
const (
	codeForbidden = 403
	codeInvalid   = 414
)

// classify turns an attempt into the data of the call or its error.
func (c *Conn) classify(ctx context.Context, made call, a attempt) ([]byte, *apierror.Error) {
	var e *apierror.Error
	answer, err := codec.ReadEnvelope(a.body)
	switch {
	case a.err != nil:
		e = c.failed(ctx, made, a)
	case err == nil && answer.Code == apierror.CodeSuccess && a.status == http.StatusOK:
		return answer.Data, nil
	case err == nil && answer.Code != apierror.CodeSuccess:
		e = c.refused(answer, a)
	case a.status != http.StatusOK:
		e = c.badStatus(made, a)
	default:
		e = c.table.Error(apierror.ReplyInvalid, "the upstream's answer cannot be read: %v", err)
	}
	return nil, c.complete(e, made, a)
}

// complete adds to an error what is known of the call.
func (c *Conn) complete(e *apierror.Error, made call, a attempt) *apierror.Error {
	e.TraceID, e.UpstreamTraceID = made.traceID, made.id
	e.Idempotent, e.Keyed = made.class != codec.PlainWrite, made.class == codec.KeyedWrite
	if a.endpoint() != nil {
		e.Endpoint = a.endpoint().Name
	}
	if a.status != http.StatusOK && a.status != 0 {
		e.HTTPStatus = a.status
	}
	if e.Cause == nil {
		e.Cause = a.err
	}
	return e
}

// failed classifies an attempt without an answer.
func (c *Conn) failed(ctx context.Context, made call, a attempt) *apierror.Error {
	switch {
	case errors.Is(a.err, errReplyTooLarge):
		return c.table.Error(apierror.ReplyTooLarge, "%v", a.err)
	case ctx.Err() != nil:
		return c.ended(ctx, made, a)
	case !a.sent:
		return c.table.Error(apierror.Unreachable, "no endpoint of the upstream can be reached; nothing was sent")
	case made.class <= codec.KeyedWrite:
		return c.table.Error(apierror.OutcomeUnknown, "the upstream's answer was lost; the call may have been executed")
	default:
		return c.table.Error(apierror.Unavailable, "the upstream's answer was lost")
	}
}

// ended classifies an attempt that ended because the caller went away or its deadline
// passed. The gRPC code says that, and the reason whether anything may have been done.
func (c *Conn) ended(ctx context.Context, made call, a attempt) *apierror.Error {
	name, code, what := apierror.Cancelled, codes.Canceled, "the caller went away"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		name, code, what = apierror.DeadlineExceeded, codes.DeadlineExceeded, "the deadline passed"
	}
	if a.sent && made.class != codec.Read {
		name, what = apierror.OutcomeUnknown, what+"; the call may have been executed"
	}
	e := c.table.Error(name, "%s", what)
	e.Code = code
	return e
}

// badStatus classifies an HTTP status that comes without an envelope: below 500 the
// call was refused, from 500 up a gateway on the way knows no more than we do.
func (c *Conn) badStatus(made call, a attempt) *apierror.Error {
	switch {
	case a.status < http.StatusInternalServerError:
		return c.table.Error(apierror.HTTPStatus, "the upstream answered HTTP status %d", a.status)
	case made.class <= codec.KeyedWrite:
		return c.table.Error(apierror.OutcomeUnknown, "the upstream answered HTTP status %d; the call may have been executed", a.status)
	default:
		return c.table.Error(apierror.Unavailable, "the upstream answered HTTP status %d", a.status)
	}
}

// refused classifies an answer with a code of the upstream. A refused signature has a
// code with other meanings too, which would send people looking for the wrong mistake.
func (c *Conn) refused(answer codec.Envelope, a attempt) *apierror.Error {
	e := c.table.Upstream(answer.Code, answer.Text)
	if !ofSignatures(answer.Code) || a.skew.Abs() < credentials.MaxSkew {
		return e
	}
	skewed := c.table.Error(apierror.ClockSkewed, "the clock of this service is %v off the upstream's, which refuses its signatures", a.skew.Abs().Round(time.Second))
	skewed.UpstreamCode, skewed.Cause = e.UpstreamCode, e
	return skewed
}

func ofSignatures(code int64) bool { return code == codeForbidden || code == codeInvalid }

// slowFailure is the time after which an attempt that is cut off counts as a failure
// of its endpoint, whoever cut it off.
const slowFailure = 2 * time.Second

// resultOf returns what an attempt says about its endpoint.
func resultOf(ctx context.Context, a attempt) failover.Result {
	switch {
	case errors.Is(a.err, errReplyTooLarge):
		return failover.Answered
	case a.err != nil && ctx.Err() != nil && a.took < slowFailure, a.stale():
		return failover.Abandoned
	case a.err != nil:
		return failover.Failed
	case a.status >= http.StatusInternalServerError:
		if _, err := codec.ReadEnvelope(a.body); err != nil {
			return failover.Failed
		}
	}
	return failover.Answered
}

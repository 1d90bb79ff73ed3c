package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// An operation is one call of the upstream, however many attempts it takes.
type operation struct {
	*endpoint
	class  class  // the endpoint's, or keyed
	target string // path and query
	body   []byte
	rpc    string // trace id of the call that the operation serves
	id     string // trace id of the operation, the same in all attempts
}

// An attempt is what became of one HTTP exchange.
type attempt struct {
	status int
	body   []byte
	err    error
	sent   bool // the upstream may have seen the request
	reused bool // the connection was an old one, which the upstream may have closed
}

var errReplyTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxReplyBytes)

// do carries out an operation and returns the data it answered. Each attempt is
// signed anew and carries the same trace id.
func (c *Conn) do(ctx context.Context, op operation) ([]byte, error) {
	c.budget.earn()
	unsure := false // an earlier attempt may have been executed
	for n := 1; ; n++ {
		a := c.try(ctx, op)
		data, e := c.judge(ctx, op, a)
		if e == nil {
			return data, nil
		}
		if unsure {
			c.stillUnsure(e)
		}
		wait, again := c.next(ctx, n, a, e)
		if !again {
			return nil, e
		}
		unsure = unsure || op.class != read && e.retry == upstreamv1.Retry_RETRY_IDEMPOTENT
		c.log.DebugContext(ctx, "trying again", "trace_id", op.id, "attempt", n, "wait", wait, "reason", e.Reason, "cause", e.cause)
		pause(ctx, wait)
	}
}

// stillUnsure keeps an attempt that sent nothing from hiding that an earlier one
// may have been executed.
func (c *Conn) stillUnsure(e *Error) {
	switch e.Reason {
	case reasonUnreachable, reasonDeadlineExceeded, reasonCancelled:
		e.Reason, e.retry = reasonOutcomeUnknown, upstreamv1.Retry_RETRY_IDEMPOTENT
		e.Message = "an earlier attempt may have been executed"
	}
}

// stale tells whether the attempt failed on a connection of the pool, and not
// for want of time.
func (a attempt) stale() bool {
	return a.err != nil && a.status == 0 && a.reused && !os.IsTimeout(a.err)
}

// try makes one attempt.
func (c *Conn) try(ctx context.Context, op operation) attempt {
	var sent, reused atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		sent.Store(true) // from here on bytes may have left
		reused.Store(info.Reused)
	}})
	status, body, err := c.exchange(ctx, op)
	return attempt{status: status, body: body, err: err, sent: sent.Load(), reused: reused.Load()}
}

func (c *Conn) exchange(ctx context.Context, op operation) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, op.method, c.base+op.target, bytes.NewReader(op.body))
	if err != nil {
		return 0, nil, err
	}
	if op.body == nil {
		// Not http.NoBody: net/http would send a GET again by itself, after it
		// may have arrived, under the same signature.
		request.Body, request.GetBody = io.NopCloser(bytes.NewReader(nil)), nil
		if op.hasBody {
			request.Body = http.NoBody
		}
	} else {
		request.Header.Set("Content-Type", "application/json;charset=utf-8")
	}
	request.Header.Set("User-Agent", c.userAgent)
	request.Header["X-custom-traceid"] = []string{op.id}
	sign(request.Header, c.appKey, c.appSecret, c.now())
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response.StatusCode, nil, nil // the body would be the connection itself, without a time limit
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxReplyBytes+1))
	if err == nil && len(body) > maxReplyBytes {
		err = errReplyTooLarge
	}
	if err != nil {
		return response.StatusCode, nil, err // part of an answer is none
	}
	return response.StatusCode, body, nil
}

// judge turns an attempt into the operation's data or its error.
func (c *Conn) judge(ctx context.Context, op operation, a attempt) ([]byte, *Error) {
	var e *Error
	reply, err := readEnvelope(a.body)
	switch {
	case a.err != nil:
		e = c.failed(ctx, op, a)
	case err == nil && reply.code == codeSuccess && a.status == http.StatusOK:
		return reply.data, nil
	case err == nil && reply.code != codeSuccess:
		e = c.reasons.refusal(reply.code, reply.message)
	case a.status != http.StatusOK:
		e = c.badStatus(ctx, op, a)
	default:
		e = c.reasons.Error(ctx, reasonReplyInvalid, "the upstream's answer cannot be read: %v", err)
	}
	return nil, c.complete(e, op, a)
}

// complete adds to an error what is known of the operation.
func (c *Conn) complete(e *Error, op operation, a attempt) *Error {
	e.TraceID, e.UpstreamTraceID, e.Endpoint, e.class = op.rpc, op.id, c.host, op.class
	if a.status != http.StatusOK {
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
		return c.reasons.Error(ctx, reasonUnreachable, "no connection to the upstream; nothing was sent")
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

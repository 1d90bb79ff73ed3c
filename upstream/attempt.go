package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// An operation is one call of the upstream, however many attempts it takes.
type operation struct {
	*endpoint
	class  class  // the endpoint's, or keyed
	target string // path and query
	body   []byte
	rpc    string // trace id of the call that the operation serves
	id     string // trace id of the operation, the same in all attempts
	secret string // that signs the attempt
}

// An attempt is what became of one HTTP exchange.
type attempt struct {
	host   *host           // nil if no attempt was made
	trial  bool            // it finds out whether the host is back
	era    context.Context //nolint:containedctx // ends when other hosts take over
	status int
	skew   time.Duration // by which the upstream's clock is ahead
	body   []byte
	err    error
	sent   bool // the upstream may have seen the request
	idle   bool // the connection had been idle, so the upstream may have closed it
	moved  bool // it was cut off because another host took over
	took   time.Duration
}

var errReplyTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxReplyBytes)

// A reply is the data that the upstream answered.
type reply struct {
	data []byte
	host *host  // which answered
	id   string // trace id of the operation
}

// do carries out an operation. Each attempt is signed anew and carries the same
// trace id.
func (c *Conn) do(ctx context.Context, op operation) (reply, *apierror.Error) {
	c.budget.earn()
	unsure := false // an earlier attempt may have been executed
	var avoid *host
	for n := 1; ; n++ {
		a, data, e := c.trySecrets(ctx, op, avoid)
		if e == nil {
			return reply{data, a.host, op.id}, nil
		}
		wait, again := c.next(ctx, n, a, e)
		if !again {
			if unsure {
				c.stillUnsure(ctx, e)
			}
			return reply{}, e
		}
		unsure = unsure || op.class != read && e.Retry == upstreamv1.Retry_RETRY_IDEMPOTENT
		avoid = a.host
		c.log.DebugContext(ctx, "trying again", "trace_id", op.id, "attempt", n, "wait", wait, "reason", e.Reason, "cause", e.Cause)
		pause(ctx, wait)
	}
}

// try makes one attempt, if it is let, and tells all who learn from it.
func (c *Conn) try(ctx context.Context, op operation, avoid *host) (attempt, []byte, *apierror.Error) {
	a, e := c.admit(ctx, op, avoid)
	if e != nil {
		return a, nil, c.complete(e, op, a)
	}
	begin := time.Now()
	c.attempt(ctx, op, &a)
	a.took = time.Since(begin)
	r := resultOf(ctx, a)
	data, e := c.judge(ctx, op, a)
	c.pool.report(a.host, a.trial, r)
	limited := e != nil && e.UpstreamCode == apierror.CodeRateLimit
	a.host.slots.release(op.endpoint, a.took, r == answered && !limited) // a refusal is quicker than any work
	switch {
	case limited:
		op.quota.refused()
		e.After = op.quota.pause()
	case r == answered:
		op.quota.accepted()
	default:
		op.quota.unanswered()
	}
	c.metrics.attempt(op, a, outcomeOf(r, e))
	return a, data, e
}

// admit waits until an attempt may be made, for the quota first and then for the
// host, and chooses the host. What it refuses was not sent.
func (c *Conn) admit(ctx context.Context, op operation, avoid *host) (attempt, *apierror.Error) {
	if !c.pool.alive() {
		return attempt{}, c.turnAway(ctx, op, apierror.Unreachable, "no endpoint of the upstream can be reached; nothing was sent")
	}
	begin := time.Now()
	after, err := op.quota.admit(ctx)
	c.metrics.waits.Observe(time.Since(begin).Seconds())
	switch {
	case ctx.Err() != nil:
		if err == nil {
			op.quota.unused()
		}
		return attempt{}, c.ended(ctx, op, attempt{})
	case err != nil:
		e := c.turnAway(ctx, op, apierror.QuotaExceeded, "the app's quota for this operation is used up; nothing was sent")
		e.After = after
		return attempt{}, e
	}
	a, ok := c.pool.pick(op.class, avoid)
	if !ok {
		op.quota.unused()
		return attempt{}, c.turnAway(ctx, op, apierror.Unreachable, "no endpoint of the upstream can be reached; nothing was sent")
	}
	if err := a.host.slots.acquire(ctx); err != nil {
		c.pool.report(a.host, a.trial, abandoned)
		op.quota.unused()
		if ctx.Err() != nil {
			return attempt{}, c.ended(ctx, op, attempt{})
		}
		return attempt{}, c.turnAway(ctx, op, apierror.Overloaded, "the upstream has as many calls in progress as it can carry; nothing was sent")
	}
	return a, nil
}

func (c *Conn) turnAway(ctx context.Context, op operation, name, text string) *apierror.Error {
	c.metrics.refusals.WithLabelValues(op.name, name).Inc()
	return c.table.Error(name, "%s", text)
}

// stillUnsure keeps the last attempt from hiding that an earlier one may have been
// executed. What it was refused for may even come from that: what was deleted
// before is not found. Only an answer that something exists tells what happened,
// and some say themselves that nobody knows.
func (c *Conn) stillUnsure(ctx context.Context, e *apierror.Error) {
	if e.Retry == upstreamv1.Retry_RETRY_IDEMPOTENT || e.Code == codes.AlreadyExists {
		return
	}
	unknown := c.table.Error(apierror.OutcomeUnknown, "an earlier attempt may have been executed; the last one: %s", e.Message)
	e.Reason, e.Message, e.Retry, e.After = unknown.Reason, unknown.Message, unknown.Retry, max(e.After, unknown.After)
	if e.Code != codes.Canceled && e.Code != codes.DeadlineExceeded {
		e.Code = unknown.Code
	}
}

// stale tells whether the attempt failed because an idle connection had been
// closed: not for want of time, nor by a stream of HTTP/2 of its own.
func (a attempt) stale() bool {
	_, stream := errors.AsType[http2.StreamError](a.err)
	return a.err != nil && a.status == 0 && a.idle && !stream && !a.moved && !os.IsTimeout(a.err)
}

// attempt makes an HTTP exchange with its host. It ends when another host takes
// over, unless that would leave the outcome of a write unknown.
func (c *Conn) attempt(ctx context.Context, op operation, a *attempt) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sent, idle atomic.Bool
	defer context.AfterFunc(a.era, func() { //nolint:contextcheck // the era is no call's
		if op.class > plainWrite || !sent.Load() {
			cancel(errMoved)
		}
	})()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		sent.Store(true) // from here on bytes may have left
		idle.Store(info.WasIdle)
	}})
	a.err = c.exchange(traced, op, a)
	a.sent, a.idle = sent.Load(), idle.Load()
	a.moved = a.err != nil && errors.Is(context.Cause(ctx), errMoved)
}

func (c *Conn) exchange(ctx context.Context, op operation, a *attempt) error {
	request, err := http.NewRequestWithContext(ctx, op.method, a.host.base+op.target, bytes.NewReader(op.body))
	if err != nil {
		return err
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
	sign(request.Header, c.appKey, op.secret, c.clock.now())
	response, err := a.host.client.Do(request)
	if whole, ok := errors.AsType[*url.Error](err); ok {
		return whole.Err // the URL may hold what people said, such as the words of a search
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	a.status = response.StatusCode
	a.skew = c.checkClock(ctx, response.Header.Get("Date"))
	if a.status == http.StatusSwitchingProtocols {
		return nil // the body would be the connection itself, without a time limit
	}
	body, err := c.readReply(ctx, response.Body)
	if err != nil {
		return err // part of an answer is none
	}
	a.body = body
	return nil
}

// readReply reads an answer. Few large ones are read at a time: many at once, each
// below its limit, would take more memory than there is.
func (c *Conn) readReply(ctx context.Context, from io.Reader) ([]byte, error) {
	var body bytes.Buffer
	if n, err := io.CopyN(&body, from, smallReplyBytes); err != nil || n < smallReplyBytes {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return body.Bytes(), err
	}
	select {
	case c.largeReplies <- struct{}{}:
		defer func() { <-c.largeReplies }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	_, err := body.ReadFrom(io.LimitReader(from, maxReplyBytes+1-smallReplyBytes))
	if err == nil && body.Len() > maxReplyBytes {
		err = errReplyTooLarge
	}
	return body.Bytes(), err
}

// checkClock compares the clocks, and warns before signatures are refused.
func (c *Conn) checkClock(ctx context.Context, date string) time.Duration {
	skew, warn := c.clock.compare(date)
	if warn {
		c.log.WarnContext(ctx, "the clocks of this machine and of the upstream differ; beyond 5 minutes the upstream refuses all calls: set the clock, and keep it with NTP",
			"upstream_ahead", skew.Round(time.Second))
	}
	return skew
}

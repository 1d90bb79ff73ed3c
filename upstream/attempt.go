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

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/codec"
	"github.com/yunxin-facade/yunxin-facade/upstream/credentials"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/quota"
)

// Limits of an answer. Few large ones are read at a time: many at once, each below its
// limit, would take more memory than there is.
const (
	maxReplyBytes   = 8 << 20
	smallReplyBytes = 256 << 10
	maxLargeReplies = 4
)

var (
	errReplyTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxReplyBytes)
	// errMoved ends attempts whose endpoint went silent while another is in service.
	errMoved = errors.New("the endpoint went silent; others take over")
)

// attempt is what became of one HTTP exchange.
type attempt struct {
	lease  failover.Lease // without an endpoint if no attempt was made
	status int
	skew   time.Duration // by which the upstream's clock is ahead
	body   []byte
	err    error
	sent   bool // the upstream may have seen the request
	idle   bool // the connection had been idle, so the upstream may have closed it
	moved  bool // it was cut off because another endpoint took over
	took   time.Duration
}

func (a attempt) endpoint() *failover.Endpoint { return a.lease.Endpoint }

// stale reports whether the attempt failed because an idle connection had been closed:
// not for want of time, nor by a stream of HTTP/2 of its own.
func (a attempt) stale() bool {
	_, stream := errors.AsType[http2.StreamError](a.err)
	return a.err != nil && a.status == 0 && a.idle && !stream && !a.moved && !os.IsTimeout(a.err)
}

// try makes one attempt, if it is admitted, and reports it to all who learn from it.
func (c *Conn) try(ctx context.Context, made call, avoid *failover.Endpoint) (attempt, []byte, *apierror.Error) {
	lease, e := c.admit(ctx, made, avoid)
	a := attempt{lease: lease}
	if e != nil {
		return a, nil, c.complete(e, made, a)
	}
	begin := time.Now()
	c.attempt(ctx, made, &a)
	a.took = time.Since(begin)
	data, e := c.classify(ctx, made, a)
	c.report(ctx, made, a, e)
	return a, data, e
}

// report tells the health of the endpoint, the limiter, the quota and the metrics how
// an attempt ended.
func (c *Conn) report(ctx context.Context, made call, a attempt, e *apierror.Error) {
	result := resultOf(ctx, a)
	c.endpoints.Report(a.lease, result)
	limited := e != nil && e.UpstreamCode == apierror.CodeRateLimit
	executed := result == failover.Answered && !limited // a refusal is quicker than any work
	c.limiterOf(a.endpoint()).Release(made.Name, a.took, executed)
	switch {
	case limited:
		made.quota.Refused()
		e.After = made.quota.Pause()
	case result == failover.Answered:
		made.quota.Accepted()
	default:
		made.quota.Unanswered()
	}
	c.metrics.attempt(made, a, outcomeOf(result, e))
}

// admit waits until an attempt may be made, for the quota first and then for the
// endpoint, and chooses the endpoint. What it refuses was not sent.
func (c *Conn) admit(ctx context.Context, made call, avoid *failover.Endpoint) (failover.Lease, *apierror.Error) {
	var none failover.Lease
	if !c.endpoints.Alive() {
		return none, c.turnAway(made, apierror.Unreachable, "no endpoint of the upstream can be reached; nothing was sent")
	}
	begin, info := time.Now(), infoOf(ctx)
	after, err := made.quota.Wait(ctx, quota.Caller{Name: info.Caller, Share: info.QuotaShare})
	c.metrics.waits.Observe(time.Since(begin).Seconds())
	switch {
	case ctx.Err() != nil:
		if err == nil {
			made.quota.Unused()
		}
		return none, c.ended(ctx, made, attempt{})
	case err != nil:
		e := c.turnAway(made, apierror.QuotaExceeded, "the app's quota for this operation is used up; nothing was sent")
		e.After = after
		return none, e
	}
	lease, ok := c.endpoints.Pick(made.class > codec.PlainWrite, avoid)
	if !ok {
		made.quota.Unused()
		return none, c.turnAway(made, apierror.Unreachable, "no endpoint of the upstream can be reached; nothing was sent")
	}
	if err := c.limiterOf(lease.Endpoint).Acquire(ctx); err != nil {
		c.endpoints.Report(lease, failover.Abandoned)
		made.quota.Unused()
		if ctx.Err() != nil {
			return none, c.ended(ctx, made, attempt{})
		}
		return none, c.turnAway(made, apierror.Overloaded, "the upstream has as many calls in progress as it can carry; nothing was sent")
	}
	return lease, nil
}

func (c *Conn) turnAway(made call, reason, text string) *apierror.Error {
	c.metrics.refusals.WithLabelValues(made.Name, reason).Inc()
	return c.table.Error(reason, "%s", text)
}

// attempt makes an HTTP exchange with the endpoint of its lease. It ends with the
// lease, unless that would leave the outcome of a write unknown.
func (c *Conn) attempt(ctx context.Context, made call, a *attempt) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sent, idle atomic.Bool
	defer context.AfterFunc(a.lease.Context, func() { //nolint:contextcheck // the lease is no call's
		if made.class > codec.PlainWrite || !sent.Load() {
			cancel(errMoved)
		}
	})()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		sent.Store(true) // from here on bytes may have left
		idle.Store(info.WasIdle)
	}})
	a.err = c.exchange(traced, made, a)
	a.sent, a.idle = sent.Load(), idle.Load()
	a.moved = a.err != nil && errors.Is(context.Cause(ctx), errMoved)
}

func (c *Conn) exchange(ctx context.Context, made call, a *attempt) error {
	request, err := http.NewRequestWithContext(ctx, made.Verb, a.endpoint().Base+made.target, bytes.NewReader(made.body))
	if err != nil {
		return err
	}
	if made.body == nil {
		// Not http.NoBody: net/http would send a GET again by itself, after it may have
		// arrived, under the same signature.
		request.Body, request.GetBody = io.NopCloser(bytes.NewReader(nil)), nil
		if made.HasBody {
			request.Body = http.NoBody
		}
	} else {
		request.Header.Set("Content-Type", "application/json;charset=utf-8")
	}
	request.Header.Set("User-Agent", c.userAgent)
	request.Header["X-custom-traceid"] = []string{made.id}
	credentials.Sign(request.Header, c.appKey, made.secret, c.clock.Now())
	response, err := a.endpoint().Client.Do(request)
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

// readReply reads an answer.
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
	skew, warn := c.clock.Compare(date)
	if warn {
		c.log.WarnContext(ctx, "the clocks of this machine and of the upstream differ; beyond 5 minutes the upstream refuses all calls: set the clock, and keep it with NTP",
			"upstream_ahead", skew.Round(time.Second))
	}
	return skew
}

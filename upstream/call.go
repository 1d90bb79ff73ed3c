package upstream

import (
	"cmp"
	"context"
	"fmt"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/codec"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/quota"
)

// call is one execution of an operation, however many attempts it takes.
type call struct {
	*codec.Operation

	class   codec.Class // the operation's, or KeyedWrite
	quota   *quota.Quota
	target  string // path and query
	body    []byte
	traceID string // of the caller's call that this one serves
	id      string // trace id of this call, the same in all attempts
	secret  string // that signs the attempt
}

// reply is the data that the upstream answered.
type reply struct {
	data     []byte
	endpoint *failover.Endpoint // which answered
	id       string             // trace id of the call
}

// newCall decides the class and the trace id of a call, and writes its request.
// Messages without a client id get one, in the request itself.
func (c *Conn) newCall(ctx context.Context, method string, operation *codec.Operation, request proto.Message) (call, error) {
	info := infoOf(ctx)
	made := call{Operation: operation, class: operation.Class, quota: c.quotas[method], traceID: info.TraceID}
	if info.IdempotencyKey != "" && operation.Class != codec.Read {
		made.id = keyedID(c.appKey, info.IdempotencyKey, method, request)
		made.class = max(operation.Class, codec.KeyedWrite)
	} else {
		made.id = info.traceID()
	}
	made.traceID = cmp.Or(made.traceID, made.id)
	operation.FillClientIDs(request, made.id)
	var err error
	made.target, made.body, err = operation.Encode(request)
	return made, err
}

// execute makes a call. Identical reads share one, except those of callers with a
// quota share, who may have to wait longer than others.
func (c *Conn) execute(ctx context.Context, made call) (reply, *apierror.Error) {
	switch {
	case c.singleflight == nil:
		return c.do(ctx, made)
	case made.class != codec.Read:
		defer c.singleflight.wrote()
		return c.do(ctx, made)
	case infoOf(ctx).HasShare():
		return c.do(ctx, made)
	}
	key := fmt.Sprintf("%s %s %s", made.Name, made.target, made.body)
	l, ok := c.singleflight.do(ctx, key, func(ctx context.Context) (reply, *apierror.Error) { return c.do(ctx, made) })
	switch {
	case !ok:
		return reply{}, c.complete(c.ended(ctx, made, attempt{}), made, attempt{})
	case l.joined && l.err != nil && turnedAway(l.err):
		return c.do(ctx, made) // whoever began it may have had less time to wait
	case l.joined:
		c.metrics.shared.Inc()
	}
	if l.err != nil {
		l.err.TraceID = made.traceID
	}
	return l.reply, l.err
}

// turnedAway reports whether a call was not sent because it would have waited too
// long.
func turnedAway(e *apierror.Error) bool {
	return e.Reason == apierror.QuotaExceeded || e.Reason == apierror.Overloaded
}

// do makes the attempts of a call. Each is signed anew and carries the same trace id.
func (c *Conn) do(ctx context.Context, made call) (reply, *apierror.Error) {
	c.budget.earn()
	unsure := false // an earlier attempt may have been executed
	var avoid *failover.Endpoint
	for n := 1; ; n++ {
		a, data, e := c.trySecrets(ctx, made, avoid)
		if e == nil {
			return reply{data, a.endpoint(), made.id}, nil
		}
		wait, again := c.next(ctx, n, a, e)
		if !again {
			if unsure {
				c.stillUnsure(e)
			}
			return reply{}, e
		}
		unsure = unsure || made.class != codec.Read && e.Retry == upstreamv1.Retry_RETRY_IDEMPOTENT
		avoid = a.endpoint()
		c.log.DebugContext(ctx, "trying again", "trace_id", made.id, "attempt", n, "wait", wait, "reason", e.Reason, "cause", e.Cause)
		pause(ctx, wait)
	}
}

// stillUnsure keeps the last attempt from hiding that an earlier one may have been
// executed. The last one may even be refused because of that: what was deleted before
// is not found. Only an answer that something exists tells what happened, and some
// errors already say that nobody knows.
func (c *Conn) stillUnsure(e *apierror.Error) {
	if e.Retry == upstreamv1.Retry_RETRY_IDEMPOTENT || e.Code == codes.AlreadyExists {
		return
	}
	unknown := c.table.Error(apierror.OutcomeUnknown, "an earlier attempt may have been executed; the last one: %s", e.Message)
	e.Reason, e.Message, e.Retry, e.After = unknown.Reason, unknown.Message, unknown.Retry, max(e.After, unknown.After)
	if e.Code != codes.Canceled && e.Code != codes.DeadlineExceeded {
		e.Code = unknown.Code
	}
}

// decode reads an answer into the reply of a call.
func (c *Conn) decode(made call, answer reply, into proto.Message) *apierror.Error {
	made.id = answer.id // another's if the call was shared
	at := attempt{lease: failover.Lease{Endpoint: answer.endpoint}}
	err := made.Decode(answer.data, into, func(code int64, text string) *statuspb.Status {
		return c.complete(c.table.Upstream(code, text), made, at).GRPCStatus().Proto()
	})
	if err == nil {
		return nil
	}
	invalid := c.table.Error(apierror.ReplyInvalid, "the upstream's answer cannot be read")
	invalid.Cause = err
	return c.complete(invalid, made, at)
}

package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/internal/audit"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// observe tells of every call, and sees to it that its error is of the one kind
// that callers know.
func observe(refusals *refusals, telemetry *telemetry) interceptor {
	finish := func(ctx context.Context, method string, begin time.Time, err error) error {
		c := call{door: door(ctx), address: addressIn(ctx), name: cut(method), method: method, begin: begin}
		if isInfrastructure(method) {
			c.code = status.Code(err)
			if denied, ok := errors.AsType[*denial](err); ok { // who tries keys, tries them here too
				c.reason = denied.refusal.Reason
				telemetry.record(ctx, c, denialAttrs(err)...)
				return denied.refusal
			}
			telemetry.log.LogAttrs(ctx, slog.LevelDebug, "call", c.attrs(ctx)...)
			return err
		}
		if err == nil {
			telemetry.record(ctx, c)
			return nil
		}
		refusal := refusals.complete(ctx, err)
		c.code, c.reason = refusal.Code, refusal.Reason
		telemetry.record(ctx, c, causeAttrs(err)...)
		return refusal
	}
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			begin, ctx := time.Now(), withFacts(ctx)
			reply, err := next(ctx, req)
			return reply, finish(ctx, info.FullMethod, begin, err)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			begin, ctx := time.Now(), withFacts(stream.Context())
			err := next(srv, withContext(ctx, stream))
			return finish(ctx, info.FullMethod, begin, err)
		},
	}
}

// telemetry writes one line about every call, and counts it. Lines name calls,
// never what was said in them.
type telemetry struct {
	log     *slog.Logger
	metrics *metrics
	audit   *audit.Log // or nil
	// Calls refused for these reasons come by the thousand, when there is least
	// time to spare: of each reason, one line a second stands for all, the others
	// are for those who debug. The metrics count every one.
	sparse map[string]*sparse
}

func newTelemetry(log *slog.Logger, metrics *metrics, records *audit.Log) *telemetry {
	return &telemetry{log: log, metrics: metrics, audit: records, sparse: map[string]*sparse{
		"OVERLOADED": new(sparse), "QUOTA_EXCEEDED": new(sparse),
		"CREDENTIAL_MISSING": new(sparse), "CREDENTIAL_INVALID": new(sparse), "CREDENTIAL_EXPIRED": new(sparse),
		"CREDENTIAL_UNVERIFIED": new(sparse), "ROUTE_NOT_FOUND": new(sparse), "METHOD_NOT_ALLOWED": new(sparse),
	}}
}

// call is what can be told of a call that ended.
type call struct {
	door    string
	address string // of the caller, without the port
	name    string // for the log
	method  string // of gRPC, or "" if it reached none
	begin   time.Time
	code    codes.Code
	reason  string // or "" if it did not fail
}

// record logs and counts a call, and writes it down for the audit.
func (t *telemetry) record(ctx context.Context, c call, more ...slog.Attr) {
	t.metrics.count(c.door, c.method, c.code, time.Since(c.begin))
	t.line(ctx, c, more...)
	method := strings.TrimPrefix(c.method, "/") // the gateway leaves it out
	if t.audit == nil || !t.metrics.methods[method] && !strings.HasPrefix(c.reason, "CREDENTIAL_") {
		return // it is no call of the API
	}
	caller, app, accounts := factsIn(ctx).get()
	t.audit.Write(audit.Record{
		Time: c.begin, Caller: caller, App: app, Accounts: accounts, Method: "/" + method, Door: c.door, Address: c.address,
		TraceID: upstream.CallInfoOf(ctx).TraceID, Code: c.code.String(), Reason: c.reason, Duration: time.Since(c.begin),
	})
}

func (t *telemetry) line(ctx context.Context, c call, more ...slog.Attr) {
	lvl := level(c.code)
	if s := t.sparse[c.reason]; s != nil {
		others, due := s.take(time.Now())
		if !due {
			lvl = slog.LevelDebug
		} else if others > 0 {
			more = append(more, slog.Int("others_since_last", others))
		}
	}
	if t.log.Enabled(ctx, lvl) {
		t.log.LogAttrs(ctx, lvl, "call", append(c.attrs(ctx), more...)...)
	}
}

func (c call) attrs(ctx context.Context) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("method", c.name),
		slog.String("code", c.code.String()),
		slog.Duration("duration", time.Since(c.begin)),
		slog.String("trace_id", upstream.CallInfoOf(ctx).TraceID),
		slog.String("door", c.door),
	}
	caller, app, _ := factsIn(ctx).get()
	if caller != "" {
		attrs = append(attrs, slog.String("caller", caller))
	}
	if app != "" {
		attrs = append(attrs, slog.String("app", app))
	}
	if c.reason != "" {
		attrs = append(attrs, slog.String("reason", c.reason))
	}
	return attrs
}

// sparse lets one line through each second, and counts those in between.
type sparse struct {
	mu     sync.Mutex
	last   time.Time
	others int
}

func (s *sparse) take(now time.Time) (others int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && now.Sub(s.last) < time.Second {
		s.others++
		return 0, false
	}
	others, s.last, s.others = s.others, now, 0
	return others, true
}

// causeAttrs tell what is behind an error of which callers learn nothing. What
// is behind an *apierror.Error is logged where it is made.
func causeAttrs(err error) []slog.Attr {
	if panicked, ok := errors.AsType[*recovery.PanicError](err); ok {
		return []slog.Attr{slog.Any("panic", panicked.Panic), slog.String("stack", string(panicked.Stack))}
	}
	if _, ok := errors.AsType[*apierror.Error](err); ok {
		return denialAttrs(err)
	}
	return []slog.Attr{slog.String("cause", err.Error())}
}

// denialAttrs tell what is behind a denial.
func denialAttrs(err error) []slog.Attr {
	if denied, ok := errors.AsType[*denial](err); ok && denied.cause != nil {
		return []slog.Attr{slog.String("cause", denied.cause.Error())}
	}
	return nil
}

// level asks whose problem it is: ours, the upstream's or the caller's.
func level(code codes.Code) slog.Level {
	switch code {
	case codes.Internal, codes.DataLoss:
		return slog.LevelError
	case codes.Unknown, codes.Unavailable:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

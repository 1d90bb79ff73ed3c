package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/internal/audit"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// telemetry logs, counts and audits calls. It never logs the content of messages.
type telemetry struct {
	log     *slog.Logger
	metrics *metrics
	audit   *audit.Log // or nil
	// Calls refused for these reasons can come by the thousand, when there is least time
	// to log them. Of each reason one line a second is logged as usual, and the others for
	// debugging. The metrics count every call.
	sparse map[string]*sparse
}

func newTelemetry(log *slog.Logger, metrics *metrics, records *audit.Log) *telemetry {
	return &telemetry{log: log, metrics: metrics, audit: records, sparse: map[string]*sparse{
		"OVERLOADED": new(sparse), "QUOTA_EXCEEDED": new(sparse),
		"CREDENTIAL_MISSING": new(sparse), "CREDENTIAL_INVALID": new(sparse), "CREDENTIAL_EXPIRED": new(sparse),
		"CREDENTIAL_UNVERIFIED": new(sparse), "ROUTE_NOT_FOUND": new(sparse), "METHOD_NOT_ALLOWED": new(sparse),
	}}
}

// end must be deferred. It records a call that ended in an error, which may be nil, or in a
// panic, and makes the error that its caller sees.
func (t *telemetry) end(ctx context.Context, info *callinfo.Info, err *error) { //nolint:gocritic // a deferred function changes a result
	if value := recover(); value != nil {
		*err = callinfo.Recovered(value)
	}
	e, ok := errors.AsType[*apierror.Error](*err)
	switch {
	case info.IsAPI() && *err == nil:
		t.record(ctx, info, codes.OK, "")
	case info.IsAPI(), ok && isCredential(e.Reason): // whoever tries keys tries them everywhere
		*err = t.Refuse(ctx, info, *err, false)
	default:
		t.log.LogAttrs(ctx, slog.LevelDebug, "call", attrs(info, status.Code(*err), "")...)
	}
}

// Refuse completes the error of a call, and records the call unless it is recorded where it
// ends. It is a part of rest.Chain.
func (t *telemetry) Refuse(ctx context.Context, info *callinfo.Info, err error, elsewhere bool) *apierror.Error {
	refusal := complete(info, err)
	if elsewhere {
		t.line(ctx, info, refusal.Code, refusal.Reason, causeAttrs(err)...)
	} else {
		t.record(ctx, info, refusal.Code, refusal.Reason, causeAttrs(err)...)
	}
	return refusal
}

// record logs, counts and audits a call.
func (t *telemetry) record(ctx context.Context, info *callinfo.Info, code codes.Code, reason string, more ...slog.Attr) {
	took := time.Since(info.Begin)
	t.metrics.count(info, code, took)
	t.line(ctx, info, code, reason, more...)
	if t.audit == nil || (info.Method == nil || !info.IsAPI()) && !isCredential(reason) {
		return
	}
	method := "/"
	if info.Method != nil {
		method = info.Method.Name
	} else if info.Door == callinfo.GRPC {
		method = info.Name
	}
	t.audit.Write(audit.Record{
		Time: info.Begin, Caller: info.CallerName(), App: info.App(), Accounts: info.Accounts(), Method: method, Door: info.Door,
		Address: info.Address, TraceID: info.TraceID, Code: code.String(), Reason: reason, Duration: took,
	})
}

func isCredential(reason string) bool { return strings.HasPrefix(reason, "CREDENTIAL_") }

// line logs a call.
func (t *telemetry) line(ctx context.Context, info *callinfo.Info, code codes.Code, reason string, more ...slog.Attr) {
	lvl := level(code)
	if s := t.sparse[reason]; s != nil {
		others, due := s.take(time.Now())
		if !due {
			lvl = slog.LevelDebug
		} else if others > 0 {
			more = append(more, slog.Int("others_since_last", others))
		}
	}
	if t.log.Enabled(ctx, lvl) {
		t.log.LogAttrs(ctx, lvl, "call", append(attrs(info, code, reason), more...)...)
	}
}

func attrs(info *callinfo.Info, code codes.Code, reason string) []slog.Attr {
	all := []slog.Attr{
		slog.String("method", info.Name),
		slog.String("code", code.String()),
		slog.Duration("duration", time.Since(info.Begin)),
		slog.String("trace_id", info.TraceID),
		slog.String("door", info.Door),
	}
	for _, found := range []slog.Attr{
		slog.String("caller", info.CallerName()), slog.String("app", info.App()), slog.String("reason", reason),
	} {
		if found.Value.String() != "" {
			all = append(all, found)
		}
	}
	return all
}

// sparse permits one line each second, and counts those in between.
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

// causeAttrs returns the cause of an error, which callers must not see. The causes of the
// upstream's errors are logged where they are made.
func causeAttrs(err error) []slog.Attr {
	if panicked, ok := errors.AsType[*callinfo.PanicError](err); ok {
		return []slog.Attr{slog.Any("panic", panicked.Value), slog.String("stack", string(panicked.Stack))}
	}
	e, ok := errors.AsType[*apierror.Error](err)
	switch {
	case !ok:
		return []slog.Attr{slog.String("cause", err.Error())}
	case isCredential(e.Reason) && e.Cause != nil:
		return []slog.Attr{slog.String("cause", e.Cause.Error())}
	default:
		return nil
	}
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

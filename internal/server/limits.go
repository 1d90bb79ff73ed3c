package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// Limits of what callers learn of a request that breaks rules. A request can break a rule a
// million times, and finding all of them takes seconds.
const (
	smallRequest   = 16 << 10 // bytes; of a larger one only the first broken rule is named
	mostViolations = 100
)

// infrastructureBytes limits requests of health checks and reflection, which ask for names.
// The server keeps what is asked of health as long as the caller watches.
const infrastructureBytes = 1 << 10

// newValidator compiles the rules of all requests. If each were compiled by the first
// call of its method, that call would take tens of milliseconds more, and a rule that
// does not compile would be found by a caller.
func newValidator(methods callinfo.Methods) (protovalidate.Validator, error) {
	return protovalidate.New(protovalidate.WithMessageDescriptors(methods.Inputs()...))
}

// validate refuses a message that is too large, with a reason, which the limit of the gRPC
// library cannot give, and one that breaks rules, of which it names all within limits.
func (c *chain) validate(info *callinfo.Info, message proto.Message, size int) error {
	most := c.largest
	if !info.IsAPI() {
		most = infrastructureBytes
	}
	if size > most {
		return apierror.New(imv1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE, "the request has %d bytes, the limit is %d", size, most)
	}
	if !info.IsAPI() {
		return nil
	}
	err := c.validator.Validate(message, protovalidate.WithFailFast())
	if err == nil {
		return nil
	}
	if size <= smallRequest {
		err = c.validator.Validate(message)
	}
	invalid, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return fmt.Errorf("the rules of %s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	var violations []apierror.Violation
	for _, violation := range invalid.Violations[:min(len(invalid.Violations), mostViolations)] {
		violations = append(violations, apierror.Violation{
			Field:       protovalidate.FieldPathString(violation.Proto.GetField()),
			Description: violation.Proto.GetMessage(),
			Rule:        violation.Proto.GetRuleId(),
		})
	}
	return apierror.BadRequest(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, violations)
}

// times are the limits of how long calls take.
type times struct{ fallback, longest, longestStream time.Duration }

// limit bounds a call by its caller's wish or otherwise the default, and always by the longest
// time allowed. Streams have no default, because how long one takes depends on what it
// carries. Those of health checks and reflection may last until the server drains, which ends
// them: GracefulStop would wait for them in vain.
func (c *chain) limit(ctx context.Context, info *callinfo.Info) (context.Context, context.CancelFunc) {
	timeout, longest := c.times.fallback, c.times.longest
	if info.Method != nil && info.Method.Streams {
		timeout, longest = c.times.longestStream, c.times.longestStream
		if !info.IsAPI() {
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				select {
				case <-c.draining:
					cancel()
				case <-ctx.Done():
				}
			}()
			return ctx, cancel
		}
	}
	if info.Timeout > 0 {
		timeout = info.Timeout
	} else if _, ok := ctx.Deadline(); ok {
		timeout = longest
	}
	return context.WithTimeout(ctx, min(timeout, longest))
}

const maxKeyLength = 256

// forUpstream finds out for which app and under which idempotency key a call is made,
// and tells the upstream's client all that it has to know of the call. Without
// authentication a caller is its IP address, and all behind one proxy are one caller.
func (c *chain) forUpstream(ctx context.Context, info *callinfo.Info) (context.Context, error) {
	if !info.IsAPI() {
		return ctx, nil
	}
	app, err := c.apps.choose(info)
	if err != nil {
		return ctx, err
	}
	info.SetApp(app)
	u := upstream.CallInfo{TraceID: info.TraceID, Caller: info.Address}
	if info.Caller != nil {
		u.Caller, u.QuotaShare = info.Caller.Name(), info.Caller.QuotaShare()
	}
	if len(info.Keys) > 0 {
		if len(info.Keys) > 1 || !isKey(info.Keys[0]) {
			return ctx, apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				"%s must be given once, with 1 to %d visible ASCII characters", callinfo.KeyHeader, maxKeyLength)
		}
		u.IdempotencyKey = info.Keys[0]
		if info.Caller != nil {
			u.IdempotencyKey = info.Caller.Name() + " " + u.IdempotencyKey // two callers may choose the same one
		}
	}
	return upstream.WithCallInfo(ctx, u), nil
}

func isKey(s string) bool { return len(s) <= maxKeyLength && isVisible(s) }

// isVisible reports whether a text has visible ASCII characters, and no others.
func isVisible(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/auth"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// The headers that carry credentials, on both doors.
const (
	authorizationHeader = "authorization"
	apiKeyHeader        = "x-api-key"
)

// access stands between callers and the API: it finds out who calls, and lets
// each do what the callers file says. Without such a file there is none, and
// everybody may do everything.
type access struct {
	file      string
	known     auth.Known
	directory atomic.Pointer[auth.Directory]
	callers   *auth.Authenticator
	policy    *auth.Policy
	identity  *identity

	// arrivals are the callers of REST calls on their way to the chain, by trace id.
	// The gateway makes these ids, and nobody else can send one over the listener in
	// memory: so nothing that a caller writes can pass for the result of the gateway.
	arrivals sync.Map
}

// newAccess reads the callers file, which must be right when the server starts.
func newAccess(file string, apps []string, services []protoreflect.ServiceDescriptor, i *identity, log *slog.Logger) (*access, error) {
	policy, err := auth.NewPolicy(services)
	if err != nil {
		return nil, err
	}
	a := &access{
		file: file, known: auth.Known{Scopes: policy.Scopes(), Apps: apps},
		policy: policy, identity: i,
	}
	directory, err := auth.Load(file, a.known)
	if err != nil {
		return nil, fmt.Errorf("--callers-file: %w", err)
	}
	a.directory.Store(directory)
	a.callers = auth.New(directory, auth.Options{Log: log})
	return a, nil
}

// files are those that say who may call.
func (a *access) files() []string { return a.directory.Load().Files() }

// load reads them again. Calls in progress keep the rights they began with.
func (a *access) load() error {
	directory, err := auth.Load(a.file, a.known)
	if err != nil {
		return err
	}
	a.directory.Store(directory)
	a.callers.Use(directory)
	return nil
}

type callerKey struct{}

// authenticated returns the caller of a call, or nil if callers are not
// authenticated.
func authenticated(ctx context.Context) *auth.Caller {
	caller, _ := ctx.Value(callerKey{}).(*auth.Caller)
	return caller
}

// authentication finds out who calls, and ends the call of who does not say.
// Health checks come from machinery that has no credentials, and learn nothing
// else. Reflection takes a caller, whatever it may do.
func (a *access) authentication() interceptor {
	return before(func(ctx context.Context, method string) (context.Context, error) {
		if isHealth(method) {
			return ctx, nil
		}
		caller, err := a.callerOf(ctx)
		if err != nil {
			return ctx, err
		}
		factsIn(ctx).setCaller(caller.Name())
		return context.WithValue(ctx, callerKey{}, caller), nil
	})
}

// callerOf returns who makes a call over either door.
func (a *access) callerOf(ctx context.Context) (*auth.Caller, error) {
	if door(ctx) == doorREST {
		arrived, _ := a.arrivals.Load(upstream.CallInfoOf(ctx).TraceID)
		if caller, ok := arrived.(*auth.Caller); ok {
			return caller, nil
		}
		// The gateway has given the call up, and nobody waits for it any more.
		return nil, apierror.New(imv1.ErrorReason_ERROR_REASON_CANCELLED, "the call was cancelled")
	}
	return a.authenticate(ctx, auth.Credentials{
		Authorization: metadata.ValueFromIncomingContext(ctx, authorizationHeader),
		APIKey:        metadata.ValueFromIncomingContext(ctx, apiKeyHeader),
		Certificate:   a.identity.certificate(connectionIn(ctx)),
	})
}

func (a *access) authenticate(ctx context.Context, c auth.Credentials) (*auth.Caller, error) {
	caller, err := a.callers.Authenticate(ctx, c)
	if err == nil {
		return caller, nil
	}
	if ctx.Err() != nil { // it did not wait for the keys of an issuer
		return nil, ctx.Err()
	}
	reason := imv1.ErrorReason_ERROR_REASON_CREDENTIAL_INVALID
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		switch refused.Kind {
		case auth.NoCredential:
			reason = imv1.ErrorReason_ERROR_REASON_CREDENTIAL_MISSING
		case auth.Expired:
			reason = imv1.ErrorReason_ERROR_REASON_CREDENTIAL_EXPIRED
		case auth.Unverified:
			reason = imv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNVERIFIED
		case auth.BadCredential:
		}
	}
	return nil, &denial{refusal: apierror.New(reason, "%v", err), cause: errors.Unwrap(err)}
}

// authorization lets callers do what they may. What the policy does not know
// never reaches a handler.
func (a *access) authorization() interceptor {
	begin := func(ctx context.Context, method string) (*auth.Call, error) {
		if !a.policy.Has(method) {
			return nil, apierror.New(imv1.ErrorReason_ERROR_REASON_METHOD_UNIMPLEMENTED, "there is no method %q", method)
		}
		call, err := a.policy.Begin(authenticated(ctx), method)
		return call, a.denied(err)
	}
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if isInfrastructure(info.FullMethod) {
				return next(ctx, req)
			}
			call, err := begin(ctx, info.FullMethod)
			if err != nil {
				return nil, err
			}
			if err := a.allow(ctx, call, req); err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if isInfrastructure(info.FullMethod) {
				return next(srv, stream)
			}
			call, err := begin(stream.Context(), info.FullMethod)
			if err != nil {
				return err
			}
			check := func(ctx context.Context, message proto.Message) error { return a.allow(ctx, call, message) }
			return next(srv, &checkedStream{ServerStream: stream, check: check})
		},
	}
}

// allow checks one message of a call.
func (a *access) allow(ctx context.Context, call *auth.Call, req any) error {
	message, ok := req.(proto.Message)
	if !ok {
		return fmt.Errorf("a request of type %T has no accounts", req)
	}
	factsIn(ctx).addAccounts(call.Accounts(message, mostAccounts+1)) // one more, to know that there are
	return a.denied(call.Allow(message))
}

// denied makes an error for callers of one of the policy.
func (a *access) denied(err error) error {
	if err == nil {
		return nil
	}
	why, ok := errors.AsType[*auth.DeniedError](err)
	switch {
	case !ok:
		return err
	case why.Scope != "":
		return apierror.New(imv1.ErrorReason_ERROR_REASON_SCOPE_DENIED, "%v", err)
	}
	refusal := apierror.New(imv1.ErrorReason_ERROR_REASON_ACCOUNT_DENIED, "%v", err)
	if why.Field != "" {
		refusal.Violations = []apierror.Violation{{Field: why.Field, Description: err.Error()}}
	}
	return refusal
}

// isHealth tells health checks from all else.
func isHealth(method string) bool { return strings.HasPrefix(method, "/grpc.health.v1.Health/") }

// authenticate refuses REST calls of nobody before their bodies are read, and
// tells the chain who makes the others.
func (g *gateway) authenticate(next runtime.HandlerFunc) runtime.HandlerFunc {
	if g.access == nil {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		ctx := r.Context()
		caller, err := g.access.authenticate(ctx, exchangeIn(ctx).credentials)
		if err != nil {
			g.refuseUnread(w, r, err)
			return
		}
		factsIn(ctx).setCaller(caller.Name())
		id := upstream.CallInfoOf(ctx).TraceID
		g.access.arrivals.Store(id, caller)
		defer g.access.arrivals.Delete(id)
		next(w, r, path)
	}
}

// takeCredentials takes the credentials out of a request, and with them all that
// the generated gateway would make metadata of by itself.
func (g *gateway) takeCredentials(r *http.Request) (c auth.Credentials) {
	if g.access != nil {
		c = auth.Credentials{
			Authorization: slices.Clone(r.Header.Values(authorizationHeader)),
			APIKey:        slices.Clone(r.Header.Values(apiKeyHeader)),
			Certificate:   g.access.identity.certificate(r.TLS),
		}
	}
	for _, name := range []string{authorizationHeader, apiKeyHeader, "X-Forwarded-For", "X-Forwarded-Host"} {
		r.Header.Del(name)
	}
	return c
}

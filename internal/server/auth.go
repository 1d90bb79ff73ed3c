package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/auth"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// access stands between callers and the API: it finds out who calls, and lets
// each do what the callers file says. Without such a file there is none, and
// everybody may do everything.
type access struct {
	file      string
	known     auth.Known
	directory atomic.Pointer[auth.Directory]
	callers   *auth.Authenticator
	identity  *identity
}

// newAccess reads the callers file, which must be right when the server starts.
func newAccess(file string, known auth.Known, i *identity, log *slog.Logger) (*access, error) {
	directory, err := auth.Load(file, known)
	if err != nil {
		return nil, fmt.Errorf("--callers-file: %w", err)
	}
	a := &access{file: file, known: known, identity: i}
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

// identify finds out who calls, and refuses the call of who does not say.
func (a *access) identify(ctx context.Context, info *callinfo.Info, c auth.Credentials) error {
	caller, err := a.callers.Authenticate(ctx, c)
	if err == nil {
		info.Caller = caller
		return nil
	}
	if ctx.Err() != nil { // it did not wait for the keys of an issuer
		return ctx.Err()
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
	refusal := apierror.New(reason, "%v", err)
	refusal.Cause = errors.Unwrap(err)
	return refusal
}

// authorize lets a caller call the methods that it may call. What has no policy never
// reaches a handler. Where callers are not authenticated it returns nil.
func (c *chain) authorize(info *callinfo.Info) (*auth.Call, error) {
	switch {
	case c.access == nil || info.Method != nil && info.Method.Infrastructure:
		return nil, nil //nolint:nilnil // there is nothing to check
	case info.Method == nil:
		return nil, unknownMethod(info.Name)
	}
	call, err := info.Method.Policy.Begin(info.Caller)
	return call, denied(err)
}

// allow checks one message of a call.
func (c *chain) allow(info *callinfo.Info, call *auth.Call, message proto.Message) error {
	if call == nil {
		return nil
	}
	info.AddAccounts(call.Accounts(message, callinfo.MostAccounts+1)) // one more, to know that there are
	return denied(call.Allow(message))
}

// denied makes an error for callers of one of the policy.
func denied(err error) error {
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

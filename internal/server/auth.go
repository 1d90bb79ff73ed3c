package server

import (
	"cmp"
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

// access finds out who calls. Without a callers file there is none, and everybody may do
// everything.
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

// files returns the callers file and those that it names.
func (a *access) files() []string { return a.directory.Load().Files() }

// load reads the files again. Calls in progress keep the rights that they began with.
func (a *access) load() error {
	directory, err := auth.Load(a.file, a.known)
	if err != nil {
		return err
	}
	a.directory.Store(directory)
	a.callers.Use(directory)
	return nil
}

var credentialReasons = map[auth.Kind]imv1.ErrorReason{
	auth.NoCredential: imv1.ErrorReason_ERROR_REASON_CREDENTIAL_MISSING,
	auth.Expired:      imv1.ErrorReason_ERROR_REASON_CREDENTIAL_EXPIRED,
	auth.Unverified:   imv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNVERIFIED,
}

// identify notes who calls, or refuses the call.
func (a *access) identify(ctx context.Context, info *callinfo.Info, c auth.Credentials) error {
	caller, err := a.callers.Authenticate(ctx, c)
	if err == nil {
		info.Caller = caller
		return nil
	}
	if ctx.Err() != nil { // the keys of an issuer did not arrive in time
		return ctx.Err()
	}
	reason := imv1.ErrorReason_ERROR_REASON_CREDENTIAL_INVALID
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		reason = cmp.Or(credentialReasons[refused.Kind], reason)
	}
	refusal := apierror.New(reason, "%v", err)
	refusal.Cause = errors.Unwrap(err)
	return refusal
}

// authorize refuses a call that its caller may not make, or that has no policy. It returns
// nil if callers are not authenticated.
func (c *chain) authorize(info *callinfo.Info) (*auth.Call, error) {
	switch {
	case c.access == nil || !info.IsAPI():
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
	info.AddAccounts(call.Accounts(message, callinfo.MostAccounts+1)) // one more shows that there are more
	return denied(call.Allow(message))
}

// denied makes the error for callers of an error of the policy.
func denied(err error) error {
	if err == nil {
		return nil
	}
	why, ok := errors.AsType[*auth.DeniedError](err)
	if !ok {
		return err
	}
	if why.Scope != "" {
		return apierror.New(imv1.ErrorReason_ERROR_REASON_SCOPE_DENIED, "%v", err)
	}
	refusal := apierror.New(imv1.ErrorReason_ERROR_REASON_ACCOUNT_DENIED, "%v", err)
	if why.Field != "" {
		refusal.Violations = []apierror.Violation{{Field: why.Field, Description: err.Error()}}
	}
	return refusal
}

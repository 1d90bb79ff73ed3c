// Package callinfo has what is known of a call, over whichever door it came: one record
// in the context of each call, and one table of the methods that can be called.
package callinfo

import (
	"context"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/auth"
)

// The doors, as logs, metrics and the audit name them.
const (
	GRPC = "grpc"
	REST = "rest"
)

// The headers that have a meaning, on both doors.
const (
	TraceHeader         = "x-trace-id" // of answers
	AppHeader           = "x-yunxin-app"
	KeyHeader           = "idempotency-key"
	AuthorizationHeader = "authorization"
	APIKeyHeader        = "x-api-key"
)

// Info is what is known of one call. The door makes it; who finds out more adds it.
type Info struct {
	Door    string
	TraceID string
	Begin   time.Time
	Address string  // IP address that the call came from, or ""
	Name    string  // what is called, for the log
	Method  *Method // nil if there is no such method, or not yet one for a REST call

	Timeout time.Duration // that a REST caller asked for, or 0; gRPC has it in the context
	Apps    []string      // values of AppHeader
	Keys    []string      // values of KeyHeader

	Caller *auth.Caller // nil if callers are not authenticated

	// A stream may still receive when its call is written down.
	mu       sync.Mutex
	app      string
	accounts []string
}

type infoKey struct{}

// With returns a context for a call.
func With(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, info)
}

// From returns the call of a context, or nil.
func From(ctx context.Context) *Info {
	info, _ := ctx.Value(infoKey{}).(*Info)
	return info
}

// IsAPI reports whether the call is none of health checks or reflection.
func (i *Info) IsAPI() bool { return i.Method == nil || !i.Method.Infrastructure }

// CallerName returns the name of an authenticated caller, or "".
func (i *Info) CallerName() string {
	if i.Caller == nil {
		return ""
	}
	return i.Caller.Name()
}

// SetApp notes which app the call uses.
func (i *Info) SetApp(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.app = name
}

// App returns the app that the call uses, or "" if it did not get that far.
func (i *Info) App() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.app
}

// MostAccounts is the number of accounts that are noted for a call.
const MostAccounts = 8

// AddAccounts notes accounts that the call acts for. An account "..." stands for those
// beyond MostAccounts.
func (i *Info) AddAccounts(accounts []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, account := range accounts {
		switch {
		case slices.Contains(i.accounts, account):
		case len(i.accounts) == MostAccounts:
			i.accounts = append(i.accounts, "...")
		case len(i.accounts) < MostAccounts:
			i.accounts = append(i.accounts, account)
		}
	}
}

// Accounts returns the accounts that the call acts for.
func (i *Info) Accounts() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.accounts)
}

// Host leaves out the port of an address, because it differs with each connection. It
// is "" if there is none.
func Host(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

// Shorten returns the beginning of a text that is long.
func Shorten(text string) string {
	const most = 256
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// PanicError is a panic as an error. Its text must not reach callers.
type PanicError struct {
	Value any
	Stack []byte
}

// Error implements error.
func (*PanicError) Error() string { return "panic" }

// Recovered makes an error of what recover returned. A deferred function must call it
// while the stack of the panic still stands.
func Recovered(value any) error { return &PanicError{Value: value, Stack: debug.Stack()} }

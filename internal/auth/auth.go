// Package auth decides who calls and what that caller may do. The facade holds
// the AppSecret, and with it full authority over every account of the app; this
// package is what stands between a caller and all of that.
//
// A Directory is what the callers file says, an Authenticator finds the caller of
// a credential in it, and a Policy reports whether that caller may call a method for
// an account. What is not allowed is refused.
package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Credentials are what a call brings to show who calls. They never show up in
// logs and dumps.
type Credentials struct {
	// Authorization are all values of the header authorization, as they came.
	Authorization []string
	// APIKey are all values of the header x-api-key, as they came.
	APIKey []string
	// Certificate is the leaf of a chain that TLS has verified, or nil. One that
	// was not verified must never get here.
	Certificate *x509.Certificate
}

const redacted = "[redacted]"

// LogValue implements slog.LogValuer.
func (Credentials) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Credentials) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format implements fmt.Formatter.
func (Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) } //nolint:errcheck // nowhere to report it

// Options are what an Authenticator can be told; the zero value will do.
type Options struct {
	// Now is the clock that decides what has expired; time.Now if nil.
	Now func() time.Time
	// Log is told when the keys of an issuer cannot be fetched; nobody if nil.
	Log *slog.Logger
	// transport carries requests for the keys of issuers; TCP if nil.
	transport http.RoundTripper
}

// An Authenticator finds out who calls. It is safe for concurrent use.
type Authenticator struct {
	options Options
	running sync.WaitGroup
	state   atomic.Pointer[state]

	mu      sync.Mutex // of Use and Close
	closed  bool
	remotes map[string]*remote // by URL
}

// A state is all that an authentication looks at: it sees one directory with the
// keys that belong to it, whatever is put to use meanwhile.
type state struct {
	*Directory

	verifiers map[string]*verifier // by issuer
}

// New makes an Authenticator for the callers of a directory. It fetches the keys
// of issuers that have a URL in the background, until Close.
func New(directory *Directory, o Options) *Authenticator {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.transport == nil {
		o.transport = newTransport()
	}
	a := &Authenticator{options: o, remotes: map[string]*remote{}}
	a.Use(directory)
	return a
}

// Use puts another directory to use, at once and as a whole. The keys of a URL
// that stays are kept. A call that was authenticated before keeps its Caller.
func (a *Authenticator) Use(directory *Directory) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	next := &state{Directory: directory, verifiers: map[string]*verifier{}}
	remotes := map[string]*remote{}
	for name, issuer := range directory.issuers {
		var keys keySource = issuer.keys
		if issuer.url != "" {
			r := remotes[issuer.url]
			if r == nil {
				r = a.remote(issuer.url)
				remotes[issuer.url] = r
			}
			keys = r
		}
		next.verifiers[name] = newVerifier(issuer, keys, a.options.Now)
	}
	a.state.Store(next)
	for url, r := range a.remotes {
		if remotes[url] == nil {
			r.stop()
		}
	}
	a.remotes = remotes
}

// remote returns the keys at a URL, which are fetched until they are stopped.
func (a *Authenticator) remote(url string) *remote {
	if r := a.remotes[url]; r != nil {
		return r
	}
	ctx, stop := context.WithCancel(context.Background())
	r := newRemote(url, a.options.transport, a.options.Log, stop)
	a.running.Go(func() { r.run(ctx) })
	return r
}

// Close ends what goes on in the background and waits for it. Callers are still
// authenticated, with the keys that are there.
func (a *Authenticator) Close() {
	a.mu.Lock()
	a.closed = true
	for _, r := range a.remotes {
		r.stop()
	}
	a.mu.Unlock()
	a.running.Wait()
}

// Authenticate returns who shows these credentials. There must be exactly one: an
// API key in x-api-key, or an API key or a token of an issuer in authorization, or
// a certificate. A certificate may come with one of the others, which then
// decides, but it must not be another caller's.
//
// The error is always an *Error. It may wait a moment for the keys of an issuer,
// at most until the context ends.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials) (*Caller, error) {
	s, now := a.state.Load(), a.options.Now()
	certified, err := s.byCertificate(c.Certificate, now)
	if err != nil {
		return nil, err
	}
	caller := certified
	if len(c.Authorization)+len(c.APIKey) > 0 {
		caller, err = s.byText(ctx, c, now)
	}
	switch {
	case err != nil:
		return nil, err
	case caller == nil && c.Certificate == nil:
		return nil, errNone
	case caller == nil:
		return nil, errStranger
	case certified != nil && certified != caller:
		return nil, errContradiction
	case past(caller.expires, now):
		return nil, errCallerExpired
	}
	return caller, nil
}

// byText finds the caller of a key or a token.
func (s *state) byText(ctx context.Context, c Credentials, now time.Time) (*Caller, error) {
	if len(c.Authorization)+len(c.APIKey) != 1 {
		return nil, errSeveral
	}
	if len(c.APIKey) == 1 {
		return s.byKey(c.APIKey[0], now)
	}
	text := c.Authorization[0]
	if len(text) < len(bearer) || !strings.EqualFold(text[:len(bearer)], bearer) {
		return nil, errNoBearer
	}
	text = text[len(bearer):]
	if strings.HasPrefix(text, keyPrefix) {
		return s.byKey(text, now)
	}
	return s.byToken(ctx, text)
}

const bearer = "Bearer "

// past reports whether a time has come; the zero time never does.
func past(expires, now time.Time) bool { return !expires.IsZero() && !now.Before(expires) }

// These are made once: a caller without a valid credential may come often.
var (
	errNone          = refusal(NoCredential, "none of authorization, x-api-key and a certificate")
	errSeveral       = refusal(BadCredential, "more than one of authorization and x-api-key")
	errNoBearer      = refusal(BadCredential, "authorization is not Bearer")
	errContradiction = refusal(BadCredential, "the certificate is another caller's")
	errStranger      = refusal(BadCredential, "the certificate is no caller's")
	errCallerExpired = refusal(Expired, "the caller has expired")
)

func refusal(kind Kind, cause string) error { return &Error{Kind: kind, cause: errors.New(cause)} }

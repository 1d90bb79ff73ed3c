package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of fetching keys.
const (
	fetchInterval = 5 * time.Minute
	fetchPause    = 30 * time.Second // at least, whoever asks
	fetchTimeout  = 5 * time.Second  // of one fetch, with its answer
	maxHeader     = 64 << 10
	keyWait       = 2 * time.Second // of a call for a fetch
	maxWaiting    = 64              // calls; the others go on at once
)

// A remote is the keys at a URL. They are fetched again from time to time, and
// when a token names a key that is not there: its issuer may have changed it.
// What cannot be fetched leaves the keys as they are.
type remote struct {
	url  string
	http *http.Client
	log  *slog.Logger
	stop context.CancelFunc // of run

	keys    atomic.Pointer[keySet]
	wanted  chan struct{} // holds that a key was not there
	waiting chan struct{} // holds the calls that wait

	mu    sync.Mutex
	fetch chan struct{} // closed at the end of the fetch that goes on or may begin; nil in a pause

	failing bool // the last fetch has
}

func newRemote(url string, transport http.RoundTripper, log *slog.Logger, stop context.CancelFunc) *remote {
	return &remote{
		url: url, log: log, stop: stop,
		http: &http.Client{
			Transport: transport,
			Timeout:   fetchTimeout,
			// Keys are where the operator says, not where somebody else does.
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
		},
		wanted:  make(chan struct{}, 1),
		waiting: make(chan struct{}, maxWaiting),
		fetch:   make(chan struct{}),
	}
}

// newTransport keeps no connections: the next fetch is minutes away.
func newTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
	}
}

// run fetches until the context ends.
func (r *remote) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.note(ctx, r.refresh(ctx))
		select {
		case <-r.wanted: // that was this one
		default:
		}
		r.mu.Lock()
		close(r.fetch)
		r.fetch = nil
		r.mu.Unlock()
		if !pause(ctx, fetchPause, nil) {
			return
		}
		r.mu.Lock()
		r.fetch = make(chan struct{})
		r.mu.Unlock()
		if !r.failing && !pause(ctx, fetchInterval-fetchPause, r.wanted) {
			return
		}
	}
}

// pause waits, or until something comes in; false if the context has ended.
func pause(ctx context.Context, wait time.Duration, sooner <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-sooner:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// note logs when fetching begins to fail and when it works again, and not each
// time.
func (r *remote) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil && !r.failing:
		r.log.WarnContext(ctx, "the keys of an issuer of tokens cannot be fetched; those that there are stay", "url", r.shown(), "cause", err)
	case err == nil && r.failing:
		r.log.InfoContext(ctx, "the keys of an issuer of tokens were fetched again", "url", r.shown())
	}
	r.failing = err != nil
}

// shown leaves out what may be secret: some issuers take a token as a query.
func (r *remote) shown() string {
	bare, _, _ := strings.Cut(r.url, "?")
	return bare
}

func (r *remote) refresh(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := r.http.Do(request)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err // the log has the URL already
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxJWKS+1))
	if err != nil {
		return err
	}
	keys, err := parseJWKS(data)
	if err != nil {
		return err
	}
	r.keys.Store(&keys)
	return nil
}

// key implements keySource. If the key is not there, it waits for the fetch that
// goes on or may begin now.
func (r *remote) key(ctx context.Context, id, alg string) any {
	if key := r.find(id, alg); key != nil || id == "" {
		return key
	}
	r.mu.Lock()
	fetch := r.fetch
	r.mu.Unlock()
	select {
	case r.wanted <- struct{}{}:
	default:
	}
	if fetch == nil {
		return nil
	}
	select {
	case r.waiting <- struct{}{}:
		defer func() { <-r.waiting }()
		pause(ctx, keyWait, fetch)
	default:
	}
	return r.find(id, alg)
}

func (r *remote) known() bool { return r.keys.Load() != nil }

func (r *remote) find(id, alg string) any {
	keys := r.keys.Load()
	if keys == nil {
		return nil
	}
	return keys.find(id, alg)
}

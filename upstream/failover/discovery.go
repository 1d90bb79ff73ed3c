package failover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of discovery.
const (
	discoveryInterval  = time.Minute     // between two rounds of questions that succeed
	questionTimeout    = 5 * time.Second // of one question, with its answer
	discoveryRounds    = 3               // over all services, before discovery has failed
	roundPause         = 2 * time.Second // longest between two rounds
	defaultTTL         = 30 * time.Second
	maxTTL             = 24 * time.Hour
	maxDiscoveryAnswer = 64 << 10
	maxDiscovered      = 8   // endpoints of an answer that are looked at
	maxDiscoveredText  = 512 // bytes of an endpoint, or of a digest
)

// DiscoveryServices returns the vendor's discovery services by name: one for all
// regions, then one for each.
func DiscoveryServices() map[string][]string {
	return map[string][]string{"yunxin": {
		"https://srv-sdk-lbs.yunxinapi.com/srv-sdk/allocate",
		"https://srv-sdk-lbs-cn.yunxinapi.com/srv-sdk/allocate",
		"https://srv-sdk-lbs-sg.yunxinapi.com/srv-sdk/allocate",
	}}
}

// discovery asks the vendor's scheduling service (LBS) which endpoints are best for
// the app. Nothing waits for it: until it has an answer, and whenever there is none,
// the endpoints stay as they are.
//
// Whoever answers as the service gets the app's signed requests. Therefore it is
// asked over TLS, and over TLS it can name only endpoints with TLS. A service with
// an http URL may name any: that is for tests on one's own machine.
type discovery struct {
	discoveryConfig

	services []*url.URL
	query    url.Values
	http     *http.Client

	endpoints []string // as last told to update
	md5       string   // of the answer they are from, if nothing of it was left out
	ttl       time.Duration
	silent    bool // the last round has failed
}

// discoveryConfig says who is asked, for which app, and who learns the answer.
type discoveryConfig struct {
	// services are asked in their order: URLs, or names of DiscoveryServices.
	services []string
	// appKey names the app. Questions are not signed.
	appKey string
	// userAgent is program/version, or a program without one.
	userAgent string
	dial      Dialer
	log       *slog.Logger
	// update learns the endpoints, at least one and the best one first, whenever they
	// or their order change. It is never called twice at a time.
	update func(endpoints []string)
}

// newDiscovery asks nobody before it runs. Its error says which service is no URL.
func newDiscovery(cfg discoveryConfig) (*discovery, error) {
	urls, err := expand("discovery service", cfg.services, DiscoveryServices())
	if err != nil {
		return nil, err
	}
	if len(urls) == 0 {
		return nil, errors.New("a discovery service must be given")
	}
	_, version, _ := strings.Cut(cfg.userAgent, "/")
	d := &discovery{
		discoveryConfig: cfg,
		query:           url.Values{"k": {cfg.appKey}, "sv": {cmp.Or(version, cfg.userAgent)}, "biz": {"1"}, "p": {"go"}},
		http:            newHTTPClient(cfg.dial),
		ttl:             defaultTTL,
	}
	for _, name := range urls {
		service, err := baseURL(name)
		if err != nil {
			return nil, err
		}
		d.services = append(d.services, service)
	}
	return d, nil
}

// run asks at once, and then each minute or when the answer has become too old,
// whichever is later. It returns when the context ends, and leaves nothing behind.
func (d *discovery) run(ctx context.Context) {
	defer d.http.CloseIdleConnections()
	for ctx.Err() == nil {
		err := d.discover(ctx)
		if ctx.Err() != nil {
			return
		}
		d.note(ctx, err)
		if err == nil {
			sleep(ctx, max(discoveryInterval, d.ttl))
		} else {
			sleep(ctx, discoveryInterval)
		}
	}
}

// note logs when discovery begins to fail and when it no longer does, but not each
// failure.
func (d *discovery) note(ctx context.Context, err error) {
	switch {
	case err != nil && !d.silent:
		d.log.WarnContext(ctx, "no discovery service names endpoints; they stay as they are", "cause", err)
	case err == nil && d.silent:
		d.log.InfoContext(ctx, "a discovery service names endpoints again")
	}
	d.silent = err != nil
}

// discover asks one service after the other until one names endpoints that can be
// used. Its error says what is wrong with each, as of the last round.
func (d *discovery) discover(ctx context.Context) error {
	var errs []error
	for round := range discoveryRounds {
		if round > 0 {
			sleep(ctx, roundPause/2+rand.N(roundPause/2)) //nolint:gosec // jitter is no secret
		}
		errs = nil
		for _, service := range d.services {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := d.ask(ctx, service)
			if err == nil {
				return nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", service.Host, err))
		}
	}
	return errors.Join(errs...)
}

// ask asks one service and takes what it names.
func (d *discovery) ask(ctx context.Context, service *url.URL) error {
	a, err := d.fetch(ctx, service)
	if err != nil || a.unchanged {
		return err
	}
	return d.take(ctx, a, service.Scheme)
}

// allocation is what a service answers.
type allocation struct {
	unchanged bool     // since the last answer; nothing else is told then
	named     []string // the endpoints, the best one first
	md5       string
	ttl       time.Duration
}

// fetch asks one service. The query goes into no error, because it has the app key.
func (d *discovery) fetch(ctx context.Context, service *url.URL) (allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	query := maps.Clone(d.query)
	if d.md5 != "" {
		query.Set("md5", d.md5)
	}
	target := *service
	target.RawQuery = query.Encode()
	response, err := d.get(ctx, target.String())
	if err != nil {
		return allocation{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return allocation{}, fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDiscoveryAnswer+1))
	switch {
	case err != nil:
		return allocation{}, err
	case len(body) > maxDiscoveryAnswer:
		return allocation{}, fmt.Errorf("the answer is larger than %d bytes", maxDiscoveryAnswer)
	}
	return d.read(body)
}

// get sends a request without a signature.
func (d *discovery) get(ctx context.Context, target string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, errors.New("the request cannot be written")
	}
	request.Header.Set("User-Agent", d.userAgent)
	response, err := d.http.Do(request)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return nil, e.Err // without the URL
	}
	return response, err
}

// read reads an answer. Its errors repeat nothing of it but its code: it may be
// anybody's text.
func (d *discovery) read(body []byte) (allocation, error) {
	// A json.Number may also come as text, as the upstream's numbers do at times.
	var answer struct {
		Code json.Number `json:"code"`
		Data struct {
			Default string      `json:"default.endpoint"`
			Backups []string    `json:"backup.endpoints"`
			TTL     json.Number `json:"ttl"`
			MD5     string      `json:"md5"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return allocation{}, errors.New("the answer cannot be read")
	}
	code, err := answer.Code.Int64()
	switch {
	case err != nil:
		return allocation{}, errors.New("the answer has no code")
	case code == http.StatusNotModified && d.md5 != "":
		return allocation{unchanged: true}, nil
	case code != http.StatusOK:
		return allocation{}, fmt.Errorf("the answer has code %d", code)
	}
	a := allocation{
		named: append([]string{answer.Data.Default}, answer.Data.Backups...),
		md5:   answer.Data.MD5,
		ttl:   defaultTTL,
	}
	if ttl, err := answer.Data.TTL.Int64(); err == nil && ttl >= 1 && ttl <= int64(maxTTL/time.Second) {
		a.ttl = time.Duration(ttl) * time.Second
	}
	return a, nil
}

// take makes those endpoints of an answer that live the endpoints of the app. If
// none does, they stay as they are.
func (d *discovery) take(ctx context.Context, a allocation, scheme string) error {
	candidates := usable(a.named, scheme)
	alive := d.alive(ctx, candidates)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the checks say nothing then
	case len(alive) == 0:
		return fmt.Errorf("of %d endpoints %d can be used and none lives", len(a.named), len(candidates))
	}
	d.ttl, d.md5 = a.ttl, ""
	if len(alive) == len(candidates) && len(a.md5) <= maxDiscoveredText {
		// Otherwise the same answer is asked for again: what did not live may live then.
		d.md5 = a.md5
	}
	if slices.Equal(alive, d.endpoints) {
		return nil
	}
	d.log.InfoContext(ctx, "endpoints discovered", "endpoints", alive, "not_alive", len(candidates)-len(alive))
	d.endpoints = alive
	d.update(slices.Clone(alive))
	return nil
}

// usable returns the endpoints, each once, that a service asked over the scheme may
// name.
func usable(named []string, scheme string) []string {
	var endpoints []string
	for _, name := range named {
		u, err := baseURL(name)
		if err != nil || u.Scheme != "https" && u.Scheme != scheme || len(name) > maxDiscoveredText {
			continue
		}
		endpoint := trimBase(u)
		if !slices.Contains(endpoints, endpoint) {
			endpoints = append(endpoints, endpoint)
		}
		if len(endpoints) == maxDiscovered {
			break
		}
	}
	return endpoints
}

// alive returns the endpoints that pass a health check, in the same order.
func (d *discovery) alive(ctx context.Context, endpoints []string) []string {
	lives := make([]bool, len(endpoints))
	var checks sync.WaitGroup
	for i, endpoint := range endpoints {
		checks.Go(func() { lives[i] = d.check(ctx, endpoint) })
	}
	checks.Wait()
	var alive []string
	for i, endpoint := range endpoints {
		if lives[i] {
			alive = append(alive, endpoint)
		}
	}
	return alive
}

// check reports whether an endpoint says of itself that it lives. It is stricter than
// the checks of endpoints in use: a host that does not know the path is not the
// upstream.
func (d *discovery) check(ctx context.Context, endpoint string) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	response, err := d.get(ctx, endpoint+livenessPath)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

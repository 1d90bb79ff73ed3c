package upstream

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

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// Limits of the talk with scheduling services.
const (
	lbsInterval  = time.Minute     // between two talks
	lbsTimeout   = 5 * time.Second // of one question, with its answer
	lbsRounds    = 3               // over all services, before a talk has failed
	lbsPause     = 2 * time.Second // longest between two rounds
	lbsTTL       = 30 * time.Second
	maxLBSTTL    = 24 * time.Hour
	maxLBSAnswer = 64 << 10
	maxLBSHosts  = 8   // of an answer that are looked at
	maxLBSText   = 512 // bytes of an endpoint, or of a digest
)

// vendorLBS are the vendor's own scheduling services: one for all regions, then
// one for each.
func vendorLBS() map[string][]string {
	return map[string][]string{"yunxin": {
		"https://srv-sdk-lbs.yunxinapi.com/srv-sdk/allocate",
		"https://srv-sdk-lbs-cn.yunxinapi.com/srv-sdk/allocate",
		"https://srv-sdk-lbs-sg.yunxinapi.com/srv-sdk/allocate",
	}}
}

// A scheduler asks the vendor's scheduling service (LBS) which endpoints are best
// for the app. Nothing waits for it: until it has an answer, and whenever there is
// none, the endpoints stay as they are.
//
// Whoever answers as the scheduling service gets the app's signed requests. So it
// is asked over TLS, and over TLS it can name endpoints with TLS only. One with an
// http URL may name any: that is for tests on the own machine.
type scheduler struct {
	schedulerConfig
	services []*url.URL
	query    url.Values
	http     *http.Client

	endpoints []string // as last told to update
	md5       string   // of the answer they are from, if nothing of it was left out
	ttl       time.Duration
	silent    bool // the last talk has failed
}

// A schedulerConfig says who is asked, for which app, and who is told.
type schedulerConfig struct {
	// lbs are the services in the order in which they are asked: URLs, or "yunxin"
	// for those of the vendor.
	lbs []string
	// appKey names the app. Questions are not signed.
	appKey string
	// userAgent is program/version, or a program without one.
	userAgent string
	// dial makes connections; TCP if nil.
	dial dialer
	log  *slog.Logger
	// update is told the endpoints, at least one and the best one first, whenever
	// they or their order change. It is never called twice at a time.
	update func(endpoints []string)
}

// newScheduler makes a scheduler, which asks nobody before it runs. Its error says
// which service is no URL.
func newScheduler(cfg schedulerConfig) (*scheduler, error) {
	urls, err := expand("scheduling service", cfg.lbs, vendorLBS())
	if err != nil {
		return nil, err
	}
	if len(urls) == 0 {
		return nil, errors.New("a scheduling service must be given")
	}
	_, version, _ := strings.Cut(cfg.userAgent, "/")
	s := &scheduler{
		schedulerConfig: cfg,
		query:           url.Values{"k": {cfg.appKey}, "sv": {cmp.Or(version, cfg.userAgent)}, "biz": {"1"}, "p": {"go"}},
		http:            newHTTPClient(cfg.dial),
		ttl:             lbsTTL,
	}
	for _, name := range urls {
		service, err := baseURL(name)
		if err != nil {
			return nil, err
		}
		s.services = append(s.services, service)
	}
	return s, nil
}

// run asks at once, and then each minute or when the answer has become too old,
// whichever is later. It returns when the context ends, and leaves nothing behind.
func (s *scheduler) run(ctx context.Context) {
	defer s.http.CloseIdleConnections()
	for ctx.Err() == nil {
		err := s.talk(ctx)
		if ctx.Err() != nil {
			return
		}
		s.note(ctx, err)
		if err == nil {
			pause(ctx, max(lbsInterval, s.ttl))
		} else {
			pause(ctx, lbsInterval)
		}
	}
}

// note logs when the talks begin to fail and when they no longer do, and not each
// one that fails.
func (s *scheduler) note(ctx context.Context, err error) {
	switch {
	case err != nil && !s.silent:
		s.log.WarnContext(ctx, "no scheduling service names endpoints; they stay as they are", "cause", err)
	case err == nil && s.silent:
		s.log.InfoContext(ctx, "a scheduling service names endpoints again")
	}
	s.silent = err != nil
}

// talk asks one service after the other until one names endpoints that can be
// used. Its error tells what is wrong with each, as of the last round.
func (s *scheduler) talk(ctx context.Context) error {
	var errs []error
	for round := range lbsRounds {
		if round > 0 {
			pause(ctx, lbsPause/2+rand.N(lbsPause/2)) //nolint:gosec // jitter is no secret
		}
		errs = nil
		for _, service := range s.services {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := s.ask(ctx, service)
			if err == nil {
				return nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", service.Host, err))
		}
	}
	return errors.Join(errs...)
}

// ask asks one service and takes what it names.
func (s *scheduler) ask(ctx context.Context, service *url.URL) error {
	a, err := s.fetch(ctx, service)
	if err != nil || a.unchanged {
		return err
	}
	return s.take(ctx, a, service.Scheme)
}

// An allocation is what a service answers.
type allocation struct {
	unchanged bool     // since the last answer; nothing else is told then
	named     []string // the endpoints, the best one first
	md5       string
	ttl       time.Duration
}

// fetch asks one service. The query goes into no error, for it has the app key.
func (s *scheduler) fetch(ctx context.Context, service *url.URL) (allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, lbsTimeout)
	defer cancel()
	query := maps.Clone(s.query)
	if s.md5 != "" {
		query.Set("md5", s.md5)
	}
	target := *service
	target.RawQuery = query.Encode()
	response, err := s.get(ctx, target.String())
	if err != nil {
		return allocation{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return allocation{}, fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxLBSAnswer+1))
	switch {
	case err != nil:
		return allocation{}, err
	case len(body) > maxLBSAnswer:
		return allocation{}, fmt.Errorf("the answer is larger than %d bytes", maxLBSAnswer)
	}
	return s.read(body)
}

// get sends a request without a signature.
func (s *scheduler) get(ctx context.Context, target string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, errors.New("the request cannot be written")
	}
	request.Header.Set("User-Agent", s.userAgent)
	response, err := s.http.Do(request)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return nil, e.Err // without the URL
	}
	return response, err
}

// read reads an answer. Its errors repeat nothing of it but its code: it may be
// anybody's text.
func (s *scheduler) read(body []byte) (allocation, error) {
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
	case code == http.StatusNotModified && s.md5 != "":
		return allocation{unchanged: true}, nil
	case code != apierror.CodeSuccess:
		return allocation{}, fmt.Errorf("the answer has code %d", code)
	}
	a := allocation{
		named: append([]string{answer.Data.Default}, answer.Data.Backups...),
		md5:   answer.Data.MD5,
		ttl:   lbsTTL,
	}
	if ttl, err := answer.Data.TTL.Int64(); err == nil && ttl >= 1 && ttl <= int64(maxLBSTTL/time.Second) {
		a.ttl = time.Duration(ttl) * time.Second
	}
	return a, nil
}

// take makes those endpoints of an answer that live the endpoints of the app. If
// none does, they stay as they are.
func (s *scheduler) take(ctx context.Context, a allocation, scheme string) error {
	candidates := usable(a.named, scheme)
	alive := s.alive(ctx, candidates)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the probes say nothing then
	case len(alive) == 0:
		return fmt.Errorf("of %d endpoints %d can be used and none lives", len(a.named), len(candidates))
	}
	s.ttl, s.md5 = a.ttl, ""
	if len(alive) == len(candidates) && len(a.md5) <= maxLBSText {
		// Else the same answer is asked for again, for what did not live may then.
		s.md5 = a.md5
	}
	if slices.Equal(alive, s.endpoints) {
		return nil
	}
	s.log.InfoContext(ctx, "endpoints scheduled", "endpoints", alive, "not_alive", len(candidates)-len(alive))
	s.endpoints = alive
	s.update(slices.Clone(alive))
	return nil
}

// usable returns the endpoints, each once, that a service asked over the scheme may
// name.
func usable(named []string, scheme string) []string {
	var endpoints []string
	for _, name := range named {
		u, err := baseURL(name)
		if err != nil || u.Scheme != "https" && u.Scheme != scheme || len(name) > maxLBSText {
			continue
		}
		endpoint := trimBase(u)
		if !slices.Contains(endpoints, endpoint) {
			endpoints = append(endpoints, endpoint)
		}
		if len(endpoints) == maxLBSHosts {
			break
		}
	}
	return endpoints
}

// alive returns the endpoints that pass a probe, in the same order.
func (s *scheduler) alive(ctx context.Context, endpoints []string) []string {
	lives := make([]bool, len(endpoints))
	var probes sync.WaitGroup
	for i, endpoint := range endpoints {
		probes.Go(func() { lives[i] = s.probe(ctx, endpoint) })
	}
	probes.Wait()
	var alive []string
	for i, endpoint := range endpoints {
		if lives[i] {
			alive = append(alive, endpoint)
		}
	}
	return alive
}

// probe tells whether an endpoint says of itself that it lives. It is stricter than
// the probes of endpoints in use: who does not know the path is not the upstream.
func (s *scheduler) probe(ctx context.Context, endpoint string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	response, err := s.get(ctx, endpoint+livenessPath)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

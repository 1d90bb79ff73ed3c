package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// A host is one endpoint of the app, with connections and a health of its own.
// The pool's lock guards what changes.
type host struct {
	base, name string
	client     *http.Client
	slots      *concurrency

	up      bool
	good    time.Time     // since when it is in service; zero if always
	hold    time.Duration // in service for so long before calls return to it
	row     int           // failures in a row
	recent  tally         // results of the last seconds
	pending int           // attempts under way
	answer  time.Time     // when it last answered an attempt
	silent  time.Time     // since when an answer is due
	alarm   *time.Timer   // looks after silent
	suspect bool          // it was silent for too long
	watched bool          // a goroutine probes it
	passes  int           // probes passed in a row while out of service
	missed  int           // probes failed in a row while in service, without any answer
	trial   bool          // an attempt is under way to find out
	tried   time.Time     // when the last of them began
	gone    bool          // no longer an endpoint of the app

	era    context.Context //nolint:containedctx // no call's: it ends when other hosts take over
	endEra context.CancelFunc
}

// Limits of the health of a host.
const (
	silenceLimit   = 500 * time.Millisecond // without any answer before it is probed
	probeTimeout   = time.Second
	probeInterval  = time.Second
	trialInterval  = time.Second     // between trials of one host
	trialPatience  = 2 * time.Second // for the result of a trial, before the next one
	suspiciousRow  = 3               // failures in a row before it is probed
	mostMissed     = 2               // probes failed in a row, if there is no other host to go to
	tallyLength    = time.Second
	leastResults   = 10              // in the tally, to be judged by
	slowFailure    = 2 * time.Second // cut off after so long is a failure, whoever cut it off
	firstHold      = 30 * time.Second
	lastHold       = 10 * time.Minute
	switchInterval = 10 * time.Second // between returns to preferred hosts
	livenessPath   = "/health/liveness.action"
	maxProbeAnswer = 4 << 10
)

func newHost(base *url.URL, dial dialer) *host {
	h := &host{
		base: trimBase(base), name: base.Host, client: newHTTPClient(dial), slots: newConcurrency(),
		up: true, hold: firstHold,
	}
	h.era, h.endEra = context.WithCancel(context.Background())
	return h
}

// heard notes an answer.
func (h *host) heard(now time.Time) {
	h.row, h.missed, h.suspect, h.answer, h.silent = 0, 0, false, now, time.Time{}
	if h.pending > 0 {
		h.silent = now
	}
	h.recent.add(now, true)
}

// moveOn ends the attempts under way that can be made elsewhere.
func (h *host) moveOn() {
	h.endEra()
	h.era, h.endEra = context.WithCancel(context.Background())
}

// probe asks the host whether it lives, on a connection of its own: those of the
// pool may be what is dead. Any answer of the application is a sign of life; the
// path itself is known to some of the vendor's hosts only.
func (h *host) probe(ctx context.Context, client *http.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+livenessPath, http.NoBody)
	if err != nil {
		return false
	}
	request.Close = true
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxProbeAnswer))
	return err == nil && response.StatusCode < http.StatusInternalServerError
}

// A tally counts results, forgetting those older than two of its lengths.
type tally struct {
	begin           time.Time
	ok, bad         int
	lastOK, lastBad int // of the tally before
}

func (w *tally) add(now time.Time, ok bool) {
	if age := now.Sub(w.begin); age >= tallyLength {
		w.lastOK, w.lastBad = w.ok, w.bad
		if age >= 2*tallyLength {
			w.lastOK, w.lastBad = 0, 0
		}
		w.begin, w.ok, w.bad = now, 0, 0
	}
	if ok {
		w.ok++
	} else {
		w.bad++
	}
}

// failing tells whether at least half of the results are bad.
func (w *tally) failing() bool {
	bad := w.bad + w.lastBad
	all := bad + w.ok + w.lastOK
	return all >= leastResults && 2*bad >= all
}

// A result is what an attempt says about its host.
type result int

const (
	answered  result = iota // by the application, whatever the answer
	failed                  // no answer, or a gateway's
	abandoned               // says nothing: the caller cut it off, or an idle connection had been closed
)

// resultOf judges the host by an attempt.
func resultOf(ctx context.Context, a attempt) result {
	switch {
	case errors.Is(a.err, errReplyTooLarge):
		return answered
	case a.err != nil && ctx.Err() != nil && a.took < slowFailure, a.stale():
		return abandoned
	case a.err != nil:
		return failed
	case a.status >= http.StatusInternalServerError:
		if _, err := readEnvelope(a.body); err != nil {
			return failed
		}
	}
	return answered
}

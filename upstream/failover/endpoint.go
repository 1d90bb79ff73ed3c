package failover

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Endpoint is a base URL of the app, with connections and a health of its own. The
// lock of the Set guards what changes.
type Endpoint struct {
	// Base is the URL without a slash at its end.
	Base string
	// Name names the endpoint in errors and metrics: its host, or more where hosts
	// are the same.
	Name string
	// Client makes the requests. It follows no redirects.
	Client *http.Client

	up      bool
	good    time.Time     // since when it is in service; zero if always
	hold    time.Duration // in service for so long before calls return to it
	row     int           // failures in a row
	recent  tally         // results of the last seconds
	pending int           // attempts in progress
	answer  time.Time     // when it last answered an attempt
	silent  time.Time     // since when an answer is due
	alarm   *time.Timer   // looks after silent
	suspect bool          // it was silent for too long
	checked bool          // a goroutine checks its health
	passes  int           // health checks passed in a row while out of service
	missed  int           // health checks failed in a row while in service, without any answer
	trial   bool          // an attempt finds out whether it is back
	tried   time.Time     // when the last of them began
	gone    bool          // it is no longer an endpoint of the app

	lease    context.Context //nolint:containedctx // it belongs to no call: it ends when other endpoints take over
	endLease context.CancelFunc
}

// Limits of the health of an endpoint.
const (
	silenceLimit   = 500 * time.Millisecond // without any answer before a health check
	checkTimeout   = time.Second
	checkInterval  = time.Second
	trialInterval  = time.Second     // between trials of one endpoint
	trialTimeout   = 2 * time.Second // for the result of a trial, before the next one
	suspiciousRow  = 3               // failures in a row before a health check
	mostMissed     = 2               // failed health checks in a row, if there is no other endpoint to go to
	tallyLength    = time.Second
	leastResults   = 10 // in the tally before it decides
	firstHold      = 30 * time.Second
	lastHold       = 10 * time.Minute
	switchInterval = 10 * time.Second // between returns to preferred endpoints
	livenessPath   = "/health/liveness.action"
	maxCheckAnswer = 4 << 10
)

func newEndpoint(base *url.URL, dial Dialer) *Endpoint {
	e := &Endpoint{Base: trimBase(base), Name: base.Host, Client: newHTTPClient(dial), up: true, hold: firstHold}
	e.lease, e.endLease = context.WithCancel(context.Background())
	return e
}

func trimBase(base *url.URL) string { return strings.TrimRight(base.String(), "/") }

// heard notes an answer.
func (e *Endpoint) heard(now time.Time) {
	e.row, e.missed, e.suspect, e.answer, e.silent = 0, 0, false, now, time.Time{}
	if e.pending > 0 {
		e.silent = now
	}
	e.recent.add(now, true)
}

// moveOn ends the attempts in progress that can be made elsewhere.
func (e *Endpoint) moveOn() {
	e.endLease()
	e.lease, e.endLease = context.WithCancel(context.Background())
}

// check reports whether the endpoint lives. It asks on a connection of its own,
// because those of the pool may be what is dead. Any answer of the application is a
// sign of life: only some of the vendor's hosts know the path.
func (e *Endpoint) check(ctx context.Context, client *http.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Base+livenessPath, http.NoBody)
	if err != nil {
		return false
	}
	request.Close = true
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxCheckAnswer))
	return err == nil && response.StatusCode < http.StatusInternalServerError
}

// tally counts results and forgets those older than two of its lengths.
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

// failing reports whether at least half of the results are bad.
func (w *tally) failing() bool {
	bad := w.bad + w.lastBad
	all := bad + w.ok + w.lastOK
	return all >= leastResults && 2*bad >= all
}

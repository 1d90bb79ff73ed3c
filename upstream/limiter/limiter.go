// Package limiter bounds the attempts in progress towards one endpoint. Under
// overload calls wait here, and briefly, instead of in the upstream, which would go
// on with them after their callers have gone.
package limiter

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// ErrOverloaded is the error of an attempt that would wait too long for a permit.
// Nothing was sent.
var ErrOverloaded = errors.New("too many calls are in progress")

const (
	least   = 8   // permits
	initial = 128 // permits; with as many that wait, a burst of 200 passes from the start

	maxWait       = time.Second            // for a permit
	minUsual      = 20 * time.Millisecond  // a usual latency below this counts as this
	slowFactor    = 4                      // times the usual latency that make an attempt slow
	slowShare     = 0.02                   // of attempts, above which the limit is cut
	cut           = 0.7                    // what remains of the limit then
	windowTime    = 500 * time.Millisecond // of a window, at least
	windowResults = 32                     // in a window, at least: the share of fewer is chance
	riseTime      = time.Minute            // in which a slower upstream becomes the usual one
)

// Limiter is an adaptive limit of attempts: additive increase, multiplicative
// decrease. It counts, window by window, the attempts that were slow for their
// operation or failed. If more than 2 % were, the limit is multiplied by 0.7. If the
// limit was reached and fewer were, it doubles until it has once been cut, and then
// grows by 0.5. A limit that is not in use says nothing and returns to its initial
// value.
type Limiter struct {
	most float64

	mu         sync.Mutex
	limit      float64
	inProgress int
	queue      list.List                // of chan struct{}, closed when a permit has come
	held       time.Duration            // for which permits are held, smoothed
	usual      map[string]time.Duration // latency of an operation, smoothed
	window     window
	wasCut     bool // at some time: the capacity is about known
}

// window is a time in which one limit is tried. It counts the attempts that began in
// it, because others tell of the limit before.
type window struct {
	began   time.Time
	peak    int  // attempts in progress at once
	full    bool // an attempt found no permit
	results int
	slow    int // results that were slow or failed
}

// New returns a limiter with at most so many permits.
func New(most int) *Limiter {
	return &Limiter{most: float64(most), limit: min(initial, float64(most)), usual: make(map[string]time.Duration), window: window{began: time.Now()}}
}

// Acquire takes a permit, which Release gives back. It waits in line if the wait
// promises to be short: not above a second, nor half of the time that the caller has,
// and such that an answer can still come in time. Otherwise it returns ErrOverloaded,
// at once if that can be foreseen; or the context's error.
func (l *Limiter) Acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.inProgress < int(l.limit) { // then nobody waits
		l.take()
		l.mu.Unlock()
		return nil
	}
	l.window.full = true
	longest := maxWait
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		longest = min(longest, left/2, left-l.held)
	}
	wait := time.Duration(float64(l.queue.Len()+1) * float64(l.held) / l.limit)
	if l.queue.Len() >= int(l.limit) || wait > longest {
		l.mu.Unlock()
		return ErrOverloaded
	}
	turn := make(chan struct{})
	place := l.queue.PushBack(turn)
	l.mu.Unlock()
	return l.await(ctx, place, turn, longest)
}

func (l *Limiter) await(ctx context.Context, place *list.Element, turn <-chan struct{}, longest time.Duration) error {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	err := ErrOverloaded
	select {
	case <-turn:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-turn: // too late: the permit is the next one's
		l.inProgress--
		l.admit()
	default:
		l.queue.Remove(place)
	}
	return err
}

// Release gives back a permit that was held for an attempt at an operation. answered
// says that the upstream carried it out; of one that failed or was cut off it is only
// known that it would have taken longer.
func (l *Limiter) Release(operation string, took time.Duration, answered bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inProgress--
	if l.held == 0 {
		l.held = took
	}
	l.held += (took - l.held) / windowResults
	if took > 0 && !now.Add(-took).Before(l.window.began) {
		l.note(operation, took, answered)
	}
	if l.window.results >= windowResults && now.Sub(l.window.began) >= max(windowTime, 2*l.held) {
		l.adapt()
		l.window = window{began: now, peak: l.inProgress, full: l.queue.Len() > 0}
	}
	l.admit()
}

// note counts an attempt. One that was cut off before its usual time tells of its
// caller's haste only.
func (l *Limiter) note(operation string, took time.Duration, answered bool) {
	usual, known := l.usual[operation]
	switch {
	case !answered && (!known || took < usual):
		return
	case !known:
		usual = took
	}
	l.window.results++
	if !answered || took > slowFactor*max(usual, minUsual) {
		l.window.slow++
	}
	if answered {
		l.usual[operation] = l.learn(usual, took)
	}
}

// learn follows a faster upstream soon and a slower one late. While the limit is
// reached the upstream may be slow only because of the load, and nothing is learned
// from that.
func (l *Limiter) learn(usual, took time.Duration) time.Duration {
	switch {
	case took < usual:
		return usual + (took-usual)/windowResults
	case l.window.full:
		return usual
	default:
		share := float64(time.Since(l.window.began)) / float64(riseTime) / float64(l.window.results)
		return usual + time.Duration(min(share, 1.0/windowResults)*float64(took-usual))
	}
}

// adapt sets the limit by the window that is over.
func (l *Limiter) adapt() {
	w := l.window
	switch {
	case float64(w.slow) > slowShare*float64(w.results) && (w.full || w.peak > int(l.limit)/2):
		l.wasCut = true
		l.limit = max(least, cut*min(l.limit, float64(w.peak)))
	case w.full && l.wasCut:
		l.limit = min(l.most, l.limit+0.5)
	case w.full:
		l.limit = min(l.most, 2*l.limit)
	default:
		l.limit = max(l.limit, min(l.limit+1, initial)) // room for bursts comes back
	}
}

// State returns the limit, the permits taken, and the attempts that wait for one.
func (l *Limiter) State() (limit, inProgress, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.limit), l.inProgress, l.queue.Len()
}

func (l *Limiter) take() {
	l.inProgress++
	l.window.peak = max(l.window.peak, l.inProgress)
}

// admit gives the free permits to those who wait, first come first served.
func (l *Limiter) admit() {
	for l.queue.Len() > 0 && l.inProgress < int(l.limit) {
		turn, _ := l.queue.Remove(l.queue.Front()).(chan struct{})
		close(turn)
		l.take()
	}
}

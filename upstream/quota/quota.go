// Package quota keeps the calls of an upstream operation to the rate that the vendor
// grants. Calls wait for their turn, callers are served in turn, and who is refused
// learns when to come again.
package quota

import (
	"context"
	"errors"
	"sync"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// Limits of waiting for a quota.
const (
	leastWait       = time.Second
	mostWait        = 30 * time.Second
	patientTokens   = 20               // a call waits for so many, if it has the time
	defaultDeadline = 10 * time.Second // of a call without one
	leastDelay      = time.Millisecond // that is told to whoever is refused
	burstShare      = 20               // one call in so many may come early
)

// ErrExceeded is the error of a call that would wait too long.
var ErrExceeded = errors.New("the quota is used up")

// Caller is who makes a call.
type Caller struct {
	// Name tells callers apart.
	Name string
	// Share is the part of the quota that the caller may use, above 0 and below 1. Any
	// other share is all.
	Share float64
}

// Quota is a bucket of tokens, one for each call, and the queue of those who wait for
// one. It stores when the bucket will be full again, which is exact: there is nothing
// to add up and to round. Times are since the quota was made.
type Quota struct {
	start    time.Time
	interval time.Duration // between two tokens; 0 if there is no limit
	slack    time.Duration // that tokens of a full bucket are early
	shares   shares

	mu      sync.Mutex
	full    time.Duration // when the bucket is full again
	breaker breaker
	queue   fairQueue
	timer   *time.Timer // runs while somebody waits
}

// New makes a quota of a rate that is kept exactly.
func New(rate Rate, class upstreamv1.QuotaClass) *Quota {
	q := &Quota{start: time.Now(), shares: shares{rate: rate}, breaker: breaker{shortest: firstPause}}
	if class != upstreamv1.QuotaClass_QUOTA_CLASS_UNSPECIFIED {
		q.breaker.shortest = firstLongPause
	}
	if rate.Calls > 0 {
		calls := time.Duration(rate.Calls)
		q.interval = (rate.Per + calls - 1) / calls // rounded up: never above the rate
		q.slack = q.interval * time.Duration(max(1, rate.Calls/burstShare)-1)
	}
	return q
}

func (q *Quota) now() time.Duration { return time.Since(q.start) }

// Wait returns when the caller may make a call: at once, or after a wait for its turn,
// of its own share first. If that would be too long it returns ErrExceeded and the
// time after which a call may come again, which is never 0. Every call that may be
// made must be followed by one of Accepted, Refused, Unanswered and Unused.
func (q *Quota) Wait(ctx context.Context, c Caller) (retryAfter time.Duration, err error) {
	if own := q.shares.of(c); own != nil {
		if retryAfter, err = own.waitFor(ctx, c.Name); err != nil {
			return retryAfter, err
		}
		own.Accepted() // the upstream's answer is not about shares
	}
	return q.waitFor(ctx, c.Name)
}

func (q *Quota) waitFor(ctx context.Context, name string) (retryAfter time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	longest := q.longestWait(ctx)
	w, retryAfter, err := q.join(name, longest)
	if w == nil {
		return retryAfter, err
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-w.ready:
		return 0, nil
	case <-ctx.Done():
		q.leave(w)
		return 0, ctx.Err()
	case <-timer.C:
		return q.giveUp(w)
	}
}

// longestWait is part of the time that the call has.
func (q *Quota) longestWait(ctx context.Context) time.Duration {
	remaining := defaultDeadline
	if deadline, ok := ctx.Deadline(); ok {
		remaining = time.Until(deadline)
	}
	return min(remaining/2, max(leastWait, remaining/10, patientTokens*q.interval), mostWait)
}

// join takes a token if one is free, or puts the call into the queue, unless it would
// wait too long. It returns neither waiter nor error to a call that may be made.
func (q *Quota) join(name string, longest time.Duration) (w *waiter, retryAfter time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.queue.expire(now)
	if q.queue.waiting == 0 && q.opens(now) <= now {
		if c := q.queue.callers[name]; c != nil {
			q.queue.claim(c, now)
			q.queue.release(c)
		}
		q.take(now)
		return nil, 0, nil
	}
	c := q.queue.of(name)
	turn := q.turn(now, c)
	if q.queue.claim(c, now) {
		turn = q.token(now, q.queue.ahead(c, q.queue.waiting))
	}
	if turn-now > longest || c.waiting.Len() >= maxWaiting {
		return nil, q.refuse(now, c), ErrExceeded
	}
	w = q.queue.push(c)
	q.serve(now)
	return w, 0, nil
}

// refuse makes a reservation for a call that may not be made.
func (q *Quota) refuse(now time.Duration, c *caller) (retryAfter time.Duration) {
	turn := q.turn(now, c)
	due := turn
	if q.interval > 0 && turn-now <= farthest {
		due = q.queue.reserve(c, turn)
	}
	q.queue.release(c)
	return max(due-now, q.breaker.remains(now), leastDelay)
}

// leave takes a call out whose context has ended. If its turn came in the same moment,
// the call gives its token back.
func (q *Quota) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if w.place != nil {
		q.queue.remove(w)
	} else {
		q.giveBack(now, w.full)
	}
	q.serve(now)
}

// giveBack gives back a token with which the bucket was to be full at a time. Once that
// is over, the bucket may have been full and has the token already.
func (q *Quota) giveBack(now, full time.Duration) {
	if now < full {
		q.full -= q.interval
	}
	q.breaker.ended()
}

// giveUp ends a wait that lasted too long, unless its turn came in the same moment.
func (q *Quota) giveUp(w *waiter) (retryAfter time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.serve(now)
	if w.place == nil {
		return 0, nil
	}
	q.queue.remove(w)
	q.serve(now)
	return q.refuse(now, q.queue.of(w.caller.name)), ErrExceeded
}

// serve lets all calls pass whose turn has come, and sees to the next.
func (q *Quota) serve(now time.Duration) {
	for q.queue.waiting > 0 && q.opens(now) <= now {
		w := q.queue.pop()
		q.take(now)
		w.full = q.full
		close(w.ready)
	}
	switch {
	case q.queue.waiting == 0:
		if q.timer != nil {
			q.timer.Stop()
		}
	case q.timer == nil:
		q.timer = time.AfterFunc(q.opens(now)-now, q.tick)
	default:
		q.timer.Reset(q.opens(now) - now)
	}
}

func (q *Quota) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serve(q.now())
}

func (q *Quota) take(now time.Duration) {
	q.full = max(q.full, now) + q.interval
	q.breaker.pass(now)
}

// opens returns when a call may pass, if nothing happens until then.
func (q *Quota) opens(now time.Duration) time.Duration {
	return max(q.full-q.slack, q.breaker.passes(), now)
}

// token returns when the call passes that has n calls ahead of it. Of a trial it is
// assumed that it succeeds and takes no time.
func (q *Quota) token(now time.Duration, n int) time.Duration {
	begin := now
	if q.breaker.open {
		begin = max(now, q.breaker.until)
	}
	return max(begin, max(begin, q.full)-q.slack+time.Duration(n)*q.interval)
}

// turn estimates when the next call of a caller has its turn: after its reservations,
// which come one in a round, or otherwise after the calls and reservations of others.
func (q *Quota) turn(now time.Duration, c *caller) time.Duration {
	if len(c.reserved) > 0 {
		return max(q.token(now, q.queue.ahead(c, q.queue.waiting)), c.last+q.interval*time.Duration(len(q.queue.callers)))
	}
	return q.token(now, q.queue.ahead(c, q.queue.waiting+q.queue.owed))
}

// Pressed reports whether calls had better be saved: they are paused, or there is
// hardly a token left, which is so whenever somebody waits.
func (q *Quota) Pressed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.breaker.open || q.full-q.now() > q.slack*3/4
}

// Refused notes that the upstream refused a call for its rate.
func (q *Quota) Refused() { q.ended(func(now time.Duration) { q.breaker.refused(now) }) }

// Accepted notes any other answer of the upstream.
func (q *Quota) Accepted() { q.ended(func(time.Duration) { q.breaker.accepted() }) }

// Unanswered notes that a call got no answer.
func (q *Quota) Unanswered() { q.ended(func(time.Duration) { q.breaker.ended() }) }

// Unused notes that a call was not made after all: its token is there for another. If
// the bucket was full in between and has been drawn from since, that is one call too
// many, for which the rate that is kept leaves room.
func (q *Quota) Unused() { q.ended(func(now time.Duration) { q.giveBack(now, q.full) }) }

func (q *Quota) ended(note func(now time.Duration)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	note(now)
	if q.queue.waiting > 0 {
		q.serve(now)
	}
}

// Pause returns what remains of a pause, or a moment if a trial is to end it, or 0 if
// there is none.
func (q *Quota) Pause() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.breaker.remains(q.now())
}

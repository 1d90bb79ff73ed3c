package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// Limits of waiting for a quota.
const (
	leastPatience   = time.Second
	mostPatience    = 30 * time.Second
	patientTokens   = 20               // a call waits for so many, if it has the time
	defaultDeadline = 10 * time.Second // of a call without one
	leastDelay      = time.Millisecond // that is told to whoever is refused
	burstShare      = 20               // one call in so many may come early
)

var errQuotaExceeded = errors.New("the quota is used up")

// A quota keeps the calls of one operation to a rate, and pauses them when the
// upstream refuses one. It is a bucket of tokens, one for each call; what is kept
// of it is when it will be full again, so that there is nothing to add up and
// nothing to round. Times are since the quota was made.
type quota struct {
	start    time.Time
	interval time.Duration // between two tokens; 0 if there is no limit
	slack    time.Duration // that tokens of a full bucket are early
	shares   shares        // of callers who may not use all of it

	mu    sync.Mutex
	full  time.Duration // when the bucket is full again
	gate  gate
	line  line
	timer *time.Timer // runs while somebody waits
}

func newQuota(rate Rate, class upstreamv1.QuotaClass) *quota {
	q := &quota{start: time.Now(), shares: shares{rate: rate}, gate: gate{shortest: firstPause}}
	if class != upstreamv1.QuotaClass_QUOTA_CLASS_UNSPECIFIED {
		q.gate.shortest = firstLongPause
	}
	if rate.Calls > 0 {
		calls := time.Duration(rate.Calls)
		q.interval = (rate.Per + calls - 1) / calls // rounded up: never above the rate
		q.slack = q.interval * time.Duration(max(1, rate.Calls/burstShare)-1)
	}
	return q
}

func (q *quota) now() time.Duration { return time.Since(q.start) }

// wait returns when the caller may make a call: at once, or after a wait for its
// turn. If that would be too long it refuses, with the time after which the
// caller's turn will come, which is never 0. Every call that is let through must
// be followed by one of accepted, refused, unanswered and unused.
func (q *quota) wait(ctx context.Context, name string) (retryAfter time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if q.takeFree() {
		return 0, nil
	}
	patience := q.patience(ctx)
	w, retryAfter := q.join(name, patience)
	if w == nil {
		return retryAfter, errQuotaExceeded
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.ready:
		return 0, nil
	case <-ctx.Done():
		q.leave(w)
		return 0, ctx.Err()
	case <-timer.C:
		return q.giveUp(w, patience)
	}
}

// takeFree lets a call through at once if there is a token that nobody else has
// a claim to.
func (q *quota) takeFree() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if len(q.line.callers) > 0 || q.opens(now) > now {
		return false
	}
	q.take(now)
	return true
}

// patience is how long a call waits: part of the time that it has.
func (q *quota) patience(ctx context.Context) time.Duration {
	remaining := defaultDeadline
	if deadline, ok := ctx.Deadline(); ok {
		remaining = time.Until(deadline)
	}
	return min(remaining/2, max(leastPatience, remaining/10, patientTokens*q.interval), mostPatience)
}

// join puts a call into the line, unless it would wait too long.
func (q *quota) join(name string, patience time.Duration) (w *waiter, retryAfter time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.line.forget(now)
	c := q.line.of(name)
	claimed := q.line.claim(c, now)
	var turn time.Duration
	switch {
	case q.line.waiting == 0 && q.opens(now) <= now:
		turn = now
	case claimed: // other promises come later
		turn = q.token(now, q.line.here.ahead(c.waiting.len))
	default:
		turn = q.turn(now, c)
	}
	if turn-now > patience || c.waiting.len >= mostWaiting {
		return nil, q.refuse(now, c, patience)
	}
	w = q.line.push(c)
	q.serve(now)
	return w, 0
}

// refuse promises a turn to a call that is not let through.
func (q *quota) refuse(now time.Duration, c *caller, patience time.Duration) (retryAfter time.Duration) {
	turn := q.turn(now, c)
	if turn-q.token(now, 0) < min(farthest, mostPromises*q.interval) {
		turn = q.line.promise(c, turn, patience)
	}
	q.line.release(c)
	return max(turn-now, q.gate.remains(now), leastDelay)
}

// leave takes a call out whose context has ended. If its turn came in the same
// moment, the call gives its token back.
func (q *quota) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if w.place != nil {
		q.line.remove(w)
	} else {
		q.giveBack(now, w.full)
	}
	q.serve(now)
}

// giveBack gives back a token with which the bucket was to be full at a time. Once
// that is over, the bucket may have been full, and has it already.
func (q *quota) giveBack(now, full time.Duration) {
	if now < full {
		q.full -= q.interval
	}
	q.gate.ended()
}

// giveUp ends a wait that lasted too long, unless its turn came in the same
// moment.
func (q *quota) giveUp(w *waiter, patience time.Duration) (retryAfter time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.serve(now)
	if w.place == nil {
		return 0, nil
	}
	q.line.remove(w)
	q.serve(now)
	return q.refuse(now, q.line.of(w.caller.name), patience), errQuotaExceeded
}

// serve lets through all calls whose turn has come, and sees to the next.
func (q *quota) serve(now time.Duration) {
	for q.line.waiting > 0 && q.opens(now) <= now {
		w := q.line.pop()
		q.take(now)
		w.full = q.full
		close(w.ready)
	}
	switch {
	case q.line.waiting == 0:
		if q.timer != nil {
			q.timer.Stop()
		}
	case q.timer == nil:
		q.timer = time.AfterFunc(q.opens(now)-now, q.tick)
	default:
		q.timer.Reset(q.opens(now) - now)
	}
}

func (q *quota) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serve(q.now())
}

// take lets a call through.
func (q *quota) take(now time.Duration) {
	q.full = max(q.full, now) + q.interval
	q.gate.pass(now)
}

// opens returns when a call may be let through, if nothing happens until then.
func (q *quota) opens(now time.Duration) time.Duration {
	return max(q.full-q.slack, q.gate.opens(), now)
}

// token returns when the call is let through that has n calls ahead of it. Of a
// trial it is assumed that it succeeds, and takes no time.
func (q *quota) token(now time.Duration, n int) time.Duration {
	begin := now
	if q.gate.shut {
		begin = max(now, q.gate.until)
	}
	return max(begin, max(begin, q.full)-q.slack+time.Duration(n)*q.interval)
}

// turn returns when the next call of a caller has its turn: after the promises
// that it has, which come as fast as others let them; or, without any, after the
// calls and promises of others in the order of the rounds.
func (q *quota) turn(now time.Duration, c *caller) time.Duration {
	if len(c.promises) > 0 {
		return max(q.token(now, q.line.here.ahead(c.waiting.len)), c.last+q.line.spacing(q.interval))
	}
	return q.token(now, q.line.all.ahead(c.waiting.len))
}

// pressed tells whether calls had better be saved: they are paused, or there is
// hardly a token left, which is so whenever somebody waits.
func (q *quota) pressed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.gate.shut || q.full-q.now() > q.slack*3/4
}

// refused notes that the upstream refused a call for its rate.
func (q *quota) refused() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.gate.refused(now)
	q.serve(now)
}

// accepted notes any other answer of the upstream.
func (q *quota) accepted() {
	q.mu.Lock()
	defer q.mu.Unlock()
	shut := q.gate.shut
	q.gate.accepted()
	if shut {
		q.serve(q.now())
	}
}

// unused notes that a call was not made after all: its token is there for another. If
// the bucket was full in between and has been drawn from since, that is one call too
// many, for which the rate that is kept leaves room.
func (q *quota) unused() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	q.giveBack(now, q.full)
	q.serve(now)
}

// unanswered notes that a call got no answer.
func (q *quota) unanswered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	shut := q.gate.shut
	q.gate.ended()
	if shut {
		q.serve(q.now())
	}
}

// pause returns what remains of a pause, or a moment if a trial is to end it; 0
// if there is no pause.
func (q *quota) pause() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.gate.remains(q.now())
}

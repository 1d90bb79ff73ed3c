package upstream

import (
	"container/list"
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// Bounds of what is under way at once towards one host.
const (
	leastConcurrency = 8
	firstConcurrency = 128 // with as many that wait, a burst of 200 passes from the start
	mostConcurrency  = maxConns
)

// What the limit goes by. Times are in seconds; slowness is the logarithm of a
// latency's ratio to the usual one.
const (
	mostWait      = 1.0          // for a slot
	leastUsual    = 0.02         // a usual latency below this counts as this
	windowTime    = 0.5          // of a window, at least
	windowAnswers = 32           // in a window, at least: the mean of fewer is chance
	congested     = math.Ln2     // slowness from which the limit shrinks
	mostSlow      = 2 * math.Ln2 // that one answer counts for
	noticeable    = 0.2          // slowness that is more than chance
	cutShare      = 0.1          // of calls cut off, above which the limit shrinks at once
	growth        = 1.5          // of the limit, in its square roots: small shares of an upstream catch up
	riseTime      = 50.0         // in which a slower upstream becomes the usual one
	riseTimeFull  = 600.0        // the same while the limit is reached
	probeTime     = 10.0         // between two probes, at least, and of one, at most
)

// errOverloaded is the error of an attempt that would wait too long for its turn.
// Nothing was sent.
var errOverloaded = errors.New("too many calls are under way")

// A concurrency limits the attempts under way at once towards one host. Under
// overload calls then wait here, and briefly, instead of in the upstream, which
// would go on with them after their callers have gone.
//
// The limit goes by slowness: how much longer answers take than is usual for
// their operation. If they take more than twice as long, on average over a
// window, the limit shrinks in proportion; if they do not, and the limit was
// reached, it grows: it doubles until it has once been too much. At twice the usual
// latency as much waits in the upstream as it works on: enough to keep it busy.
//
// The usual latency follows a faster upstream at once and a slower one late, and
// later still while the limit is reached, or the limit's own queue would become
// usual. What is slow by itself and what is slow by too much load look alike, so
// before the limit shrinks a probe runs at a quarter of the load. Answers that
// are as slow then are the new usual ones, and the limit stays. That is not
// believed of an upstream that was kept at the limit, for the load of other
// instances stays when this one's falls: there a slower upstream becomes usual in
// minutes.
type concurrency struct {
	mu       sync.Mutex
	limit    float64
	inFlight int
	queue    list.List // of chan struct{}, closed when the turn has come
	held     float64   // seconds for which slots are held, smoothed
	usual    map[*endpoint]*latency
	window   window
	reached  int  // windows in a row, congested ones aside, that reached the limit
	shrunk   bool // at some time, so its place is about known

	probe     float64   // slots while probing, else 0
	suspected float64   // slowness that led to the probe
	smaller   float64   // limit if the load is to blame
	nextProbe time.Time // not before
}

// A window is a time in which one limit is tried. It counts the attempts that
// began in it, for others tell of the limit before.
type window struct {
	began    time.Time
	peak     int     // attempts under way at once
	full     bool    // an attempt found no slot
	answers  int     // and calls cut off
	cut      int     // calls cut off
	slowness float64 // sum over the answers
}

// A latency is the usual one of an operation: a mean of logarithms of seconds. The
// least one would not do: calls of one operation differ by more than congestion
// makes them.
type latency struct {
	usual   float64
	known   int     // answers of which it was first made
	sum     float64 // over the answers of this window
	answers int
}

func newConcurrency() *concurrency {
	return &concurrency{
		limit:  firstConcurrency,
		usual:  make(map[*endpoint]*latency),
		window: window{began: time.Now()},
	}
}

// acquire takes a slot, to be given back by release. It waits in line if that
// promises to be short: not over a second, nor half of the time the caller has,
// and such that an answer can still come in time. Otherwise it returns
// errOverloaded, at once if that can be foreseen; or the context's error.
func (c *concurrency) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	if c.inFlight < c.slots() { // then nobody waits
		c.take()
		c.mu.Unlock()
		return nil
	}
	c.window.full = true
	patience := mostWait
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline).Seconds()
		patience = min(patience, left/2, left-c.held)
	}
	wait := float64(c.queue.Len()+1) * c.held / c.limit
	if c.queue.Len() >= int(c.limit) || wait > patience {
		c.mu.Unlock()
		return errOverloaded
	}
	turn := make(chan struct{})
	place := c.queue.PushBack(turn)
	c.mu.Unlock()
	return c.await(ctx, place, turn, seconds(patience))
}

func (c *concurrency) await(ctx context.Context, place *list.Element, turn <-chan struct{}, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	err := errOverloaded
	select {
	case <-turn:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-turn: // too late: it is the next one's
		c.inFlight--
		c.admit()
	default:
		c.queue.Remove(place)
	}
	return err
}

// release gives back a slot that was held for an attempt at an operation.
// answered tells that the upstream carried it out; of one that was cut off or
// failed it is only known that it would have taken longer.
func (c *concurrency) release(operation *endpoint, took time.Duration, answered bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	if c.held == 0 {
		c.held = took.Seconds()
	}
	c.held += (took.Seconds() - c.held) / windowAnswers
	if took > 0 && !now.Add(-took).Before(c.window.began) {
		c.note(operation, math.Log(took.Seconds()), answered)
	}
	if c.over(now) {
		c.judge(now)
		c.window = window{began: now, peak: c.inFlight, full: c.queue.Len() > 0}
	}
	c.admit()
}

// state returns the limit, the slots taken, and the attempts that wait for one.
func (c *concurrency) state() (limit, inFlight, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.limit), c.inFlight, c.queue.Len()
}

func (c *concurrency) slots() int {
	if c.probe > 0 {
		return int(c.probe)
	}
	return int(c.limit)
}

func (c *concurrency) take() {
	c.inFlight++
	c.window.peak = max(c.window.peak, c.inFlight)
}

// admit gives the free slots to those who wait, first come first served.
func (c *concurrency) admit() {
	for c.queue.Len() > 0 && c.inFlight < c.slots() {
		turn, _ := c.queue.Remove(c.queue.Front()).(chan struct{})
		close(turn)
		c.take()
	}
}

// note counts an attempt that took so long, as a logarithm. No answer counts for
// more than mostSlow, so that a tail of slow ones, up to half of all, is not taken
// for congestion. A call cut off late counts for as much; one cut off earlier
// tells of its caller's haste.
func (c *concurrency) note(operation *endpoint, took float64, answered bool) {
	l := c.usual[operation]
	if l == nil {
		l = new(latency)
		c.usual[operation] = l
	}
	if answered && l.known < windowAnswers {
		l.known++
		l.usual += (took - l.usual) / float64(l.known)
	}
	slowness := took - max(l.usual, math.Log(leastUsual))
	if !answered {
		if l.known == 0 || slowness < noticeable {
			return
		}
		slowness = mostSlow
		c.window.cut++
	}
	l.sum += took
	l.answers++
	c.window.answers++
	c.window.slowness += max(-mostSlow, min(slowness, mostSlow))
}

// over tells whether the window has seen enough. It lasts for two latencies, or it
// would see none but the faster answers; a probe, which costs throughput, for one.
func (c *concurrency) over(now time.Time) bool {
	age, enough := now.Sub(c.window.began).Seconds(), c.window.answers >= windowAnswers
	if c.probe > 0 {
		return enough && age >= c.held || age >= probeTime || c.inFlight == 0
	}
	return enough && age >= max(windowTime, 2*c.held)
}

// judge sets limit and usual latencies by the window that is over.
func (c *concurrency) judge(now time.Time) {
	w := c.window
	slowness := w.slowness / float64(max(w.answers, 1))
	patient := float64(w.cut) <= cutShare*float64(w.answers)
	believed := false
	switch {
	case c.probe > 0:
		c.probe = 0
		if w.answers < windowAnswers {
			break // the load has gone: nothing is known
		}
		believed = patient && c.reached < 2
		if !believed || slowness < c.suspected-noticeable {
			c.limit, c.nextProbe = c.smaller, now.Add(seconds(probeTime*max(1, 2*c.held)))
		}
	case slowness > congested && (w.full || w.peak > leastConcurrency):
		factor := max(0.5, min(math.Exp(congested-slowness), 0.95))
		c.shrunk = true
		c.smaller = max(leastConcurrency, factor*min(c.limit, float64(w.peak)))
		if patient && now.After(c.nextProbe) {
			c.suspected, c.probe = slowness, max(leastConcurrency, c.smaller/4)
		} else {
			c.limit = c.smaller
		}
	case w.full:
		c.reached++
		more := c.limit
		if c.shrunk {
			more = growth * math.Sqrt(c.limit)
		}
		c.limit = min(mostConcurrency, c.limit+more)
	default:
		c.reached = 0
		c.limit = max(c.limit, min(c.limit+1, firstConcurrency)) // room for bursts comes back
	}
	c.learn(now, believed)
}

// learn moves the usual latencies towards those of the window. While a probe is
// to find out whether they are usual, they stay.
func (c *concurrency) learn(now time.Time, believed bool) {
	slowly := riseTime
	if c.window.full {
		slowly = riseTimeFull
	}
	age := min(now.Sub(c.window.began).Seconds(), probeTime) // the rest was idle
	for _, l := range c.usual {
		if n := float64(l.answers); n > 0 && c.probe == 0 {
			gap, share := l.sum/n-l.usual, -math.Expm1(-age/slowly)
			if gap < 0 || believed {
				share = n / (n + windowAnswers)
			}
			l.usual += gap * share
		}
		l.sum, l.answers = 0, 0
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

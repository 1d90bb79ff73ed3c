package quota

import (
	"container/list"
	"math/rand/v2"
	"time"
)

// Limits of a fair queue.
const (
	maxWaiting = 10_000          // calls of one caller
	farthest   = 2 * time.Minute // ahead that a reservation is made
	grace      = 2 * time.Second // that a reservation is kept when it is due
	beat       = 200 * time.Millisecond
	jitter     = 4 * time.Millisecond // above 1, after the beat on which a reservation is due
)

// fairQueue holds the calls that wait for one quota. The callers are served in turn,
// each with one call per round: a caller with many calls waits for itself.
//
// A call that is refused gets a reservation: the time that it is told, when a call of
// its caller has precedence over those that come for the first time. Otherwise new
// calls would always be there first. Reservations are due on a beat, where calls that
// come again outnumber those that come by chance. No token is kept free for them, and
// they expire soon, because not everybody comes again.
type fairQueue struct {
	callers map[string]*caller
	turns   list.List     // of *caller with a call that waits; the first has the next turn
	waiting int           // calls
	owed    int           // reservations
	swept   time.Duration // when reservations last expired
}

// caller has calls that wait, or reservations, or both; others are not kept.
type caller struct {
	name     string
	waiting  list.List       // of *waiter
	turn     *list.Element   // its place among the turns if it has a call that waits
	reserved []time.Duration // when they are due, in order
	last     time.Duration   // the turn of the last reservation
}

// waiter is a call that waits.
type waiter struct {
	caller *caller
	place  *list.Element // nil when it has left
	ready  chan struct{} // closed when its turn has come
	full   time.Duration // when the bucket was full again after that turn
}

// of returns the caller of a name. release forgets it again.
func (f *fairQueue) of(name string) *caller {
	c := f.callers[name]
	if c == nil {
		c = &caller{name: name}
		if f.callers == nil {
			f.callers = make(map[string]*caller)
		}
		f.callers[name] = c
	}
	return c
}

func (f *fairQueue) release(c *caller) {
	if c.waiting.Len() == 0 && len(c.reserved) == 0 {
		delete(f.callers, c.name)
	}
}

// push puts a call at the end of its caller's calls, and a caller that had none at the
// end of the round.
func (f *fairQueue) push(c *caller) *waiter {
	f.waiting++
	w := &waiter{caller: c, ready: make(chan struct{})}
	w.place = c.waiting.PushBack(w)
	if c.turn == nil {
		c.turn = f.turns.PushBack(c)
	}
	return w
}

// remove takes a call out of the queue.
func (f *fairQueue) remove(w *waiter) {
	c := w.caller
	f.waiting--
	c.waiting.Remove(w.place)
	w.place = nil
	if c.waiting.Len() == 0 {
		f.turns.Remove(c.turn)
		c.turn = nil
	}
	f.release(c)
}

// pop takes out the call that has the next turn. There must be one.
func (f *fairQueue) pop() *waiter {
	c, _ := f.turns.Front().Value.(*caller)
	w, _ := c.waiting.Front().Value.(*waiter)
	f.remove(w)
	if c.turn != nil {
		f.turns.MoveToBack(c.turn)
	}
	return w
}

// ahead returns about how many of some calls are served before the next call of a
// caller: all of them, or one of each caller in each round up to its own.
func (f *fairQueue) ahead(c *caller, calls int) int {
	return min(calls, (c.waiting.Len()+1)*len(f.callers)-1)
}

// reserve notes the turn of a call that is refused, and returns when to come again.
func (f *fairQueue) reserve(c *caller, turn time.Duration) time.Duration {
	due := (turn + beat - 1).Truncate(beat)
	c.reserved, c.last = append(c.reserved, due), turn
	f.owed++
	return due + time.Millisecond + rand.N(jitter) //nolint:gosec // jitter is no secret
}

// claim uses the oldest reservation of a caller, if it is due.
func (f *fairQueue) claim(c *caller, now time.Duration) bool {
	if len(c.reserved) == 0 || now < c.reserved[0] {
		return false
	}
	c.reserved = c.reserved[1:]
	f.owed--
	return true
}

// expire drops the reservations for which nobody came.
func (f *fairQueue) expire(now time.Duration) {
	if now < f.swept+grace {
		return
	}
	f.swept = now
	for _, c := range f.callers {
		for len(c.reserved) > 0 && c.reserved[0]+grace <= now {
			c.reserved = c.reserved[1:]
			f.owed--
		}
		f.release(c)
	}
}

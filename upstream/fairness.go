package upstream

import "time"

// Limits of a line.
const (
	mostWaiting  = 10_000          // calls of one caller
	mostPromises = 1 << 16         // to one caller
	farthest     = 2 * time.Minute // ahead that a promise is kept
	grace        = 2 * time.Second // that a promise is kept when it is due
	longestBeat  = 200 * time.Millisecond
	offBeat      = 1300 * time.Microsecond // or calls in step with the beat were there first
	guestMemory  = 1.0 / 16                // weight of the last turn in the share of guests
	mostGuests   = 0.95
)

// A line holds the calls that wait for one quota. The callers take turns: each
// has one call per round, so that a caller with many calls waits for itself.
//
// Whoever is refused is promised the turn that would have been its own, and is
// told when that comes. A promise counts like a call that waits, or the next one
// would be told the same time. A call that comes when its caller has a promise
// due is let into the line; without that, new calls would always be there first.
// Not everybody comes again, so nothing is kept free for a promise, and it is
// soon forgotten.
type line struct {
	callers map[string]*caller
	turns   queue[*caller] // those with a call that waits; the first has the next turn
	waiting int            // calls
	guests  float64        // share of the turns, of late, that went to callers with a single call
	stale   time.Duration  // no promise is to be forgotten before

	here depth // of the calls that wait
	all  depth // of those and the promises
}

// A caller has calls that wait, or promises, or both; others are not kept.
type caller struct {
	name     string
	waiting  queue[*waiter]
	turn     *link[*caller]  // its place among the turns if it has a call that waits
	promises []time.Duration // when they are due, in order
	last     time.Duration   // the turn of the last of them
}

// A waiter is a call that waits.
type waiter struct {
	caller *caller
	place  *link[*waiter] // nil when it has left
	ready  chan struct{}  // closed when its turn has come
	full   time.Duration  // when the bucket was full again after that turn
}

func (c *caller) calls() int { return c.waiting.len + len(c.promises) }

// of returns the caller of a name. It is forgotten again by release.
func (l *line) of(name string) *caller {
	c := l.callers[name]
	if c == nil {
		c = &caller{name: name}
		if l.callers == nil {
			l.callers = make(map[string]*caller)
		}
		l.callers[name] = c
	}
	return c
}

func (l *line) release(c *caller) {
	if c.calls() == 0 {
		delete(l.callers, c.name)
	}
}

// push puts a call at the end of its caller's calls, and a caller that had none
// at the end of the round.
func (l *line) push(c *caller) *waiter {
	l.here.grow(c.waiting.len)
	l.all.grow(c.calls())
	l.waiting++
	w := &waiter{caller: c, ready: make(chan struct{})}
	w.place = c.waiting.push(w)
	if c.turn == nil {
		c.turn = l.turns.push(c)
	}
	return w
}

// remove takes a call out of the line.
func (l *line) remove(w *waiter) {
	c := w.caller
	l.here.shrink(c.waiting.len)
	l.all.shrink(c.calls())
	l.waiting--
	c.waiting.remove(w.place)
	w.place = nil
	if c.waiting.len == 0 {
		l.turns.remove(c.turn)
		c.turn = nil
	}
	l.release(c)
}

// pop takes out the call that has the next turn. There must be one.
func (l *line) pop() *waiter {
	c := l.turns.first.value
	w := c.waiting.first.value
	l.guests -= l.guests * guestMemory
	if c.calls() == 1 {
		l.guests += guestMemory
	}
	l.remove(w)
	if c.turn != nil {
		l.turns.remove(c.turn)
		c.turn = l.turns.push(c)
	}
	return w
}

// promise notes the turn of a call that was refused, and returns when it is due.
// That is on the next beat: the calls that were promised something then come all
// together, and those that come by themselves in the same moment, and would take
// their turns, are few. Those that come together wait for each other, so a beat
// is no longer than the patience of the call.
func (l *line) promise(c *caller, turn, patience time.Duration) (due time.Duration) {
	beat := longestBeat
	for beat > patience && beat > offBeat {
		beat /= 2
	}
	due = turn + offBeat
	if early := turn % beat; early > 0 {
		due += beat - early
	}
	if n := len(c.promises); n > 0 {
		due = max(due, c.promises[n-1])
	} else {
		l.stale = min(l.stale, due+grace)
	}
	if n := len(c.promises); n > 0 && c.promises[n-1] == due && (n == 1 || c.promises[n-2] != due) {
		// Where several come on one beat, a call that comes by itself is likely among
		// the first of them: there is one more for it.
		l.all.grow(c.calls())
		c.promises, turn = append(c.promises, due), turn+(turn-c.last)
	}
	l.all.grow(c.calls())
	c.promises, c.last = append(c.promises, due), turn
	return due
}

// claim takes the oldest promise to a caller, if it is due.
func (l *line) claim(c *caller, now time.Duration) bool {
	if len(c.promises) == 0 || now < c.promises[0] {
		return false
	}
	l.drop(c)
	return true
}

func (l *line) drop(c *caller) {
	l.all.shrink(c.calls())
	c.promises = c.promises[1:]
}

// forget drops the promises for which nobody came.
func (l *line) forget(now time.Duration) {
	if now < l.stale {
		return
	}
	l.stale = now + farthest
	for _, c := range l.callers {
		for len(c.promises) > 0 && c.promises[0]+grace <= now {
			l.drop(c)
		}
		if len(c.promises) > 0 {
			l.stale = min(l.stale, c.promises[0]+grace)
		}
		l.release(c)
	}
}

// spacing is the time between two promises to one caller: the callers with more
// than one call take turns, in what those with a single one leave. It is a guess,
// for it takes them all to go on like that.
func (l *line) spacing(interval time.Duration) time.Duration {
	rivals := 1
	if len(l.all) > 1 {
		rivals = l.all[1]
	}
	return time.Duration(float64(interval) * float64(rivals) / (1 - min(l.guests, mostGuests)))
}

// A depth has, for every i, the number of callers with more than i calls. It
// tells how many calls have their turn first without a walk over all callers.
type depth []int

// grow notes that a caller with n calls has one more.
func (d *depth) grow(n int) {
	if n == len(*d) {
		*d = append(*d, 0)
	}
	(*d)[n]++
}

// shrink notes that a caller with n calls has one less.
func (d *depth) shrink(n int) {
	(*d)[n-1]--
	if (*d)[n-1] == 0 {
		*d = (*d)[:n-1]
	}
}

// ahead returns the number of calls that are served before the next call of a
// caller with n calls: those, and as many and one of every other caller.
func (d *depth) ahead(n int) int {
	sum := 0
	for _, callers := range (*d)[:min(n+1, len(*d))] {
		sum += callers
	}
	return sum
}

// A queue is first in, first out, with removal from the middle.
type queue[T any] struct {
	first, last *link[T]
	len         int
}

type link[T any] struct {
	value          T
	before, behind *link[T]
}

func (q *queue[T]) push(value T) *link[T] {
	i := &link[T]{value: value, before: q.last}
	if q.last == nil {
		q.first = i
	} else {
		q.last.behind = i
	}
	q.last = i
	q.len++
	return i
}

func (q *queue[T]) remove(i *link[T]) {
	if i.before == nil {
		q.first = i.behind
	} else {
		i.before.behind = i.behind
	}
	if i.behind == nil {
		q.last = i.before
	} else {
		i.behind.before = i.before
	}
	q.len--
}

package faults

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// A ledger is what an upstream remembers: who came, when, and what was done.
type ledger struct {
	mu       sync.Mutex
	arrivals []arrival
	entries  map[string]entry // by intention
	done     map[string]int64 // by trace id: the message that it made
	last     int64            // message id
}

// An arrival is one request that reached the upstream.
type arrival struct {
	at        time.Time
	api       string
	intention string
}

// An entry counts what became of one intention of a caller: a message, which the
// caller knows by its text, or the reading of one conversation.
type entry struct {
	arrivals int // requests
	commits  int // times that it was executed
}

func newLedger() *ledger {
	return &ledger{entries: make(map[string]entry), done: make(map[string]int64), last: 1232001762022391809}
}

// arrive notes a request.
func (l *ledger) arrive(api string, intentions ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, intention := range intentions {
		e := l.entries[intention]
		e.arrivals++
		l.entries[intention] = e
	}
	l.arrivals = append(l.arrivals, arrival{time.Now(), api, intentions[0]})
}

// commit executes a request and returns the message's id. With once, a trace id
// that was executed before is not executed again.
func (l *ledger) commit(trace string, once bool, intentions ...string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id, ok := l.done[trace]; ok && once {
		return id
	}
	for _, intention := range intentions {
		e := l.entries[intention]
		e.commits++
		l.entries[intention] = e
	}
	l.last++
	l.done[trace] = l.last
	return l.last
}

// entry returns what became of an intention.
func (l *ledger) entry(intention string) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[intention]
}

// came returns the requests of an API within a time, in their order; of all APIs
// if none is named.
func (l *ledger) came(api string, from, to time.Time) []arrival {
	l.mu.Lock()
	defer l.mu.Unlock()
	var some []arrival
	for _, a := range l.arrivals {
		if (api == "" || a.api == api) && !a.at.Before(from) && a.at.Before(to) {
			some = append(some, a)
		}
	}
	return some
}

// forget empties the ledger.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrivals = nil
	clear(l.entries)
	clear(l.done)
}

// mostWithin returns the largest number of arrivals in any stretch of time that
// is shorter than length, wherever it begins.
func mostWithin(arrivals []arrival, length time.Duration) int {
	most, first := 0, 0
	for i, a := range arrivals {
		for a.at.Sub(arrivals[first].at) >= length {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// fullestSlot returns the largest number of times in one slot, the first of which
// begins with the earliest time.
func fullestSlot(times []time.Time, length time.Duration) int {
	if len(times) == 0 {
		return 0
	}
	first := slices.MinFunc(times, time.Time.Compare)
	slots := make(map[time.Duration]int)
	for _, at := range times {
		slots[at.Sub(first)/length]++
	}
	return slices.Max(slices.Collect(maps.Values(slots)))
}

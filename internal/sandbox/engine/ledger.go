package engine

import "time"

// MaxLedger is the number of calls that the ledger keeps.
const MaxLedger = 1024

const maxLedgerTextLength = 512

// Entry is one signed call that reached an operation.
type Entry struct {
	Time      time.Time
	Route     string    // as in Routes
	Path      string    // as sent, percent-encoded
	TraceID   string    // X-custom-traceid
	Code      int       // of the envelope; the HTTP status of an injected 502; 0 for a reset
	Committed bool      // a write that was executed by this very call
	Repeated  bool      // answered from memory because of its trace id
	Fault     FaultKind // what was injected
}

func (in *incoming[C]) entry(now time.Time, injected FaultKind) *Entry {
	return &Entry{
		Time:    now,
		Route:   in.route.String(),
		Path:    clip(in.path),
		TraceID: clip(in.trace),
		Fault:   injected,
	}
}

// clip bounds what the ledger keeps of a text that the client chose.
func clip(s string) string {
	return s[:min(len(s), maxLedgerTextLength)]
}

// ledger keeps the last calls in a ring.
type ledger struct {
	ring []Entry
	next int // where the oldest entry stands once the ring is full
}

func (l *ledger) add(e *Entry) {
	if len(l.ring) < MaxLedger {
		l.ring = append(l.ring, *e)
		return
	}
	l.ring[l.next] = *e
	l.next = (l.next + 1) % MaxLedger
}

// Ledger returns the last calls, oldest first. Calls without a valid signature
// or with an unknown path are not in it.
func (e *Engine[C]) Ledger() []Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(append([]Entry(nil), e.ledger.ring[e.ledger.next:]...), e.ledger.ring[:e.ledger.next]...)
}

// record notes a call that was not executed.
func (e *Engine[C]) record(in *incoming[C], injected FaultKind, code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	entry := in.entry(e.clock.Now(), injected)
	entry.Code = code
	e.ledger.add(entry)
}

package sandbox

import "time"

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

func newEntry(in *incoming, now time.Time, injected FaultKind) *Entry {
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
	if len(l.ring) < maxLedger {
		l.ring = append(l.ring, *e)
		return
	}
	l.ring[l.next] = *e
	l.next = (l.next + 1) % maxLedger
}

// Ledger returns the last calls, oldest first. Calls without a valid signature
// or with an unknown path are not in it.
func (s *Sandbox) Ledger() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(append([]Entry(nil), s.ledger.ring[s.ledger.next:]...), s.ledger.ring[:s.ledger.next]...)
}

// record notes a call that was not executed.
func (s *Sandbox) record(in *incoming, injected FaultKind, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := newEntry(in, s.now(), injected)
	entry.Code = code
	s.ledger.add(entry)
}

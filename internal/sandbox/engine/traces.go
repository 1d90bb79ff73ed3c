package engine

import (
	"crypto/sha256"
	"time"
)

const (
	traceWindow   = 10 * time.Minute
	maxTraces     = 4096
	maxTraceBytes = 64 << 20
)

// traceKey identifies a logical call. It is a digest, so that its size does not
// depend on the client.
type traceKey [sha256.Size]byte

// traceKey is the zero key for a call that is not de-duplicated.
func (in *incoming[C]) traceKey() traceKey {
	if in.trace == "" || !in.route.operation.write {
		return traceKey{}
	}
	return sha256.Sum256([]byte(in.route.method + " " + in.path + " " + in.trace))
}

// traceMemory holds the answers of recent successful writes. A refused write
// changed nothing and is not kept: whoever repeats it may have more luck.
type traceMemory struct {
	answers map[traceKey]trace
	order   []traceKey // oldest first
	size    int        // bytes of all answers
}

type trace struct {
	answer []byte
	at     time.Time
}

// find expects a clock that never goes back, as keep does.
func (t *traceMemory) find(key traceKey, now time.Time) ([]byte, bool) {
	t.forget(now)
	found, ok := t.answers[key]
	return found.answer, ok
}

func (t *traceMemory) keep(key traceKey, answer []byte, now time.Time) {
	if key == (traceKey{}) {
		return
	}
	if t.answers == nil {
		t.answers = map[traceKey]trace{}
	}
	t.answers[key] = trace{answer, now}
	t.order = append(t.order, key)
	t.size += len(answer)
	t.forget(now)
}

// forget drops what is too old, and the oldest of what is too much.
func (t *traceMemory) forget(now time.Time) {
	for len(t.order) > 0 {
		oldest := t.answers[t.order[0]]
		if len(t.order) <= maxTraces && t.size <= maxTraceBytes && now.Sub(oldest.at) <= traceWindow {
			return
		}
		delete(t.answers, t.order[0])
		t.order = t.order[1:]
		t.size -= len(oldest.answer)
	}
}

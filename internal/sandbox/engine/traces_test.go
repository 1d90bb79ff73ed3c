package engine

import (
	"strconv"
	"testing"
	"time"
)

func TestTraceMemoryIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	key := func(i int) traceKey {
		in := incoming[any]{route: &route[any]{operation: &Operation[any]{write: true}}, trace: strconv.Itoa(i)}
		return in.traceKey()
	}
	var many traceMemory
	for i := range maxTraces + 5 {
		many.keep(key(i), []byte("answer"), now)
	}
	_, forgotten := many.find(key(4), now)
	_, found := many.find(key(5), now)
	if forgotten || !found || len(many.answers) != maxTraces || len(many.order) != maxTraces {
		t.Errorf("%d traces kept, %d in order", len(many.answers), len(many.order))
	}
	var large traceMemory
	for i := range maxTraceBytes>>20 + 5 {
		large.keep(key(i), make([]byte, 1<<20), now)
	}
	if large.size != maxTraceBytes || len(large.answers) != maxTraceBytes>>20 {
		t.Errorf("%d bytes in %d traces", large.size, len(large.answers))
	}
	large.find(key(0), now.Add(traceWindow+1))
	if large.size != 0 || len(large.answers) != 0 || len(large.order) != 0 {
		t.Errorf("%d bytes in %d traces after the window", large.size, len(large.answers))
	}
}

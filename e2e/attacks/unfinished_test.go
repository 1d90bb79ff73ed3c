package attacks

import (
	"testing"
)

// TestUnfinishedMessages sends messages of 8 MiB, the largest that the gRPC library
// takes, all but their last byte, over one connection. The short form tells what
// the server holds of them; in the full form there are many, and what it holds must
// not grow with them.
func TestUnfinishedMessages(t *testing.T) {
	const size = 8 << 20
	server := startChild(t)
	h, err := dialH2(t.Context(), server.grpc)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	data := prefixed(0, size, make([]byte, size-1))
	sent := 0
	before, most := server.during(t, func() {
		for i := range scale(10, 100) {
			id := uint32(2*i + 1)
			if h.call(id, sendPath, false) != nil || h.send(id, data, false) != nil {
				return
			}
			sent++
		}
	})
	t.Logf("%d messages of %s less a byte: heap %s more, resident %s more", sent, mib(size), mib(most.heap-before.heap), mib(most.resident-before.resident))
	if grown := most.heap - before.heap; grown > mostGrow {
		t.Errorf("the heap grew by %s", mib(grown))
	}
	h.close()
	server.settle(t, before)
}

package attacks

import (
	"context"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// TestUnfinishedMessages sends messages of 4 MiB, all but their last byte, to calls
// of both kinds over many connections: 160 MiB in the short form, 4 GiB in the full
// one. The server's heap does not grow by more than mostHeap, those who are refused
// are told so, and an honest message of the largest size passes after it. In the full
// form, nine of ten must pass beside it, too.
func TestUnfinishedMessages(t *testing.T) {
	testmode.Beside(t)
	const size = 4 << 20
	connections, messages := scale(4, 32), scale(10, 32)
	for name, frame := range map[string]int{"large frames": 16 << 10, "small frames": 1000} {
		for _, path := range []string{sendPath, streamPath} {
			t.Run(name+", "+path, func(t *testing.T) {
				server := startChild(t)
				server.quiet = true
				conn := server.dialGRPC(t, grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(2*size)))
				largest := func(ctx context.Context) error { // refused by a rule, when all of it was read
					_, err := imv1.NewMessageServiceClient(conn).SendMessage(ctx, &imv1.SendMessageRequest{ConversationId: strings.Repeat("a", size-16)})
					return err
				}
				if err := largest(t.Context()); !isInvalid(err) {
					t.Fatalf("before the attack: %.200v", err)
				}
				var ends sync.Map
				var sent, passed int
				before, most := server.during(t, func() {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var all, others sync.WaitGroup
					others.Go(func() { sent, passed = beside(ctx, largest) })
					for range connections {
						all.Go(func() { unfinished(t.Context(), server, path, size, frame, messages, &ends) })
					}
					all.Wait()
					cancel()
					others.Wait()
				})
				t.Logf("of %d honest messages of the largest size beside it %d passed", sent, passed)
				if full() && passed < sent*9/10 {
					t.Errorf("of %d honest messages beside it only %d passed", sent, passed)
				}
				t.Logf("%d messages of %s less a byte: heap %s more, resident %s more", connections*messages, mib(size), mib(most.heap-before.heap), mib(most.resident-before.resident))
				if grown := most.heap - before.heap; grown > mostHeap {
					t.Errorf("the heap grew by %s", mib(grown))
				}
				ends.Range(func(end, _ any) bool {
					t.Logf("refused: %v", end)
					return true
				})
				if _, ok := ends.Load("grpc-status 14"); !ok {
					t.Error("nobody was told that there is too much")
				}
				if err := largest(t.Context()); !isInvalid(err) {
					t.Errorf("after the attack: %.200v", err)
				}
				server.settle(t, before)
			})
		}
	}
}

// beside makes one call after another until the context ends, and counts those that
// pass.
func beside(ctx context.Context, call func(context.Context) error) (sent, passed int) {
	for ctx.Err() == nil {
		err := call(ctx)
		if ctx.Err() != nil {
			return sent, passed
		}
		sent++
		if isInvalid(err) {
			passed++
		}
	}
	return sent, passed
}

func isInvalid(err error) bool { return status.Code(err) == codes.InvalidArgument }

// unfinished sends messages but for their last byte, and keeps them so until there
// are no more.
func unfinished(ctx context.Context, server *child, path string, size, frame, messages int, ends *sync.Map) {
	h, err := dialH2From(ctx, elsewhere, server.grpc)
	if err != nil {
		return
	}
	defer h.close()
	h.largest = frame
	data := prefixed(0, size, make([]byte, size-1))
	for i := range messages {
		id := uint32(2*i + 1)
		if h.call(id, path, false) != nil {
			return
		}
		_ = h.send(id, data, false) // it may be refused on the way
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, end := range h.ends {
		ends.Store(end, true)
	}
}

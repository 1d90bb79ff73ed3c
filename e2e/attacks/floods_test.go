package attacks

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	flooders = 4 // connections of an attacker that floods
	mostSlow = 2 // times that the slowest honest calls may take longer, in the full form
)

// A flood writes frames until the server has had enough, or the context has. It
// counts them.
type flood func(ctx context.Context, h *h2, frames *atomic.Int64)

// repeat writes something for every stream id.
func repeat(ctx context.Context, frames *atomic.Int64, write func(id uint32) error) {
	for id := uint32(1); ctx.Err() == nil && write(id) == nil; id += 2 {
		frames.Add(1)
	}
}

const getPath = "/yunxin.im.v1.ConversationService/GetConversation"

// floods are what a connection of HTTP/2 can be flooded with.
var floods = map[string]flood{
	"rapid reset": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		message := prefixed(0, 13, append([]byte{0x0a, 11}, "alice|1|bob"...))
		repeat(ctx, frames, func(id uint32) error {
			if err := h.call(id, getPath, false); err != nil {
				return err
			}
			if err := h.WriteData(id, true, message); err != nil {
				return err
			}
			return h.WriteRSTStream(id, http2.ErrCodeCancel)
		})
	},
	"rapid reset without a request": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		repeat(ctx, frames, func(id uint32) error {
			if err := h.call(id, streamPath, false); err != nil {
				return err
			}
			return h.WriteRSTStream(id, http2.ErrCodeCancel)
		})
	},
	"reset by a broken rule": func(ctx context.Context, h *h2, frames *atomic.Int64) { // so that the server resets
		repeat(ctx, frames, func(id uint32) error {
			if err := h.call(id, getPath, false); err != nil {
				return err
			}
			return h.WriteWindowUpdate(id, 0)
		})
	},
	"pings": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		repeat(ctx, frames, func(id uint32) error { return h.WritePing(false, [8]byte{byte(id)}) })
	},
	"settings": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		repeat(ctx, frames, func(id uint32) error {
			return h.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535 + id%2})
		})
	},
	"window updates": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		repeat(ctx, frames, func(uint32) error { return h.WriteWindowUpdate(0, 1) })
	},
	"priorities": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		repeat(ctx, frames, func(id uint32) error { return h.WritePriority(id, http2.PriorityParam{StreamDep: id + 2, Weight: 7}) })
	},
	"continuations": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		if h.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}}) == nil {
			repeat(ctx, frames, func(uint32) error { return h.WriteContinuation(1, false, []byte{0x86, 0x86, 0x86, 0x86}) })
		}
	},
	"empty continuations": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		if h.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}}) == nil {
			repeat(ctx, frames, func(uint32) error { return h.WriteContinuation(1, false, nil) })
		}
	},
	"headers": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		fields := make([]hpack.HeaderField, 100) // in all more than there may be
		for i := range fields {
			fields[i] = hpack.HeaderField{Name: fmt.Sprint("x-", i), Value: strings.Repeat("f", 200)}
		}
		repeat(ctx, frames, func(id uint32) error { return h.call(id, getPath, true, fields...) })
	},
	"empty data": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		if h.call(1, streamPath, false) == nil {
			repeat(ctx, frames, func(uint32) error { return h.WriteData(1, false, nil) })
		}
	},
	"unknown frames": func(ctx context.Context, h *h2, frames *atomic.Int64) {
		repeat(ctx, frames, func(id uint32) error { return h.WriteRawFrame(0xfe, 0xff, id, []byte("?")) })
	},
}

// run floods over some connections, and makes new ones when the server ends them.
func (f flood) run(ctx context.Context, addr string) (frames, connections int64) {
	var dialled atomic.Int64
	var all sync.WaitGroup
	written := new(atomic.Int64)
	for range flooders {
		all.Go(func() {
			for ctx.Err() == nil {
				h, err := dialH2From(ctx, elsewhere, addr)
				if err != nil {
					continue
				}
				dialled.Add(1)
				stop := context.AfterFunc(ctx, func() { _ = h.conn.Close() }) // the server may let a writer wait
				f(ctx, h, written)
				stop()
				h.close()
			}
		})
	}
	all.Wait()
	return written.Load(), dialled.Load()
}

// TestFloods floods the gRPC door as fast as it goes while honest calls go on at
// both doors: all of them are answered, the server's heap stays bounded, and no
// goroutine is left. The full form also floods at a pace at which the attackers
// leave the processors to the server, and judges how much slower the slowest get.
func TestFloods(t *testing.T) {
	length := scale(500*time.Millisecond, 10*time.Second)
	server := startChild(t)
	server.quiet = true
	caller := server.honest(t)
	calm := p99(caller.beside(t, length, func(context.Context) {}))
	t.Logf("calm: p99 %v", calm)
	for name := range floods {
		t.Run(name, func(t *testing.T) {
			var frames, connections int64
			var took []time.Duration
			before, most := server.during(t, func() {
				took = caller.beside(t, length, func(ctx context.Context) { frames, connections = attack(ctx, t, name, server.grpc) })
			})
			t.Logf("%d frames over %d connections beside %d honest calls: p99 %v, %.1f times the calm; heap %s more, goroutines %d and at most %d",
				frames, connections, len(took), p99(took), float64(p99(took))/float64(calm), mib(most.heap-before.heap), before.goroutines, most.goroutines)
			judge(t, calm, took)
			if grown := most.heap - before.heap; grown > mostHeap {
				t.Errorf("the heap grew by %s", mib(grown))
			}
			server.settle(t, before)
		})
	}
}

// judge compares honest calls with those of calmer times.
func judge(tb testing.TB, calm time.Duration, took []time.Duration) {
	tb.Helper()
	const least = 20 * time.Millisecond // below which nobody complains
	if full() && p99(took) > mostSlow*max(calm, least) {
		tb.Errorf("p99 is %v, in calm times %v", p99(took), calm)
	}
}

package attacks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// refused reports whether a stream ended in anything but success.
func refused(end string) bool { return end != "" && end != "grpc-status 0" }

// valid is a request that the upstream would get.
var valid = append([]byte{0x0a, 11}, "alice|1|bob"...)

// alone makes a call on a connection of its own and returns how it ended.
func alone(ctx context.Context, addr string, open func(h *h2) error) (string, error) {
	h, err := dialH2(ctx, addr)
	if err != nil {
		return "", err
	}
	defer h.close()
	if err := open(h); err != nil {
		return "closed while writing", nil // which is how it is refused
	}
	return h.wait(1), nil
}

// TestUnknownMethods calls what there is not. It is refused, the upstream gets
// nothing, and no name that a caller makes up becomes the value of a label.
func TestUnknownMethods(t *testing.T) {
	server := startChild(t)
	for _, path := range []string{
		"/", "//", "", "*", "x", "/nosuch", "/nosuch/Method", "/nosuch.v1.Service/Method", "/yunxin.im.v1.MessageService", "/yunxin.im.v1.MessageService/",
		"/yunxin.im.v1.MessageService/nosuch", "/yunxin.im.v1.MessageService/sendmessage", "/yunxin.im.v1.MessageService//SendMessage",
		"yunxin.im.v1.MessageService/SendMessage", "/yunxin.im.v1.MessageService/SendMessage/", "/yunxin.im.v1.MessageService/SendMessage?x", "/./yunxin.im.v1.MessageService/SendMessage",
		"/yunxin.im.v1.MessageService%2FSendMessage", "/nosuch\xff/\xfe", "/nosuch/" + strings.Repeat("a", 8000), "/nosuch\"} 1\n/x", "/grpc.nosuch/Method", "/grpc.health.v1.Health/nosuch",
		sendTarget, "http://facade" + sendPath,
	} {
		end, err := alone(t.Context(), server.grpc, func(h *h2) error {
			if err := h.call(1, path, false); err != nil {
				return err
			}
			return h.WriteData(1, true, prefixed(0, len(valid), valid))
		})
		if err != nil || !refused(end) {
			t.Errorf("%.60q: %q, %v", path, end, err)
		}
	}
	if sent := server.take(); len(sent) != 0 {
		t.Errorf("the upstream got %d requests", len(sent))
	}
	response, err := server.client.Get("http://" + server.admin + "/metrics") //nolint:noctx // the client has a time limit
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || bytes.Contains(text, []byte("nosuch")) {
		t.Errorf("HTTP %d, %v, names of callers: %v", response.StatusCode, err, bytes.Contains(text, []byte("nosuch")))
	}
}

// TestMetadata sends more metadata than there may be, in all forms. It is refused
// before the call, and the server keeps none of it.
func TestMetadata(t *testing.T) {
	server := startChild(t)
	field := func(name, value string) hpack.HeaderField { return hpack.HeaderField{Name: name, Value: value} }
	distinct := make([]hpack.HeaderField, 100_000)
	for i := range distinct {
		distinct[i] = hpack.HeaderField{Name: fmt.Sprint("x-", i), Value: "v", Sensitive: true} // not indexed
	}
	for name, fields := range map[string][]hpack.HeaderField{
		"one value of 17 KiB":         {field("x-a", strings.Repeat("a", 17<<10))},
		"one value of 1 MiB":          {field("x-a", strings.Repeat("a", 1<<20))},
		"one name of 17 KiB":          {field("x-"+strings.Repeat("a", 17<<10), "")},
		"100,000 distinct":            distinct,
		"100,000 of one byte each":    slices.Repeat([]hpack.HeaderField{field("x-a", strings.Repeat("a", 2000))}, 100_000), // indexed: a bomb
		"100,000 times the same path": slices.Repeat([]hpack.HeaderField{field("te", "trailers")}, 100_000),
	} {
		ends := map[string]int{}
		before, most := server.during(t, func() {
			var mu sync.Mutex
			var all sync.WaitGroup
			for range scale(4, crowd) {
				all.Go(func() {
					end, err := alone(t.Context(), server.grpc, func(h *h2) error {
						if err := h.call(1, getPath, false, fields...); err != nil {
							return err
						}
						return h.WriteData(1, true, prefixed(0, len(valid), valid))
					})
					mu.Lock()
					defer mu.Unlock()
					kind, _, _ := strings.Cut(end, "127.0.0.1")
					ends[kind]++
					if err != nil || !refused(end) {
						t.Errorf("%s: %q, %v", name, end, err)
					}
				})
			}
			all.Wait()
		})
		t.Logf("%s: heap %s more; %v", name, mib(most.heap-before.heap), ends)
		if grown := most.heap - before.heap; grown > mostHeap {
			t.Errorf("%s: the heap grew by %s", name, mib(grown))
		}
	}
	if sent := server.take(); len(sent) != 0 {
		t.Errorf("the upstream got %d requests", len(sent))
	}
}

// TestLyingMessages sends messages that are not what their prefix says, too large,
// or more than one where there is one. Each ends in an error and reaches no
// upstream.
func TestLyingMessages(t *testing.T) {
	server := startChild(t)
	const limit = 4 << 20
	message := prefixed(0, len(valid), valid)
	large := func(n int) []byte { return prefixed(0, n, append([]byte{0x0a}, make([]byte, n-1)...)) }
	for name, data := range map[string][]byte{
		"twice the limit":              large(2 * limit),
		"above twice the limit":        large(2*limit + 1),
		"ten times the limit":          large(10 * limit),
		"a prefix only":                prefixed(0, 13, nil),
		"half a prefix":                {0, 0},
		"nothing":                      {},
		"less than said":               prefixed(0, 100, valid),
		"less than 4 GiB":              prefixed(0, 1<<32-1, valid),
		"more than said":               prefixed(0, 5, valid),
		"two messages":                 append(slices.Clone(message), message...),
		"a message and half a prefix":  append(slices.Clone(message), 0, 0),
		"compressed, without encoding": prefixed(1, len(valid), valid),
		"a flag there is not":          prefixed(7, len(valid), valid),
		"no protobuf":                  prefixed(0, 4, []byte{0xff, 0xff, 0xff, 0xff}),
	} {
		for _, path := range []string{getPath, sendPath} {
			end, err := alone(t.Context(), server.grpc, func(h *h2) error {
				if err := h.call(1, path, len(data) == 0); err != nil {
					return err
				}
				_ = h.send(1, data, true) // it may be refused on the way
				return nil
			})
			t.Logf("%s: %s", name, end)
			if sent := server.take(); err != nil || !refused(end) || len(sent) != 0 {
				t.Errorf("%s to %s: %q, %v, %d requests", name, path, end, err, len(sent))
			}
		}
	}
}

// endlessCalls are calls that their caller never completes.
var endlessCalls = map[string]struct {
	path string
	data []byte // sent before the silence
}{
	"a stream that sends nothing":      {streamPath, nil},
	"a stream that stops in a prefix":  {streamPath, []byte{0, 0}},
	"a stream that stops in a message": {streamPath, prefixed(0, 1000, valid)},
	"a call that sends nothing":        {sendPath, nil},
	"a call that stops in a message":   {sendPath, prefixed(0, 1000, valid)},
	"a call that announces 8 MiB":      {sendPath, prefixed(0, 8<<20, valid)},
	"a call that is not ended":         {sendPath, prefixed(0, len(valid), valid)},
	"a method that there is not":       {"/no/such", nil},
	"health, watched":                  {"/grpc.health.v1.Health/Watch", nil},
	"reflection, silent":               {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", nil},
}

// TestEndlessCalls opens calls that are never completed, on a server whose calls
// may last two seconds. Beside them honest calls are answered, the heap stays
// bounded, and nothing is left when the callers have gone. In the full form, a call
// of the API must also end by itself when its time is over: health and reflection
// may last.
func TestEndlessCalls(t *testing.T) {
	testmode.Beside(t)
	streams := scale(200, 2000)
	server := startChild(t, "--max-stream-time=2s", "--max-timeout=2s", "--default-timeout=1s", "--max-in-flight=100000")
	server.quiet = true
	caller := server.honest(t)
	for name, c := range endlessCalls {
		t.Run(name, func(t *testing.T) {
			h, err := dialH2(t.Context(), server.grpc)
			if err != nil {
				t.Fatal(err)
			}
			defer h.close()
			var ended int
			before, most := server.during(t, func() {
				caller.beside(t, scale(500*time.Millisecond, 8*time.Second), func(ctx context.Context) {
					for i := range streams {
						id := uint32(2*i + 1)
						if h.call(id, c.path, false) != nil || h.WriteData(id, false, c.data) != nil {
							t.Error("the connection ended")
							return
						}
					}
					<-ctx.Done()
				})
				h.mu.Lock()
				defer h.mu.Unlock()
				ended = len(h.ends)
			})
			t.Logf("%d of %d calls were ended by the server; heap %s more, goroutines %d and at most %d",
				ended, streams, mib(most.heap-before.heap), before.goroutines, most.goroutines)
			if grown := most.heap - before.heap; grown > mostHeap {
				t.Errorf("the heap grew by %s", mib(grown))
			}
			if full() && ended < streams && !strings.HasPrefix(c.path, "/grpc.") {
				t.Errorf("only %d of %d calls were ended, when their time was over long ago", ended, streams)
			}
			h.close()
			server.settle(t, before)
		})
	}
}

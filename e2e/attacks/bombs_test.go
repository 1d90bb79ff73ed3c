package attacks

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2/hpack"
)

const mostHeap = 64 << 20 // bytes that an attack may take, in all

var (
	crowd = scale(8, 20)         // attackers at a time
	huge  = scale(32, 256) << 20 // bytes, generated on the fly
)

// A bomb is one attack by one attacker. It returns how it was refused.
type bomb func(ctx context.Context, c *child) (string, error)

const (
	sendPath    = "/yunxin.im.v1.MessageService/SendMessage"
	sendTarget  = "/v1/conversations/alice%7C1%7Cbob/messages"
	streamPath  = "/yunxin.im.v1.MessageService/SendStreamMessage"
	streamOfOne = "/v1/conversations:sendStreamMessage"
)

// post sends a body over REST that is as long as it likes, and reads the answer
// while it does.
func post(target, head string, body func(w io.Writer) error) bomb {
	return ask("POST", "POST "+target+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+head+"\r\n", body)
}

func ask(verb, head string, body func(w io.Writer) error) bomb {
	return func(ctx context.Context, c *child) (string, error) {
		w, err := dialWire(ctx, c.rest)
		if err != nil {
			return "", err
		}
		written := make(chan error, 1)
		go func() {
			_, err := io.WriteString(w, head)
			if err == nil && body != nil {
				err = body(w)
			}
			written <- err
		}()
		a, err := w.read(verb)
		_ = w.Close()
		failed := <-written
		if err != nil && (errors.Is(err, syscall.ECONNRESET) || errors.Is(failed, syscall.ECONNRESET) || errors.Is(failed, syscall.EPIPE)) {
			return "closed while writing", nil // an answer is lost if more was on the way
		}
		if err != nil {
			return "", fmt.Errorf("%w, writing: %w", err, failed)
		}
		// 503 is how a server refuses what it has no room for at the moment.
		if a.status >= 400 && a.status < 500 || a.status == http.StatusServiceUnavailable {
			return fmt.Sprintf("HTTP %d", a.status), nil
		}
		return "", fmt.Errorf("HTTP %d: %.200s", a.status, a.body)
	}
}

// endless writes a beginning and then the same again and again.
func endless(begin, more string, length int, chunked bool) func(io.Writer) error {
	block := []byte(strings.Repeat(more, 64<<10/len(more)))
	return func(w io.Writer) error {
		write := func(p []byte) error {
			if chunked {
				p = fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p)
			}
			_, err := w.Write(p)
			return err
		}
		err := write([]byte(begin))
		for sent := len(begin); err == nil && sent < length; sent += len(block) {
			err = write(block)
		}
		return err
	}
}

// whole writes a body that is there already.
func whole(body []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	}
}

func withLength(n int, more string) string { return fmt.Sprintf("Content-Length: %d\r\n%s", n, more) }

// rpcBomb sends one message over gRPC, whatever its prefix says.
func rpcBomb(path string, flag byte, length int, begin []byte, more string, fields ...hpack.HeaderField) bomb {
	return func(ctx context.Context, c *child) (string, error) {
		h, err := dialH2(ctx, c.grpc)
		if err != nil {
			return "", err
		}
		defer h.close()
		if err := h.call(1, path, false, fields...); err != nil {
			return "closed while writing", nil // which is how it is refused
		}
		err = h.send(1, append(prefixed(flag, length, nil), begin...), false)
		block := []byte(more)
		for sent := len(begin); err == nil && sent < length; sent += len(block) {
			err = h.send(1, block[:min(len(block), length-sent)], sent+len(block) >= length)
		}
		if end := h.wait(1); end != "grpc-status 0" {
			return end, nil
		}
		return "", errors.New("accepted")
	}
}

// squeezed is a lot of zeros, compressed.
func squeezed(tb testing.TB, gzipped bool) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if !gzipped {
		w, _ = flate.NewWriter(&b, flate.BestCompression)
	}
	block := bytes.Repeat([]byte{'0'}, 1<<20)
	for range scale(32, 256) {
		if _, err := w.Write(block); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// groups is a message of protobuf with a field in a field in a field.
func groups(levels int) []byte {
	return append(bytes.Repeat([]byte{0xc3, 0x3e}, levels), bytes.Repeat([]byte{0xc4, 0x3e}, levels)...) // field 1000
}

// TestBombs throws requests at both doors that are large, or become so, by a crowd
// at a time. They are refused before they are decoded: the upstream gets nothing,
// and the server's heap does not grow by more than mostHeap.
func TestBombs(t *testing.T) {
	const begin = `{"message":{"content":{"text":"`
	zipped, deflated := squeezed(t, true), squeezed(t, false)
	lists, objects := strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000)
	token := strings.Repeat(".", 1<<20)
	zeros := strings.Repeat("\x00", 64<<10)
	for _, c := range []struct {
		name string
		bomb bomb
	}{
		{"REST, a huge body with a length", post(sendTarget, withLength(huge, ""), endless(begin, "a", huge, false))},
		{"REST, a huge body in chunks", post(sendTarget, "Transfer-Encoding: chunked\r\n", endless(begin, "a", huge, true))},
		{"REST, a huge body of spaces in chunks", post(sendTarget, "Transfer-Encoding: chunked\r\n", endless(" ", " ", huge, true))},
		{"REST, a huge body of members in chunks", post(sendTarget, "Transfer-Encoding: chunked\r\n", endless(`{"a":1`, `,"a":1`, huge, true))},
		{"REST, a huge body in one line of a stream", post(streamOfOne, "Transfer-Encoding: chunked\r\n", endless(`{"text":"`, "a", huge, true))},
		{"REST, 100,000 lists", post(sendTarget, withLength(len(lists), ""), whole([]byte(lists)))},
		{"REST, 100,000 objects", post(sendTarget, withLength(len(objects), ""), whole([]byte(objects)))},
		{"REST, a million parameters", ask("GET", "GET /v1/conversations?", endless("account_id=a", "&a=b", 4<<20, false))},
		{"REST, a million parameters that exist", ask("GET", "GET /v1/conversations?", endless("account_id=a", "&page_size=1", 12<<20, false))},
		{"REST, a gzip bomb", post(sendTarget, withLength(len(zipped), "Content-Encoding: gzip\r\n"), whole(zipped))},
		{"REST, a deflate bomb", post(sendTarget, withLength(len(deflated), "Content-Encoding: deflate\r\n"), whole(deflated))},
		{"REST, a token of 1 MiB", post(sendTarget, "Authorization: Bearer "+token+"\r\nContent-Length: 0\r\n", nil)},
		{"gRPC, a huge message", rpcBomb(sendPath, 0, huge, nil, zeros)},
		{"gRPC, a huge message to a stream", rpcBomb(streamPath, 0, huge, nil, zeros)},
		{"gRPC, 100,000 groups", rpcBomb(sendPath, 0, 400_000, groups(100_000), "")},
		{"gRPC, a gzip bomb", rpcBomb(sendPath, 1, len(zipped), zipped, "", hpack.HeaderField{Name: "grpc-encoding", Value: "gzip"})},
		{"gRPC, a gzip bomb to a stream", rpcBomb(streamPath, 1, len(zipped), zipped, "", hpack.HeaderField{Name: "grpc-encoding", Value: "gzip"})},
		{"gRPC, a deflate bomb", rpcBomb(sendPath, 1, len(deflated), deflated, "", hpack.HeaderField{Name: "grpc-encoding", Value: "deflate"})},
		{"gRPC, a token of 1 MiB", rpcBomb(sendPath, 0, 0, nil, "", hpack.HeaderField{Name: "authorization", Value: "Bearer " + token, Sensitive: true})},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := startChild(t) // a fresh heap
			before, most := server.during(t, func() { explode(t, server, c.bomb) })
			t.Logf("heap %s and %s more, resident %s and %s more", mib(before.heap), mib(most.heap-before.heap), mib(before.resident), mib(most.resident-before.resident))
			if grown := most.heap - before.heap; grown > mostHeap {
				t.Errorf("the heap grew by %s, at most %s is allowed", mib(grown), mib(mostHeap))
			}
			if sent := server.take(); len(sent) != 0 {
				t.Errorf("the upstream got %d requests", len(sent))
			}
			server.settle(t, before)
		})
	}
}

// explode lets a crowd throw a bomb at once.
func explode(t *testing.T, server *child, bomb bomb) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	refusals := map[string]int{}
	for range crowd {
		all.Go(func() {
			refusal, err := bomb(t.Context(), server)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("not refused: %v", err)
				return
			}
			refusals[refusal]++
		})
	}
	all.Wait()
	for _, refusal := range slices.Sorted(maps.Keys(refusals)) {
		t.Logf("%d times: %.100s", refusals[refusal], refusal)
	}
}

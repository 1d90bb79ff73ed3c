package attacks

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// The attackers of these tests come from an address of their own, as others do.
var elsewhere = &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}, Timeout: time.Second}

// A trickle is a connection on which something goes on for ever, byte by byte.
type trickle struct {
	door  string // grpc or rest
	begin string // sent at once
	more  string // sent again and again, a byte at a time
}

// slow are the ways to keep a server waiting.
var slow = map[string]trickle{
	"REST, headers":   {"rest", "GET /v1/conversations/alice%7C1%7Cbob HTTP/1.1\r\nHost: localhost\r\nX-A: ", "a"},
	"REST, body":      {"rest", "POST " + sendTarget + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{", " "},
	"REST, chunks":    {"rest", "POST " + sendTarget + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"},
	"REST, a stream":  {"rest", "POST " + streamOfOne + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"},
	"REST, line ends": {"rest", "", "\r\n"},
	"gRPC, preface":   {"grpc", "PRI * HTTP/2.0", ""},
	"gRPC, settings":  {"grpc", http2.ClientPreface + "\x00\x40\x00\x04\x00\x00\x00\x00\x00", "\x00"},
	"gRPC, headers":   {"grpc", http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x40\x00\x01\x04\x00\x00\x00\x01", "\x83"},
}

// run keeps a number of connections busy until the context ends.
func (s trickle) run(ctx context.Context, addr string, connections int) {
	var all sync.WaitGroup
	defer all.Wait()
	for range connections {
		all.Go(func() {
			conn, err := elsewhere.DialContext(ctx, "tcp", addr)
			if err != nil {
				return
			}
			defer conn.Close() //nolint:errcheck // an attacker does not care
			if _, err := io.WriteString(conn, s.begin); err != nil {
				return
			}
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if s.more == "" {
					continue
				}
				if _, err := conn.Write([]byte{s.more[i%len(s.more)]}); err != nil {
					return
				}
			}
		})
	}
}

// TestSlow keeps hundreds of connections waiting at each door in every way at
// once, while honest calls go on at both doors: all of them are answered, and no
// goroutine is left when the attackers have gone.
func TestSlow(t *testing.T) {
	testmode.Beside(t)
	length, connections := scale(3*time.Second, 60*time.Second), scale(50, 200)
	server := startChild(t)
	server.quiet = true
	caller := server.honest(t)
	calm := p99(caller.beside(t, length/3, func(context.Context) {}))
	var took []time.Duration
	before, most := server.during(t, func() {
		took = caller.beside(t, length, func(ctx context.Context) {
			var all sync.WaitGroup
			for _, s := range slow {
				addr := map[string]string{"grpc": server.grpc, "rest": server.rest}[s.door]
				all.Go(func() { s.run(ctx, addr, connections) })
			}
			all.Wait()
		})
	})
	t.Logf("%d slow connections beside %d honest calls: p99 %v, %.1f times the calm; heap %s more, goroutines %d and at most %d",
		connections*len(slow), len(took), p99(took), float64(p99(took))/float64(calm), mib(most.heap-before.heap), before.goroutines, most.goroutines)
	judge(t, calm, took)
	server.settle(t, before)
}

// crowdIn opens connections to an address and leaves them idle, as many as there
// can be. The server takes each for a client that may call again.
func crowdIn(ctx context.Context, addr, begin string, wanted int) (conns []net.Conn) {
	var mu sync.Mutex
	var all sync.WaitGroup
	const perSecond = 2000 // it is their number that is the attack
	turns := make(chan struct{}, wanted)
	go func() {
		defer close(turns)
		tick := time.NewTicker(time.Second / perSecond)
		defer tick.Stop()
		for range wanted {
			<-tick.C
			turns <- struct{}{}
		}
	}()
	for range 32 {
		all.Go(func() {
			for range turns {
				conn, err := elsewhere.DialContext(ctx, "tcp", addr)
				if errors.Is(err, syscall.EMFILE) {
					return
				}
				if err != nil {
					continue // the queue of the listener is full
				}
				_, _ = io.WriteString(conn, begin)
				mu.Lock()
				conns = append(conns, conn)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return conns
}

// TestIdle leaves thousands of connections idle, more than a door takes, beside
// honest calls: those that have their connections are all answered. Whoever comes
// anew is told of, and judged in the full form.
func TestIdle(t *testing.T) {
	testmode.Beside(t)
	const perDoor = 5000
	wanted := scale(2500, perDoor)
	server := startChild(t)
	server.quiet = true
	caller := server.honest(t)
	length := scale(2*time.Second, 10*time.Second)
	calm := p99(caller.beside(t, length/2, func(context.Context) {}))
	before, err := server.usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	took := caller.beside(t, length, func(ctx context.Context) {
		ctx = context.WithoutCancel(ctx) // until all are there, however long the machine takes
		conns = crowdIn(ctx, server.rest, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", wanted)
		conns = append(conns, crowdIn(ctx, server.grpc, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00", wanted)...)
	})
	now, err := server.usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d idle connections beside %d honest calls: p99 %v, %.1f times the calm; heap %s more, goroutines %d and %d",
		len(conns), len(took), p99(took), float64(p99(took))/float64(calm), mib(now.heap-before.heap), before.goroutines, now.goroutines)
	judge(t, calm, took)
	served, tried := newcomers(t.Context(), server)
	t.Logf("of %d callers who came anew, %d were answered within two seconds", tried, served)
	if full() && served < tried {
		t.Errorf("idle connections from one address keep callers from another out")
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	server.settle(t, before)
}

// newcomers calls over connections that are made for it.
func newcomers(ctx context.Context, server *child) (served, tried int) {
	var ok atomic.Int64
	var all sync.WaitGroup
	for range 5 {
		for _, door := range []string{"rest", "grpc"} {
			tried++
			all.Go(func() {
				if comes(ctx, server, door) == nil {
					ok.Add(1)
				}
			})
		}
	}
	all.Wait()
	return int(ok.Load()), tried
}

func comes(ctx context.Context, server *child, door string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if door == "rest" {
		transport := &http.Transport{DisableKeepAlives: true}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.rest+"/v1/conversations/alice%7C1%7Cbob", http.NoBody)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", server.grpc)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // answered or not
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.Copy(conn, strings.NewReader(http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 9)) // the settings of the server
	return err
}

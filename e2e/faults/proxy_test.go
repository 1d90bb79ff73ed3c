package faults

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A mode is a way in which a proxy treats what passes through it.
type mode int

const (
	pass        mode = iota // to both sides, after a latency
	swallow                 // accept, and take everything, and pass nothing on
	deaf                    // swallow, and accept no connection: those who dial hear nothing
	resetBefore             // reset at the first byte of a request, which nobody gets
	resetAfter              // pass the request on, and reset at the first byte of the answer
	halfClose               // pass the request on, and end the answer before it begins
	badGateway              // answer HTTP 502 instead of passing a request on
	trickle                 // pass n bytes of an answer on at a time
	endless                 // answer with a body that has no end, n bytes at a time
	cut                     // reset after n bytes of what comes back, in the middle of anything
	modes                   // how many there are
)

func (m mode) String() string {
	return [...]string{
		"pass", "swallow", "deaf", "reset before", "reset after", "half-close",
		"bad gateway", "trickle", "endless", "cut",
	}[m]
}

// A fault is a mode with its numbers.
type fault struct {
	mode            mode
	n               int           // bytes, of trickle, endless and cut
	every           time.Duration // between n bytes, of trickle and endless
	latency, jitter time.Duration // before what comes back is passed on
}

// A proxy stands between the facade and an upstream, and breaks connections.
type proxy struct {
	target   string
	listener *net.TCPListener
	fault    atomic.Pointer[fault]
	ended    context.Context //nolint:containedctx // of the proxy, not of a call
	done     sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]struct{}
	hearing chan struct{} // closed while connections are accepted
	stuffed []net.Conn    // in the listener's queue, so that there is no room
}

// A link is one connection through the proxy.
type link struct {
	*proxy
	client   *net.TCPConn
	upstream atomic.Pointer[net.TCPConn] // nil until something is passed on
	lossy    atomic.Bool                 // bytes were swallowed
	down     atomic.Pointer[fault]       // the fault that back is a count of
	back     int                         // bytes passed back under it
}

// startProxy starts a proxy before the given address, which passes.
func startProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	ctx, end := context.WithCancel(context.Background())
	p := &proxy{target: target, ended: ctx, links: make(map[*link]struct{}), hearing: make(chan struct{})}
	p.listener, _ = listen(tb).(*net.TCPListener)
	p.fault.Store(&fault{})
	close(p.hearing)
	p.done.Go(p.accept)
	tb.Cleanup(func() {
		end()
		p.set(tb, fault{})
		_ = p.listener.Close()
		p.reset(func(*link) bool { return true })
		p.done.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// set changes the fault, for connections that exist as well. Those that lost bytes
// are reset when the proxy passes again: no end can make sense of them.
func (p *proxy) set(tb testing.TB, f fault) {
	tb.Helper()
	p.fault.Store(&f)
	if err := p.hear(f.mode != deaf); err != nil {
		tb.Errorf("the proxy cannot be made deaf, or hear: %v", err)
	}
	if f.mode != swallow && f.mode != deaf {
		p.reset(func(l *link) bool { return l.lossy.Load() })
	}
}

func (p *proxy) reset(which func(*link) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if which(l) {
			l.close()
		}
	}
}

// hear accepts connections, or leaves those who dial without any answer: with a
// listener's queue that is full, the kernel drops their packets.
func (p *proxy) hear(hear bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.hearing:
		if hear {
			return nil
		}
	default:
		if !hear {
			return nil
		}
		for _, c := range p.stuffed {
			_ = c.Close()
		}
		p.stuffed = nil
		close(p.hearing)
		return errors.Join(p.queue(syscall.SOMAXCONN), p.listener.SetDeadline(time.Time{}))
	}
	p.hearing = make(chan struct{})
	if err := errors.Join(p.listener.SetDeadline(time.Now()), p.queue(0)); err != nil {
		return err
	}
	for range 16 {
		c, err := (&net.Dialer{Timeout: 50 * time.Millisecond}).DialContext(context.Background(), "tcp", p.address())
		if err != nil {
			return nil // the queue is full, as it should be
		}
		p.stuffed = append(p.stuffed, c)
	}
	return errors.New("the queue does not fill up")
}

// queue sets how many connections may wait to be accepted.
func (p *proxy) queue(length int) error {
	raw, err := p.listener.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), length) })
	return errors.Join(err, failed)
}

func (p *proxy) accept() {
	for {
		p.mu.Lock()
		hearing := p.hearing
		p.mu.Unlock()
		select {
		case <-hearing:
		case <-p.ended.Done():
			return
		}
		conn, err := p.listener.AcceptTCP()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return
		}
		l := &link{proxy: p, client: conn}
		p.mu.Lock()
		p.links[l] = struct{}{}
		p.mu.Unlock()
		p.done.Go(l.run)
	}
}

// run carries what the facade sends, until it closes the connection.
func (l *link) run() {
	defer func() {
		l.mu.Lock()
		delete(l.links, l)
		l.mu.Unlock()
		l.close()
	}()
	if l.ended.Err() != nil {
		return
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := l.client.Read(buffer)
		if n > 0 && !l.forward(buffer[:n]) {
			return
		}
		if err != nil {
			return
		}
	}
}

// forward treats a piece of a request, and reports whether the connection goes on.
func (l *link) forward(piece []byte) bool {
	f := l.fault.Load()
	switch f.mode {
	case swallow, deaf:
		l.lossy.Store(true)
		return true
	case resetBefore:
		return false
	case badGateway:
		_, _ = io.WriteString(l.client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = l.client.CloseWrite()
		_, _ = io.Copy(io.Discard, l.client) // a reset might overtake the answer
		return false
	case endless:
		l.answerEndlessly(f)
		return false
	default: // what goes wrong goes wrong on the way back
	}
	upstream := l.upstream.Load()
	if upstream == nil {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(l.ended, "tcp", l.target)
		if err != nil {
			return false
		}
		upstream, _ = conn.(*net.TCPConn)
		l.upstream.Store(upstream)
		l.done.Go(func() { l.backward(upstream) })
	}
	_, err := upstream.Write(piece)
	return err == nil
}

func (l *link) answerEndlessly(f *fault) {
	_, err := io.WriteString(l.client, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"code\":200,\"data\":\"")
	filler := make([]byte, f.n)
	for i := range filler {
		filler[i] = 'x'
	}
	for err == nil && (f.every == 0 || pause(l.ended, f.every)) {
		_, err = l.client.Write(filler)
	}
}

// backward carries what the upstream sends.
func (l *link) backward(upstream *net.TCPConn) {
	defer l.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := upstream.Read(buffer)
		if n > 0 && !l.passBack(buffer[:n]) {
			return
		}
		if err != nil {
			return
		}
	}
}

// passBack treats a piece of an answer, and reports whether the connection goes on.
func (l *link) passBack(piece []byte) bool {
	f := l.fault.Load()
	if l.down.Swap(f) != f {
		l.back = 0
	}
	switch f.mode {
	case swallow, deaf:
		l.lossy.Store(true)
		return true
	case resetAfter:
		return false
	case halfClose:
		_ = l.client.CloseWrite()
		l.lossy.Store(true)
		return true
	case cut:
		part := piece[:min(len(piece), max(0, f.n-l.back))]
		l.back += len(part)
		_, err := l.client.Write(part)
		return err == nil && l.back < f.n
	case trickle:
		for len(piece) > f.n && l.fault.Load() == f {
			if _, err := l.client.Write(piece[:f.n]); err != nil || !pause(l.ended, f.every) {
				return false
			}
			piece = piece[f.n:]
		}
	default: // what goes wrong went wrong on the way there
	}
	wait := f.latency
	if f.jitter > 0 {
		wait += rand.N(f.jitter)
	}
	if wait > 0 && !pause(l.ended, wait) {
		return false
	}
	_, err := l.client.Write(piece)
	return err == nil
}

// close ends both sides with a reset, if they have not ended.
func (l *link) close() {
	_ = l.client.SetLinger(0)
	_ = l.client.Close()
	if upstream := l.upstream.Load(); upstream != nil {
		_ = upstream.Close()
	}
}

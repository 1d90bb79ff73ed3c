package server

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
)

// perSource is a listener that takes a part of its connections from one address
// at most, or one caller with idle ones could keep all others out. Further ones
// are closed at once.
type perSource struct {
	net.Listener

	most int

	mu      sync.Mutex
	sources map[string]*source
}

// source is an address that connections come from.
type source struct {
	open int          // connections
	held atomic.Int64 // bytes, by messages of gRPC that have not arrived in full

	mu     sync.Mutex
	frames pace // that carry nothing
	resets pace // in haste
}

// What one address may send before its connections are slowed down, and then. Who
// means well sends two frames for a call that are not data, and resets none.
const (
	framesPerSecond, framesAtOnce = 50_000, 50_000
	resetsPerSecond, resetsAtOnce = 100, 500
)

// pause tells for how long a connection is not read from after it has sent some
// frames. Each pays for its own, and the others of its address only if they do it
// too.
func (s *source) pause(now time.Time, frames, resets int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(
		s.frames.take(now, frames, time.Second/framesPerSecond, framesAtOnce),
		s.resets.take(now, resets, time.Second/resetsPerSecond, resetsAtOnce))
}

func (s *source) calm(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frames.paid.Before(now) && s.resets.paid.Before(now)
}

// pace is a rate with a burst.
type pace struct {
	paid time.Time // until when all that came is paid for
}

func (p *pace) take(now time.Time, n int, each time.Duration, atOnce int) time.Duration {
	if n == 0 {
		return 0
	}
	if p.paid.Before(now) {
		p.paid = now
	}
	p.paid = p.paid.Add(time.Duration(n) * each)
	return p.paid.Sub(now) - time.Duration(atOnce)*each
}

func newPerSource(l net.Listener, most int) *perSource {
	return &perSource{Listener: l, most: most, sources: map[string]*source{}}
}

// Accept implements net.Listener.
func (l *perSource) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from := l.enter(sourceOf(conn.RemoteAddr().String())); from != nil {
			return &sourced{Conn: conn, source: from, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = conn.Close()
	}
}

// sourceOf is what an address is counted by. Of IPv6 that is its network: whoever has
// one address has the other 2^64 as well.
func sourceOf(addr string) string {
	known, err := netip.ParseAddrPort(addr)
	if err != nil {
		return callinfo.Host(addr)
	}
	ip := known.Addr().Unmap().WithZone("")
	if ip.Is4() || ip.IsLoopback() {
		return ip.String()
	}
	const network = 64
	prefix, _ := ip.Prefix(network) // fails for no length of IPv6
	return prefix.String()
}

// enter counts a connection, unless there are too many.
func (l *perSource) enter(address string) *source {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.sources[address]
	if from == nil {
		l.forget()
		from = new(source)
		l.sources[address] = from
	}
	if from.open >= l.most {
		return nil
	}
	from.open++
	return from
}

// forget drops addresses that have no connection, and owe nothing: one that comes
// back at once has not paid by going.
func (l *perSource) forget() {
	now := time.Now()
	for address, known := range l.sources {
		if known.open == 0 && known.calm(now) {
			delete(l.sources, address)
		}
	}
}

func (l *perSource) leave(from *source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from.open--
}

// sourced is a connection that counts.
type sourced struct {
	net.Conn

	source *source
	leave  func()
}

// Close implements net.Conn.
func (c *sourced) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

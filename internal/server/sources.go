package server

import (
	"net"
	"sync"
)

// perSource is a listener that takes a part of its connections from one address
// at most, or one caller with idle ones could keep all others out. Further ones
// are closed at once.
type perSource struct {
	net.Listener

	most int

	mu   sync.Mutex
	open map[string]int
}

func newPerSource(l net.Listener, most int) *perSource {
	return &perSource{Listener: l, most: most, open: map[string]int{}}
}

// Accept implements net.Listener.
func (l *perSource) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := hostOf(conn.RemoteAddr().String())
		if l.enter(source) {
			return &sourced{Conn: conn, leave: sync.OnceFunc(func() { l.leave(source) })}, nil
		}
		_ = conn.Close()
	}
}

func (l *perSource) enter(source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source] >= l.most {
		return false
	}
	l.open[source]++
	return true
}

func (l *perSource) leave(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[source]--
	if l.open[source] == 0 {
		delete(l.open, source)
	}
}

// sourced is a connection that counts.
type sourced struct {
	net.Conn

	leave func()
}

// Close implements net.Conn.
func (c *sourced) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

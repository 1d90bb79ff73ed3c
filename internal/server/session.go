package server

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// How connections are slowed down. A call that is reset within hasty of its begin,
// without an answer, was hardly meant: a caller whose deadline passes has waited longer.
const (
	hasty        = 50 * time.Millisecond
	longestPause = 5 * time.Second
	fullPause    = 5 * time.Millisecond  // of who sends large messages while there is no room for any
	greedyPause  = 50 * time.Millisecond // of whose address has the most of it
	slowRead     = 1 << 10               // bytes at a time from who has to pause
	largestRead  = 16 << 10              // and from all others: what is read is not slowed down any more
)

// session is a connection of gRPC, of which it sees every frame: the library
// bounds neither what unfinished messages hold, nor how many calls come and are
// reset, nor how many frames come that carry none.
type session struct {
	net.Conn

	source   *source
	arrivals *arrivals
	closed   chan struct{}

	pause time.Duration // before the next read
	slow  bool          // that read is to be short

	mu      sync.Mutex
	in, out frames
	came    int // frames that carry nothing, since the last read
	hasted  int // calls reset in haste, since then
	streams map[uint32]*incoming
	held    int64           // bytes, by unfinished messages and who waits for them
	waiting []chan struct{} // of calls that wait for a message, oldest first
}

// incoming is what is known of a call: when it began, and of which message some
// bytes have come.
type incoming struct {
	begun    time.Time
	answered bool // in part: a stream may be left when its caller has seen enough
	prefix   [5]byte
	got      int    // bytes of the prefix
	left     uint32 // bytes of the message to come
	held     int64  // by a message that is not complete
}

func newSession(conn net.Conn, source *source, arrivals *arrivals) *session {
	s := &session{Conn: conn, source: source, arrivals: arrivals, closed: make(chan struct{}), streams: map[uint32]*incoming{}}
	s.in.skip = len(http2.ClientPreface)
	arrivals.enter(s)
	return s
}

// RemoteAddr implements net.Conn. The address is how a call finds its session.
func (s *session) RemoteAddr() net.Addr { return sessionAddr{s.Conn.RemoteAddr(), s} }

type sessionAddr struct {
	net.Addr

	session *session
}

// sessionIn returns the session that a call came over, or nil if it came from the
// gateway.
func sessionIn(ctx context.Context) *session {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	addr, _ := p.Addr.(sessionAddr)
	return addr.session
}

// Read implements net.Conn. Whoever has sent too much of what carries nothing is
// read from later, and is held back by TCP.
func (s *session) Read(p []byte) (int, error) {
	p = p[:min(len(p), largestRead)]
	if s.pause > 0 {
		timer := time.NewTimer(min(s.pause, longestPause))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	if s.slow {
		p = p[:min(len(p), slowRead)]
	}
	n, err := s.Conn.Read(p)
	s.mu.Lock()
	s.in.feed(p[:n], s.receive, s.data)
	came, hasted, large := s.came, s.hasted, s.held > smallBody
	s.came, s.hasted = 0, 0
	s.mu.Unlock()
	s.pause = s.source.pause(time.Now(), came, hasted)
	s.slow = s.pause > 0
	switch full := s.arrivals.relieve(); {
	case full && large && s.source.held.Load() > s.arrivals.most/largestArriving:
		s.pause, s.slow = max(s.pause, greedyPause), true
	case full && large:
		s.pause = max(s.pause, fullPause)
	}
	return n, err
}

// Write implements net.Conn.
func (s *session) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.out.feed(p, s.send, func([]byte) {})
	s.mu.Unlock()
	return s.Conn.Write(p)
}

// receive looks at a frame of the caller.
func (s *session) receive() {
	s.came++
	id := s.in.stream()
	switch known := s.streams[id]; {
	case s.in.kind() == http2.FrameHeaders && known == nil && s.streams != nil:
		s.streams[id] = &incoming{begun: time.Now()}
	case s.in.kind() == http2.FrameData && known != nil:
		if s.in.left > 0 {
			s.came--
		}
		s.hold(known, frameCost)
	case s.in.kind() == http2.FrameRSTStream:
		s.reset(id)
	}
}

// send looks at a frame of the server, which may reset a call that broke a rule.
func (s *session) send() {
	switch id := s.out.stream(); {
	case s.out.kind() == http2.FrameRSTStream:
		s.reset(id)
	case s.out.ends():
		s.end(id)
	case s.out.kind() == http2.FrameHeaders && s.streams[id] != nil:
		s.streams[id].answered = true
	}
}

func (s *session) reset(id uint32) {
	if known := s.streams[id]; known != nil && !known.answered && time.Since(known.begun) < hasty {
		s.hasted++
	}
	s.end(id)
}

func (s *session) end(id uint32) {
	if known := s.streams[id]; known != nil {
		s.hold(known, -known.held)
		delete(s.streams, id)
		s.arrivals.eased(s)
	}
}

// data follows the messages of a call.
func (s *session) data(p []byte) {
	call := s.streams[s.in.stream()]
	for call != nil && len(p) > 0 {
		var n int
		if call.left == 0 {
			n = copy(call.prefix[call.got:], p)
			if call.got += n; call.got == len(call.prefix) {
				call.got, call.left = 0, binary.BigEndian.Uint32(call.prefix[1:])
			}
		} else {
			n = int(min(int64(call.left), int64(len(p))))
			call.left -= uint32(n) //nolint:gosec // at most call.left
		}
		p = p[n:]
		s.hold(call, int64(n))
		if call.got == 0 && call.left == 0 { // complete
			s.hold(call, -call.held)
		}
	}
}

// hold counts bytes that a call has taken, or given back.
func (s *session) hold(call *incoming, n int64) {
	call.held += n
	s.take(n)
}

func (s *session) take(n int64) {
	if s.streams != nil { // otherwise nothing counts any more
		s.held += n
		s.source.held.Add(n)
		s.arrivals.held.Add(n)
	}
}

// wait notes a call that waits for a message, and returns how it is told to give up.
func (s *session) wait() chan struct{} {
	refused := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, refused)
	s.take(waitCost)
	return refused
}

func (s *session) stopWaiting(refused chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, refused); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.take(-waitCost)
	}
}

// couldRelease is what unfinished messages hold, if any call still waits for one.
func (s *session) couldRelease() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return 0
	}
	return s.held
}

// refuseOldest ends the call that has waited longest.
func (s *session) refuseOldest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return false
	}
	close(s.waiting[0])
	s.waiting = slices.Delete(s.waiting, 0, 1)
	s.take(-waitCost)
	return true
}

// forget gives back all that is held, when the connection is closed.
func (s *session) forget() {
	close(s.closed)
	s.mu.Lock()
	s.take(-s.held)
	s.streams = nil // and what is still read is not looked at
	s.mu.Unlock()
	s.arrivals.leave(s)
}

// attentive are the credentials of a server that sees the frames of its connections,
// whatever they are encrypted with.
type attentive struct {
	credentials.TransportCredentials

	arrivals *arrivals
}

// ServerHandshake implements credentials.TransportCredentials. What comes over the
// listener in memory comes from the gateway, which has bounds of its own.
func (a attentive) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ServerHandshake(raw)
	if from, ok := raw.(*sourced); ok && err == nil {
		session := newSession(conn, from.source, a.arrivals)
		leave := from.leave
		from.leave = sync.OnceFunc(func() { session.forget(); leave() })
		return session, info, nil
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (a attentive) Clone() credentials.TransportCredentials {
	return attentive{a.TransportCredentials.Clone(), a.arrivals}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc/test/bufconn"
)

const (
	maxAdminConnections = 32
	memoryBuffer        = 256 << 10 // bytes on the way, per direction and connection
)

// listeners are the doors of the server, and one that exists in its memory only.
type listeners struct {
	grpc, http, admin net.Listener
	sandbox           net.Listener // nil without --sandbox-addr
	imitation         memory       // from the upstream connection to the sandbox
}

// memory is a listener that only this process can reach.
type memory struct{ *bufconn.Listener }

func newMemory() memory { return memory{bufconn.Listen(memoryBuffer)} }

// dial has the form of net.Dialer.DialContext; there is but one address.
func (m memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return m.DialContext(ctx)
}

// listen binds the addresses.
func (s *Server) listen() error {
	l, cfg := &listeners{imitation: newMemory()}, s.cfg
	s.listeners = l
	s.closers = append(s.closers, l.close)
	connections := room(cfg.MaxInFlight) // further ones wait to be accepted
	for _, door := range []struct {
		flag, addr string
		most       int
		listener   *net.Listener
	}{
		{"--grpc-addr", cfg.GRPCAddr, connections, &l.grpc},
		{"--http-addr", cfg.HTTPAddr, connections, &l.http},
		{"--admin-addr", cfg.AdminAddr, maxAdminConnections, &l.admin},
		{"--sandbox-addr", cfg.SandboxAddr, connections, &l.sandbox},
	} {
		if door.addr == "" {
			continue
		}
		bound, err := new(net.ListenConfig).Listen(context.Background(), "tcp", door.addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s %s is in use by another program: stop it, or choose another address (port 0 picks a free one)", door.flag, door.addr)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", door.flag, err)
		}
		*door.listener = newPerSource(netutil.LimitListener(bound, door.most), door.most*3/4)
	}
	return nil
}

func (l *listeners) close() {
	for _, listener := range []net.Listener{l.grpc, l.http, l.admin, l.sandbox, l.imitation} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

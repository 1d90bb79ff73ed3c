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

// listeners are those of the doors, and one in memory from the upstream's client to the
// sandbox.
type listeners struct {
	grpc, http, admin net.Listener
	sandbox           net.Listener // nil without --sandbox-addr
	imitation         *bufconn.Listener
}

// listen binds the addresses.
func (s *Server) listen() error {
	l, cfg := &listeners{imitation: bufconn.Listen(memoryBuffer)}, s.cfg
	s.listeners = l
	s.closers = append(s.closers, func() { _ = l.imitation.Close() })
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
		s.closers = append(s.closers, func() { _ = bound.Close() })
		*door.listener = newPerSource(netutil.LimitListener(bound, door.most), door.most*3/4)
	}
	return nil
}

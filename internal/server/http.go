package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/rest"
)

// Limits of the HTTP servers that nobody has needed to change.
const (
	maxHeaderBytes = 32 << 10 // of which ids in paths and queries are the most
	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
)

// newHTTPServer returns a server that no slow client can hold for ever. It is closed with
// s.
func (s *Server) newHTTPServer(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // one call at a time on a connection, see room
	server := &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.closers = append(s.closers, func() { _ = server.Close() })
	return server
}

// buildREST makes the server of the REST door.
func (s *Server) buildREST(api api) error {
	if err := s.door.RegisterRoutes(api.routes); err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	s.rest = s.newHTTPServer(partWhen(s.leaving, s.door))
	calls, cutOff := context.WithCancel(context.Background())
	s.cutOff = cutOff
	s.closers = append(s.closers, cutOff)
	s.rest.BaseContext = func(net.Listener) context.Context { return calls }
	if s.identity != nil {
		s.rest.TLSConfig = s.identity.config(func(t *trust) *tls.Config { return t.http })
	}
	// Longer than any call: when the time to read is over, net/http cancels the request
	// even if its body was read long ago.
	s.rest.ReadTimeout = 2*s.cfg.MaxTimeout + rest.Grace
	s.rest.WriteTimeout = s.rest.ReadTimeout
	return nil
}

package server

import (
	"context"
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

// newHTTPServer returns a server that no slow client can hold for ever.
func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // one call at a time on a connection, see room
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// newDoor makes the REST door, without services.
func (s *Server) newDoor() (err error) {
	s.door, err = rest.New(rest.Options{
		Chain: s.chain, Methods: s.chain.methods, Authenticated: s.access != nil,
		MaxBody: int64(s.cfg.MaxRequestBytes), StreamTime: s.cfg.MaxStreamTime, Pages: s.cfg.Docs,
	})
	return err
}

// buildREST makes the server of the REST door.
func (s *Server) buildREST(api api, leaving <-chan struct{}) error {
	if err := s.door.RegisterRoutes(api.routes); err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	s.rest = newHTTPServer(partWhen(leaving, s.door), s.log)
	calls, cutOff := context.WithCancel(context.Background())
	s.cutOff = cutOff
	s.rest.BaseContext = func(net.Listener) context.Context { return calls }
	if s.identity != nil {
		s.rest.TLSConfig = s.identity.forHTTP()
	}
	// Longer than any call: when the time to read is over, net/http cancels the request
	// even if its body was read long ago.
	s.rest.ReadTimeout = 2*s.cfg.MaxTimeout + rest.Grace
	s.rest.WriteTimeout = s.rest.ReadTimeout
	return nil
}

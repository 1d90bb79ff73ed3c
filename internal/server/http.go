package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
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

// partWhen asks the clients of REST to come back over another connection once the
// server is leaving, so that none is in use when the door closes.
func partWhen(leaving <-chan struct{}, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-leaving:
			w.Header().Set("Connection", "close")
		default:
		}
		next.ServeHTTP(w, r)
	})
}

// adminHandler answers load balancers and monitoring. The server is ready from the first
// answer on until it is about to stop.
func adminHandler(leaving <-chan struct{}, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-leaving:
			http.Error(w, "stopping", http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, "ok\n")
		}
	})
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, config.Version())
	})
	return mux
}

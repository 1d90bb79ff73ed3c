// Package server assembles the service: listeners, the interceptor chain, the
// REST gateway, the connection to the upstream, and the order in which all of
// them start and stop. It knows no RPC by name.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/yunxin-facade/yunxin-facade/internal/audit"
	"github.com/yunxin-facade/yunxin-facade/internal/auth"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/rest"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/internal/watch"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// Server is the whole service, built and bound to its addresses.
type Server struct {
	cfg *config.Config
	log *slog.Logger

	identity  *identity  // nil without TLS
	access    *access    // nil if callers are not authenticated
	audit     *audit.Log // nil if there is no audit
	metrics   *prometheus.Registry
	chain     *chain
	listeners *listeners
	imitation *sandbox.Sandbox // nil without --sandbox
	apps      *apps
	health    *health.Server
	grpc      *grpc.Server
	door      *rest.Door
	rest      *http.Server // of door
	cutOff    func()       // cancels the calls of rest
	admin     *http.Server
	sandbox   *http.Server // nil without --sandbox
	leave     func()       // says that the server is about to go
	drain     func()       // says that it goes
	after     func(time.Duration) <-chan time.Time
}

// api is what is served. Tests put other handlers behind the same doors.
type api struct {
	register func(grpc.ServiceRegistrar, *apps) error
	routes   func(context.Context, *runtime.ServeMux, grpc.ClientConnInterface) error
}

// New builds the server and binds its addresses. Its errors are texts for the
// person who starts it.
func New(cfg *config.Config, log *slog.Logger) (*Server, error) {
	return build(cfg, log, newAPI(cfg))
}

func newAPI(cfg *config.Config) api {
	return api{
		register: func(r grpc.ServiceRegistrar, up *apps) error {
			return service.Register(r, up, service.Options{PieceInterval: cfg.StreamInterval, ClientID: upstream.MessageClientID})
		},
		routes: service.RegisterGateway,
	}
}

func build(cfg *config.Config, log *slog.Logger, api api) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: log, metrics: newRegistry(), health: health.NewServer(), after: time.After}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.listeners, err = listen(cfg); err != nil {
		return nil, err
	}
	if err := s.connect(); err != nil {
		return nil, err
	}
	methods, err := callinfo.NewMethods(service.Descriptors())
	if err != nil {
		return nil, err
	}
	if err := s.guard(methods); err != nil {
		return nil, err
	}
	leaving, draining := make(chan struct{}), make(chan struct{})
	s.leave = sync.OnceFunc(func() { close(leaving) })
	s.drain = sync.OnceFunc(func() { close(draining) })
	if err := s.newChain(methods, draining); err != nil {
		return nil, err
	}
	if err := s.newDoor(); err != nil {
		return nil, err
	}
	if err := s.buildGRPC(api, s.chain.arrivals); err != nil {
		return nil, err
	}
	if err := s.buildREST(api, leaving); err != nil {
		return nil, err
	}
	s.admin = newHTTPServer(adminHandler(leaving, metricsHandler(s.metrics, log)), log)
	return s, nil
}

// newChain assembles the chain that the calls of both doors pass.
func (s *Server) newChain(methods callinfo.Methods, draining <-chan struct{}) error {
	validator, err := newValidator(methods)
	if err != nil {
		return fmt.Errorf("the validation rules: %w", err)
	}
	s.chain = &chain{
		methods:   methods,
		telemetry: newTelemetry(s.log, newMetrics(s.metrics), s.audit),
		admission: newAdmission(s.cfg.MaxInFlight),
		access:    s.access,
		apps:      s.apps,
		arrivals:  newArrivals(int64(s.cfg.MaxRequestBytes)),
		validator: validator,
		times:     times{s.cfg.DefaultTimeout, s.cfg.MaxTimeout, s.cfg.MaxStreamTime},
		largest:   int(s.cfg.MaxRequestBytes),
		draining:  draining,
	}
	s.chain.admission.measure(s.metrics)
	return nil
}

// guard reads the files that say who the server is and who may call it, and opens
// the one in which calls are written down.
func (s *Server) guard(methods callinfo.Methods) (err error) {
	if s.identity, err = newIdentity(s.cfg); err != nil {
		return err
	}
	if s.cfg.CallersFile != "" {
		if s.access, err = newAccess(s.cfg.CallersFile, auth.Known{Scopes: methods.Scopes(), Apps: s.apps.names}, s.identity, s.log); err != nil {
			return err
		}
	}
	if s.cfg.AuditFile != "" {
		if s.audit, err = audit.Open(s.cfg.AuditFile, s.log); err != nil {
			return fmt.Errorf("--audit-file: %w", err)
		}
		measureAudit(s.metrics, s.audit)
	}
	return nil
}

// Run serves until the context ends or a listener fails, then lets the calls in
// progress finish, at most for the drain time-out.
func (s *Server) Run(ctx context.Context) error {
	serving, ctx := errgroup.WithContext(ctx)
	for _, serve := range s.serves() {
		serving.Go(func() error {
			if err := serve(); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
				return err
			}
			return nil
		})
	}
	for _, files := range s.watched() {
		serving.Go(func() error {
			watch.Watch(ctx, s.log, files.paths, files.load)
			return nil
		})
	}
	serving.Go(func() error {
		<-ctx.Done()
		s.stop(context.WithoutCancel(ctx))
		return nil
	})
	return serving.Wait()
}

// serves lists what runs, one function for each listener.
func (s *Server) serves() []func() error {
	all := []func() error{
		func() error { return s.grpc.Serve(s.listeners.grpc) },
		func() error { return s.serveREST() },
		func() error { return s.admin.Serve(s.listeners.admin) },
	}
	if s.sandbox != nil {
		all = append(all, func() error { return s.sandbox.Serve(s.listeners.imitation) })
	}
	if s.listeners.sandbox != nil {
		all = append(all, func() error { return s.sandbox.Serve(s.listeners.sandbox) })
	}
	return all
}

// serveREST serves with TLS if the server has it.
func (s *Server) serveREST() error {
	if s.identity == nil {
		return s.rest.Serve(s.listeners.http)
	}
	return s.rest.ServeTLS(s.listeners.http, "", "") // its settings have the certificate
}

// watched are files that are read again when they change.
type watched struct {
	paths func() []string
	load  func() error
}

func (s *Server) watched() []watched {
	var all []watched
	if s.identity != nil {
		all = append(all, watched{s.identity.files, s.identity.load})
	}
	if s.access != nil {
		all = append(all, watched{s.access.files, s.access.load})
	}
	return append(all, s.secrets()...)
}

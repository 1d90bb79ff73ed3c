// Package server assembles the service: listeners, the chain that all calls pass, the REST
// door, the connections to the upstream, and the order in which all of them start and
// stop. It knows no RPC by name.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
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

	methods   callinfo.Methods
	listeners *listeners
	imitation *sandbox.Sandbox // nil without --sandbox
	apps      *apps
	identity  *identity  // nil without TLS
	access    *access    // nil if callers are not authenticated
	audit     *audit.Log // nil if there is no audit
	metrics   *prometheus.Registry
	chain     *chain
	health    *health.Server
	grpc      *grpc.Server
	door      *rest.Door
	rest      *http.Server // of door
	cutOff    func()       // cancels the calls of rest
	admin     *http.Server
	sandbox   *http.Server // nil without --sandbox

	leaving  chan struct{} // closed when the server is about to go
	draining chan struct{} // closed when it goes
	after    func(time.Duration) <-chan time.Time
	watched  []watched // files
	closers  []func()  // of what was built, which they close at once
}

// watched are files that are read again when they change.
type watched struct {
	paths func() []string
	load  func() error
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

func build(cfg *config.Config, log *slog.Logger, api api) (*Server, error) {
	s := &Server{
		cfg: cfg, log: log, metrics: newRegistry(), health: health.NewServer(), after: time.After,
		leaving: make(chan struct{}), draining: make(chan struct{}),
	}
	for _, step := range []func() error{
		s.listen, s.connect, s.guard, s.assemble,
		func() error { return s.buildGRPC(api) },
		func() error { return s.buildREST(api) },
	} {
		if err := step(); err != nil {
			s.close()
			return nil, err
		}
	}
	s.admin = s.newHTTPServer(adminHandler(s.leaving, metricsHandler(s.metrics, log)))
	return s, nil
}

// close closes all that was built, the last first.
func (s *Server) close() {
	for _, end := range slices.Backward(s.closers) {
		end()
	}
}

// assemble makes the chain that the calls of both doors pass, and the REST door, which
// has no services yet.
func (s *Server) assemble() error {
	validator, err := newValidator(s.methods)
	if err != nil {
		return fmt.Errorf("the validation rules: %w", err)
	}
	s.chain = &chain{
		methods:   s.methods,
		telemetry: newTelemetry(s.log, newMetrics(s.metrics), s.audit),
		admission: newAdmission(s.cfg.MaxInFlight),
		access:    s.access,
		apps:      s.apps,
		arrivals:  newArrivals(int64(s.cfg.MaxRequestBytes)),
		validator: validator,
		times:     times{s.cfg.DefaultTimeout, s.cfg.MaxTimeout, s.cfg.MaxStreamTime},
		largest:   int(s.cfg.MaxRequestBytes),
		draining:  s.draining,
	}
	s.chain.admission.measure(s.metrics)
	s.door, err = rest.New(rest.Options{
		Chain: s.chain, Methods: s.methods, Authenticated: s.access != nil,
		MaxBody: int64(s.cfg.MaxRequestBytes), StreamTime: s.cfg.MaxStreamTime, Pages: s.cfg.Docs,
	})
	return err
}

// guard reads the files that say who the server is and who may call it, and opens the one
// in which calls are written down.
func (s *Server) guard() (err error) {
	if s.methods, err = callinfo.NewMethods(service.Descriptors()); err != nil {
		return err
	}
	if s.identity, err = newIdentity(s.cfg); err != nil {
		return err
	}
	if s.identity != nil {
		s.watched = append(s.watched, watched{s.identity.files, s.identity.load})
	}
	if s.cfg.CallersFile != "" {
		known := auth.Known{Scopes: s.methods.Scopes(), Apps: s.apps.names}
		if s.access, err = newAccess(s.cfg.CallersFile, known, s.identity, s.log); err != nil {
			return err
		}
		s.closers = append(s.closers, s.access.callers.Close)
		s.watched = append(s.watched, watched{s.access.files, s.access.load})
	}
	if s.cfg.AuditFile != "" {
		if s.audit, err = audit.Open(s.cfg.AuditFile, s.log); err != nil {
			return fmt.Errorf("--audit-file: %w", err)
		}
		s.closers = append(s.closers, func() {
			if err := s.audit.Close(); err != nil {
				s.log.Error("the audit file is not complete", "cause", err)
			}
		})
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
	for _, files := range s.watched {
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
		func() error {
			if s.identity == nil {
				return s.rest.Serve(s.listeners.http)
			}
			return s.rest.ServeTLS(s.listeners.http, "", "") // its settings have the certificate
		},
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

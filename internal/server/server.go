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

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// Server is the whole service, built and bound to its addresses.
type Server struct {
	cfg *config.Config
	log *slog.Logger

	metrics   *prometheus.Registry
	telemetry *telemetry
	admission *admission
	listeners *listeners
	imitation *sandbox.Sandbox // nil without --sandbox
	up        *upstream.Conn
	health    *health.Server
	grpc      *grpc.Server
	loop      *grpc.ClientConn // the gateway's connection to grpc
	rest      *http.Server
	admin     *http.Server
	sandbox   *http.Server // nil without --sandbox
	drain     func()
}

// api is what is served. Tests put other handlers behind the same doors.
type api struct {
	register func(grpc.ServiceRegistrar, *upstream.Conn)
	routes   func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error
}

// New builds the server and binds its addresses. Its errors are texts for the
// person who starts it.
func New(cfg *config.Config, log *slog.Logger) (*Server, error) {
	return build(cfg, log, api{
		register: func(r grpc.ServiceRegistrar, up *upstream.Conn) {
			o := service.Options{PieceInterval: cfg.StreamInterval}
			switch cfg.MergeReads {
			case "auto":
				o.Pressed = up.Pressed
			case "always":
				o.Pressed = func(string) bool { return true }
			}
			service.Register(r, up, o)
		},
		routes: service.RegisterGateway,
	})
}

func build(cfg *config.Config, log *slog.Logger, api api) (_ *Server, err error) {
	reasons, err := upstream.NewReasons(imv1.ErrorReason(0).Descriptor())
	if err != nil {
		return nil, fmt.Errorf("the error table: %w", err)
	}
	s := &Server{cfg: cfg, log: log, metrics: newRegistry(), health: health.NewServer()}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.listeners, err = listen(cfg); err != nil {
		return nil, err
	}
	if err := s.connect(reasons); err != nil {
		return nil, err
	}
	draining := make(chan struct{})
	s.drain = sync.OnceFunc(func() { close(draining) })
	refusals := &refusals{reasons: reasons, log: log}
	s.telemetry = newTelemetry(log, newMetrics(s.metrics, service.Descriptors()))
	s.admission = &admission{most: int64(s.cfg.MaxInFlight), reasons: reasons}
	s.admission.measure(s.metrics)
	if err := s.buildGRPC(draining, refusals, api); err != nil {
		return nil, err
	}
	if err := s.buildREST(refusals, api); err != nil {
		return nil, err
	}
	s.admin = newHTTPServer(adminHandler(draining, metricsHandler(s.metrics, log)), log)
	return s, nil
}

// connect makes the connection to the upstream: Yunxin, or the imitation of it
// on a listener that exists in this process only.
func (s *Server) connect(reasons *upstream.Reasons) (err error) {
	c := upstream.Config{
		AppKey:     s.cfg.AppKey,
		AppSecret:  string(s.cfg.AppSecret),
		LBS:        s.cfg.LBS,
		APIVersion: s.cfg.APIVersion,
		Quotas:     quotas(s.cfg),
		ShareReads: s.cfg.ShareReads,
		Services:   service.Descriptors(),
		Reasons:    reasons,
		UserAgent:  "yunxin-facade/" + config.Version(),
		Log:        s.log,
	}
	if s.cfg.Sandbox {
		s.imitation, err = sandbox.New(sandbox.Options{Seed: s.cfg.SandboxSeed, Rate: s.cfg.SandboxRate})
		if err != nil {
			return fmt.Errorf("--sandbox-seed: %w", err)
		}
		s.sandbox = newHTTPServer(s.imitation, s.log)
		c.AppKey, c.AppSecret = sandbox.AppKey, sandbox.AppSecret
		c.Endpoints = []string{"http://sandbox"} // the name is not looked up: Dial knows but one place
		c.Dial = s.listeners.imitation.dial
	} else if c.Endpoints, err = upstream.Endpoints(s.cfg.Endpoints); err != nil {
		return fmt.Errorf("--endpoint: %w", err)
	}
	if s.up, err = upstream.New(c); err != nil {
		return fmt.Errorf("the upstream: %w", err)
	}
	return s.metrics.Register(s.up)
}

// quotas are those of the configuration. The imitation has none unless asked for.
func quotas(cfg *config.Config) upstream.Quotas {
	q := upstream.Quotas{Plan: cfg.Plan, Rates: make(map[string]upstream.Rate)}
	if q.Plan == "" && !cfg.Sandbox {
		q.Plan = upstream.PlanStandard
	}
	for name, rate := range cfg.Quotas {
		q.Rates[name] = upstream.Rate(rate)
	}
	return q
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
		func() error { return s.grpc.Serve(s.listeners.loop) },
		func() error { return s.rest.Serve(s.listeners.http) },
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

// stop ends the service from the outside in: first load balancers learn that it
// is going, then REST, which needs gRPC, then gRPC, which needs the upstream.
func (s *Server) stop(ctx context.Context) {
	s.log.InfoContext(ctx, "stopping: calls in progress may finish", "drain_timeout", s.cfg.DrainTimeout)
	s.health.Shutdown()
	s.drain()

	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	// An error here is the end of ctx, of which the caller hears below.
	_ = s.rest.Shutdown(ctx)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_ = s.loop.Close() // REST has gone, or has had its time
		s.grpc.GracefulStop()
	}()
	select {
	case <-drained:
		s.log.InfoContext(ctx, "stopped")
	case <-ctx.Done():
		s.log.WarnContext(ctx, "stopped: calls were cut off, the drain time-out is over")
		s.grpc.Stop()
		<-drained
	}
	s.close()
}

// close lets go of everything at once, whether it was built or not.
func (s *Server) close() {
	if s.rest != nil {
		_ = s.rest.Close()
	}
	if s.loop != nil {
		_ = s.loop.Close()
	}
	if s.grpc != nil {
		s.grpc.Stop()
	}
	if s.up != nil {
		s.up.Close()
	}
	if s.sandbox != nil {
		_ = s.sandbox.Close()
	}
	if s.admin != nil {
		_ = s.admin.Close()
	}
	if s.listeners != nil {
		s.listeners.close()
	}
}

package server

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/quota"
)

// apps are the connections to the upstream, one for each app: apps share no quota, no
// endpoint and no answer. As a connection itself, it calls the app of the context.
type apps struct {
	names []string // the default one first
	conns map[string]*upstream.Conn
}

var _ grpc.ClientConnInterface = (*apps)(nil)

// conn returns the connection of the app that a call uses. That there is none is a mistake
// of ours.
func (a *apps) conn(ctx context.Context) (*upstream.Conn, error) {
	if info := callinfo.From(ctx); info != nil {
		if conn := a.conns[info.App()]; conn != nil {
			return conn, nil
		}
	}
	return nil, apierror.New(imv1.ErrorReason_ERROR_REASON_INTERNAL, "the call is for no app")
}

// Invoke implements grpc.ClientConnInterface.
func (a *apps) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	conn, err := a.conn(ctx)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, args, reply, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (a *apps) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := a.conn(ctx)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, options...)
}

// choose returns the app of a call: the one that the caller names in a header, or otherwise
// the caller's own, or otherwise the default one.
func (a *apps) choose(info *callinfo.Info) (string, error) {
	if len(info.Apps) > 1 || len(info.Apps) == 1 && !isVisible(info.Apps[0]) {
		return "", apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s must be given once, with the name of an app", callinfo.AppHeader)
	}
	wish := strings.Join(info.Apps, "")
	if info.Caller == nil {
		return a.pick(wish, "", nil)
	}
	return a.pick(wish, info.Caller.App(), info.Caller.MayUse)
}

// pick refuses an app that there is not in the same words as one that the caller may not
// use. If mayUse is nil the caller may use all.
func (a *apps) pick(wish, own string, mayUse func(string) bool) (string, error) {
	name := cmp.Or(wish, own, a.names[0])
	if a.conns[name] == nil || mayUse != nil && !mayUse(name) {
		return "", apierror.New(imv1.ErrorReason_ERROR_REASON_APP_DENIED, "there is no such app, or this caller may not use it")
	}
	return name, nil
}

func (a *apps) close() {
	for _, conn := range a.conns {
		conn.Close()
	}
}

// connect makes the connections to the upstream, which is Yunxin or the sandbox in this
// process.
func (s *Server) connect() (err error) {
	if s.cfg.Sandbox {
		s.imitation, err = sandbox.New(sandbox.Options{Seed: s.cfg.SandboxSeed, Rate: s.cfg.SandboxRate})
		if err != nil {
			return fmt.Errorf("--sandbox-seed: %w", err)
		}
		s.sandbox = s.newHTTPServer(s.imitation)
	}
	s.apps = &apps{conns: map[string]*upstream.Conn{}}
	s.closers = append(s.closers, s.apps.close)
	for _, app := range s.cfg.Apps {
		c, err := s.upstreamOf(app)
		if err != nil {
			return err
		}
		conn, err := upstream.New(c)
		if err != nil {
			return fmt.Errorf("the upstream of app %s: %w", app.Name, err)
		}
		s.apps.names, s.apps.conns[app.Name] = append(s.apps.names, app.Name), conn
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"app": app.Name}, s.metrics).Register(conn); err != nil {
			return err
		}
		if app.SecretFile == "" {
			continue
		}
		s.watched = append(s.watched, watched{func() []string { return []string{app.SecretFile} }, func() error {
			secret, err := config.ReadSecret(app.SecretFile)
			if err != nil {
				return fmt.Errorf("the secret of app %s: %w", app.Name, err)
			}
			conn.SetSecret(string(secret))
			return nil
		}})
	}
	return nil
}

// upstreamOf returns how the upstream is called for an app.
func (s *Server) upstreamOf(app config.App) (c upstream.Config, err error) {
	c = upstream.Config{
		AppKey:     app.AppKey,
		AppSecret:  string(app.Secret),
		Discovery:  app.LBS,
		APIVersion: s.cfg.APIVersion,
		Quotas:     quotas(app),
		ShareReads: s.cfg.ShareReads,
		MergeReads: upstream.Merge(s.cfg.MergeReads),
		Services:   service.Descriptors(),
		Reasons:    imv1.ErrorReason(0).Descriptor(),
		UserAgent:  "yunxin-facade/" + config.Version(),
		Log:        s.log,
	}
	if len(s.cfg.Apps) > 1 {
		c.Log = s.log.With("app", app.Name)
	}
	if s.cfg.Sandbox {
		c.AppKey, c.AppSecret = sandbox.AppKey, sandbox.AppSecret
		c.Endpoints = []string{"http://sandbox"} // Dial does not look the name up
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.listeners.imitation.DialContext(ctx)
		}
		// The sandbox has no quotas unless asked for.
		c.Quotas.Plan = cmp.Or(app.Plan, quota.PlanUnlimited)
		return c, nil
	}
	if c.Endpoints, err = failover.Endpoints(app.Endpoints); err != nil {
		return c, fmt.Errorf("the endpoints of app %s: %w", app.Name, err)
	}
	return c, nil
}

// quotas are those of the configuration.
func quotas(app config.App) quota.Config {
	q := quota.Config{Plan: cmp.Or(app.Plan, quota.PlanStandard), Rates: make(map[string]quota.Rate)}
	for name, rate := range app.Quotas {
		q.Rates[name] = quota.Rate(rate)
	}
	return q
}

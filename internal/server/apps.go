package server

import (
	"cmp"
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/quota"
)

// appHeader names the app that a call is for, on both doors. Without it, that is
// the caller's own app.
const appHeader = "x-yunxin-app"

// apps are the connections to the upstream, one for each app: apps share no
// quota, no endpoint and no answer. It stands in for a connection itself, and
// calls the app that the context names.
type apps struct {
	names []string // the default one first
	conns map[string]*upstream.Conn
	// rights returns which apps the caller of a context may use, any if nil, and
	// which is the caller's own, the default one if "".
	rights func(context.Context) (mayUse func(string) bool, own string)
}

var _ grpc.ClientConnInterface = (*apps)(nil)

type appKey struct{}

// withApp makes the calls under a context those of an app.
func withApp(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, appKey{}, name)
}

// appOf returns the app of a context, or "".
func appOf(ctx context.Context) string {
	name, _ := ctx.Value(appKey{}).(string)
	return name
}

// conn returns the connection for a context. A context without an app comes from
// a mistake of ours, and no app is a good guess.
func (a *apps) conn(ctx context.Context) (*upstream.Conn, error) {
	if conn := a.conns[appOf(ctx)]; conn != nil {
		return conn, nil
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

// choose returns the app of a call: the one that the caller wishes, else fallback,
// else the default one. An app that there is and one that there is not are refused
// in the same words.
func (a *apps) choose(wish string, mayUse func(string) bool, fallback string) (string, error) {
	name := cmp.Or(wish, fallback, a.names[0])
	if a.conns[name] == nil || mayUse != nil && !mayUse(name) {
		return "", apierror.New(imv1.ErrorReason_ERROR_REASON_APP_DENIED, "there is no such app, or this caller may not use it")
	}
	return name, nil
}

// selectApp finds out which app a call is for. It must know who calls.
func (a *apps) selectApp() interceptor {
	return before(func(ctx context.Context, method string) (context.Context, error) {
		if isInfrastructure(method) {
			return ctx, nil
		}
		wishes := metadata.ValueFromIncomingContext(ctx, appHeader)
		if len(wishes) > 1 || len(wishes) == 1 && wishes[0] == "" {
			return ctx, apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s must be given once, with the name of an app", appHeader)
		}
		var mayUse func(string) bool
		var own string
		if a.rights != nil {
			mayUse, own = a.rights(ctx)
		}
		name, err := a.choose(append(wishes, "")[0], mayUse, own)
		if err != nil {
			return ctx, err
		}
		factsIn(ctx).setApp(name)
		return withApp(ctx, name), nil
	})
}

// appsOfCaller are the rights of a caller who has been authenticated.
func appsOfCaller(ctx context.Context) (mayUse func(string) bool, own string) {
	if caller := authenticated(ctx); caller != nil {
		return caller.MayUse, caller.App()
	}
	return nil, ""
}

// add connects an app, and shows its metrics under its name.
func (a *apps) add(name string, c upstream.Config, r prometheus.Registerer) error {
	conn, err := upstream.New(c)
	if err != nil {
		return fmt.Errorf("the upstream of app %s: %w", name, err)
	}
	a.names, a.conns[name] = append(a.names, name), conn
	return prometheus.WrapRegistererWith(prometheus.Labels{"app": name}, r).Register(conn)
}

func (a *apps) close() {
	for _, conn := range a.conns {
		conn.Close()
	}
}

// connect makes the connections to the upstream: Yunxin, or the imitation of it
// on a listener that exists in this process only.
func (s *Server) connect() (err error) {
	if s.cfg.Sandbox {
		s.imitation, err = sandbox.New(sandbox.Options{Seed: s.cfg.SandboxSeed, Rate: s.cfg.SandboxRate})
		if err != nil {
			return fmt.Errorf("--sandbox-seed: %w", err)
		}
		s.sandbox = newHTTPServer(s.imitation, s.log)
	}
	s.apps = &apps{conns: map[string]*upstream.Conn{}, rights: appsOfCaller}
	for _, app := range s.cfg.Apps {
		c, err := s.upstreamOf(app)
		if err != nil {
			return err
		}
		if err := s.apps.add(app.Name, c, s.metrics); err != nil {
			return err
		}
	}
	return nil
}

// upstreamOf says how an app is called.
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
		c.Endpoints = []string{"http://sandbox"} // the name is not looked up: Dial knows but one place
		c.Dial = s.listeners.imitation.dial
		// The imitation has no quotas unless asked for.
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

// secrets are the files with the secrets of the apps, which are read again when
// they change.
func (s *Server) secrets() []watched {
	var all []watched
	for _, app := range s.cfg.Apps {
		if app.SecretFile == "" {
			continue
		}
		all = append(all, watched{func() []string { return []string{app.SecretFile} }, func() error {
			secret, err := config.ReadSecret(app.SecretFile)
			if err != nil {
				return fmt.Errorf("the secret of app %s: %w", app.Name, err)
			}
			s.apps.conns[app.Name].SetSecret(string(secret))
			return nil
		}})
	}
	return all
}

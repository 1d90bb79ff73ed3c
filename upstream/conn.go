// Package upstream is a client of the Yunxin IM server API. Its Conn stands in for a
// gRPC connection, so the generated client stubs are the typed client: a call is
// looked up by its method name, encoded by the options of the protos, signed, sent,
// and its answer decoded. The package knows no service by name.
//
// A call is one execution of an operation. It makes one attempt or more, each an HTTP
// exchange with an endpoint.
package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/codec"
	"github.com/yunxin-facade/yunxin-facade/upstream/credentials"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/limiter"
	"github.com/yunxin-facade/yunxin-facade/upstream/quota"
)

// Config says which upstream is called, and for which services.
type Config struct {
	// AppKey and AppSecret are the app's credentials.
	AppKey, AppSecret string
	// Endpoints are base URLs, which may carry a path prefix, in the order of
	// preference.
	Endpoints []string
	// Discovery are services of the vendor that are asked for endpoints, which then
	// come before Endpoints.
	Discovery []string
	// APIVersion is codec.V2 or codec.V21; V2 if empty.
	APIVersion string
	// Services are the services whose methods can be called.
	Services []protoreflect.ServiceDescriptor
	// Reasons is the enum that describes the error table.
	Reasons protoreflect.EnumDescriptor
	// Quotas are the app's rates.
	Quotas quota.Config
	// ShareReads answers identical reads in progress by one upstream call.
	ShareReads bool
	// MergeReads says when reads of single items are answered by one call of a batch.
	MergeReads Merge
	// Dial makes connections; TCP if nil.
	Dial failover.Dialer
	// UserAgent names this program and its version; "yunxin-facade" if empty.
	UserAgent string
	// Log takes what callers must not see; slog.Default if nil.
	Log *slog.Logger
	// Now is the clock of signatures; time.Now if nil.
	Now func() time.Time
}

// Conn calls the upstream. It implements grpc.ClientConnInterface and is safe for
// concurrent use. Every error it returns is an *apierror.Error. It is also a
// prometheus.Collector of its metrics.
type Conn struct {
	appKey       string
	secrets      *credentials.Secrets
	clock        *credentials.Clock
	userAgent    string
	operations   map[string]*codec.Operation
	quotas       map[string]*quota.Quota // of the operations
	table        *apierror.Table
	endpoints    *failover.Set
	limiters     sync.Map               // of *failover.Endpoint to *limiter.Limiter
	singleflight *singleflight[reply]   // nil if reads are not shared
	mergedReads  map[string]*mergedRead // of the methods whose calls may be merged
	largeReplies chan struct{}          // holds one for each that is read
	budget       *budget
	attempts     int
	metrics      *metrics
	log          *slog.Logger
}

var (
	_ grpc.ClientConnInterface = (*Conn)(nil)
	_ prometheus.Collector     = (*Conn)(nil)
)

// New makes a Conn. It checks that all methods have operations that fit their
// messages; it does not call the upstream.
func New(cfg Config) (*Conn, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	table, err := apierror.TableOf(cfg.Reasons)
	if err != nil {
		return nil, fmt.Errorf("the error table: %w", err)
	}
	c := &Conn{
		appKey: cfg.AppKey, secrets: credentials.NewSecrets(cfg.AppSecret),
		clock:        &credentials.Clock{Now: cfg.Now},
		userAgent:    cmp.Or(cfg.UserAgent, "yunxin-facade"),
		table:        table,
		largeReplies: make(chan struct{}, maxLargeReplies),
		budget:       newBudget(),
		attempts:     maxAttempts,
		metrics:      newMetrics(),
		log:          cmp.Or(cfg.Log, slog.Default()),
	}
	if c.clock.Now == nil {
		c.clock.Now = time.Now
	}
	if cfg.ShareReads {
		c.singleflight = new(singleflight[reply])
	}
	if err := c.learn(cfg); err != nil {
		return nil, err
	}
	c.endpoints, err = failover.New(failover.Config{
		Endpoints: cfg.Endpoints, Discovery: cfg.Discovery, AppKey: c.appKey, UserAgent: c.userAgent,
		Dial: cfg.Dial, Log: c.log, Switched: c.metrics.switches.Inc, Removed: c.forget,
	})
	return c, err
}

func (cfg *Config) check() error {
	switch {
	case cfg.AppKey == "" || cfg.AppSecret == "":
		return errors.New("the app key and the app secret must both be given")
	case strings.ContainsFunc(cfg.AppKey, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the app key must be ASCII without spaces: it is sent in a header")
	case len(cfg.Endpoints) == 0 || cfg.Reasons == nil:
		return errors.New("an endpoint and the error table must be given")
	}
	cfg.APIVersion = cmp.Or(cfg.APIVersion, codec.V2)
	if cfg.APIVersion != codec.V2 && cfg.APIVersion != codec.V21 {
		return fmt.Errorf("API version %q: must be %s or %s", cfg.APIVersion, codec.V2, codec.V21)
	}
	return nil
}

// learn makes what is made once for each method.
func (c *Conn) learn(cfg Config) (err error) {
	if c.operations, err = codec.Operations(cfg.Services, cfg.APIVersion); err != nil {
		return err
	}
	uses := make(map[string]quota.Use, len(c.operations))
	for method, o := range c.operations {
		uses[method] = quota.Use{Operation: o.Quota, Class: o.QuotaClass}
	}
	if c.quotas, err = quota.Table(cfg.Quotas, uses); err != nil {
		return err
	}
	c.mergedReads, err = c.newMergedReads(cfg.Services, cfg.MergeReads)
	return err
}

// Close ends what goes on in the background and closes idle connections.
func (c *Conn) Close() { c.endpoints.Close() }

// SetSecret puts another AppSecret in force, for all attempts from now on. While the
// upstream may not know it yet, for 10 minutes, an attempt whose signature is refused
// is repeated with the previous one, and the one that is accepted is then tried first.
// It makes no difference where a secret is replaced first. The secret in force, or
// none at all, changes nothing.
func (c *Conn) SetSecret(secret string) { c.secrets.Set(secret) }

// limiterOf returns the limiter of an endpoint.
func (c *Conn) limiterOf(e *failover.Endpoint) *limiter.Limiter {
	if known, ok := c.limiters.Load(e); ok {
		if l, ok := known.(*limiter.Limiter); ok {
			return l
		}
	}
	known, _ := c.limiters.LoadOrStore(e, limiter.New(failover.MaxConns))
	l, _ := known.(*limiter.Limiter)
	return l
}

// forget drops what belongs to an endpoint that is no longer called.
func (c *Conn) forget(e *failover.Endpoint) {
	c.limiters.Delete(e)
	c.metrics.forget(e)
}

// Invoke calls the upstream's operation of a method.
func (c *Conn) Invoke(ctx context.Context, method string, args, into any, _ ...grpc.CallOption) error {
	operation := c.operations[method]
	request, isRequest := args.(proto.Message)
	message, isReply := into.(proto.Message)
	if operation == nil || !isRequest || !isReply {
		return c.table.Error(apierror.Internal, "no upstream operation for %s", method)
	}
	if r := c.mergedReads[method]; r != nil && r.wanted(ctx, c) {
		if done, err := r.get(ctx, request, message); done {
			return err
		}
	}
	call, err := c.newCall(ctx, method, operation, request)
	if err != nil {
		return c.unsendable(ctx, err)
	}
	if ctx.Err() != nil {
		return c.complete(c.ended(ctx, call, attempt{}), call, attempt{})
	}
	answer, failure := c.execute(ctx, call)
	if failure == nil {
		failure = c.decode(call, answer, message)
	}
	if failure != nil {
		c.logCause(ctx, method, failure)
		return failure
	}
	return nil
}

// NewStream refuses: the upstream has no streams.
func (c *Conn) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, c.table.Error(apierror.Internal, "no upstream stream for %s", method)
}

// unsendable makes the error of a request that cannot be written.
func (c *Conn) unsendable(ctx context.Context, err error) *apierror.Error {
	field, ok := errors.AsType[*codec.FieldError](err)
	if !ok {
		e := c.table.Error(apierror.Internal, "the request cannot be written")
		e.Cause = err
		return e
	}
	e := c.table.Error(apierror.InvalidRequest, "%s %s", field.Path, field.Rule)
	e.TraceID = CallInfoOf(ctx).TraceID
	e.Violations = []apierror.Violation{{Field: field.Path, Description: field.Rule, Rule: "wire"}}
	return e
}

// logCause logs what is behind an error, because callers learn its kind only.
func (c *Conn) logCause(ctx context.Context, method string, e *apierror.Error) {
	if e.Cause == nil {
		return
	}
	c.log.WarnContext(ctx, "upstream call failed",
		"method", method, "reason", e.Reason, "trace_id", e.TraceID, "upstream_trace_id", e.UpstreamTraceID, "endpoint", e.Endpoint, "cause", e.Cause)
}

// Package upstream is a client of the Yunxin IM server API. Its Conn stands in
// for a gRPC connection, so the generated client stubs are the typed client: a
// call is looked up by its method name, encoded by the options of the protos,
// signed, sent, and its answer decoded. The package knows no service by name.
package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// The versions of the upstream's paths.
const (
	V2  = "v2"
	V21 = "v2.1" // where an operation has that form; replies say more
)

// Config says which upstream is called, and for which services.
type Config struct {
	// AppKey and AppSecret are the app's credentials.
	AppKey, AppSecret string
	// Endpoints are base URLs, which may carry a path prefix, in the order of
	// preference.
	Endpoints []string
	// LBS are URLs of the vendor's scheduling service, which is asked for
	// endpoints if there are any. They come before Endpoints once it answers.
	LBS []string
	// APIVersion is V2 or V21; V2 if empty.
	APIVersion string
	// Services are the services whose methods can be called.
	Services []protoreflect.ServiceDescriptor
	// Reasons is the enum that describes the error table.
	Reasons protoreflect.EnumDescriptor
	// Quotas are the app's rates.
	Quotas Quotas
	// ShareReads lets identical reads in flight share one upstream call.
	ShareReads bool
	// Dial makes connections; TCP if nil.
	Dial dialer
	// UserAgent names this program and its version; "yunxin-facade" if empty.
	UserAgent string
	// Log takes what callers must not see; slog.Default if nil.
	Log *slog.Logger
	// Now is the clock of signatures; time.Now if nil.
	Now func() time.Time
}

// Conn calls the upstream. It implements grpc.ClientConnInterface and is safe
// for concurrent use. Every error it returns is an *apierror.Error. It is also a
// prometheus.Collector of its metrics.
type Conn struct {
	appKey       string
	secrets      *secrets
	userAgent    string
	endpoints    map[string]*endpoint
	table        *apierror.Table
	pool         *pool
	flights      *flights[reply] // nil if reads are not shared
	largeReplies chan struct{}   // holds one for each that is read
	budget       *budget
	attempts     int
	clock        *clock
	metrics      *metrics
	log          *slog.Logger

	stop       context.CancelFunc // of what goes on in the background
	background sync.WaitGroup
}

var (
	_ grpc.ClientConnInterface = (*Conn)(nil)
	_ prometheus.Collector     = (*Conn)(nil)
)

// New makes a Conn. It checks that all methods have endpoints that fit their
// messages; it does not call the upstream.
func New(cfg Config) (*Conn, error) {
	if cfg.AppKey == "" || cfg.AppSecret == "" {
		return nil, errors.New("the app key and the app secret must both be given")
	}
	if strings.ContainsFunc(cfg.AppKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the app key must be ASCII without spaces: it is sent in a header")
	}
	if len(cfg.Endpoints) == 0 || cfg.Reasons == nil {
		return nil, errors.New("an endpoint and the error table must be given")
	}
	cfg.APIVersion = cmp.Or(cfg.APIVersion, V2)
	if !slices.Contains([]string{V2, V21}, cfg.APIVersion) {
		return nil, fmt.Errorf("API version %q: must be %s or %s", cfg.APIVersion, V2, V21)
	}
	table, err := apierror.TableOf(cfg.Reasons)
	if err != nil {
		return nil, fmt.Errorf("the error table: %w", err)
	}
	endpoints, err := newEndpoints(cfg.Services, cfg.APIVersion, cfg.Quotas)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		appKey: cfg.AppKey, secrets: newSecrets(cfg.AppSecret),
		userAgent:    cmp.Or(cfg.UserAgent, "yunxin-facade"),
		endpoints:    endpoints,
		table:        table,
		largeReplies: make(chan struct{}, maxLargeReplies),
		budget:       newBudget(),
		attempts:     maxAttempts,
		clock:        &clock{now: cfg.Now},
		metrics:      newMetrics(),
		log:          cmp.Or(cfg.Log, slog.Default()),
	}
	if c.clock.now == nil {
		c.clock.now = time.Now
	}
	if cfg.ShareReads {
		c.flights = new(flights[reply])
	}
	if c.pool, err = newPool(cfg.Endpoints, cfg.Dial, c.metrics, c.log); err != nil {
		return nil, err
	}
	if err := c.schedule(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// schedule begins to ask for endpoints, if there is somebody to ask.
func (c *Conn) schedule(cfg Config) error {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	if len(cfg.LBS) == 0 {
		return nil
	}
	s, err := newScheduler(schedulerConfig{
		lbs: cfg.LBS, appKey: c.appKey, userAgent: c.userAgent, dial: cfg.Dial, log: c.log,
		update: func(endpoints []string) {
			// The configured ones stay as a reserve: the service may name but one.
			if err := c.pool.set(slices.Concat(endpoints, cfg.Endpoints)); err != nil {
				c.log.WarnContext(ctx, "endpoints of the scheduling service cannot be called", "cause", err)
			}
		},
	})
	if err != nil {
		c.Close()
		return err
	}
	c.background.Go(func() { s.run(ctx) })
	return nil
}

func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("must be an http or https URL")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must have no user, query or fragment")
	default:
		return u, nil
	}
}

// Close ends what goes on in the background and closes idle connections.
func (c *Conn) Close() {
	c.stop()
	c.background.Wait()
	c.pool.close()
}

// Pressed tells whether calls of a method had better be saved: its quota is used
// up, or nearly so.
func (c *Conn) Pressed(method string) bool {
	e, ok := c.endpoints[method]
	return ok && e.quota.pressed()
}

func trimBase(base *url.URL) string { return strings.TrimRight(base.String(), "/") }

// Invoke calls the upstream operation behind a method.
func (c *Conn) Invoke(ctx context.Context, method string, args, into any, _ ...grpc.CallOption) error {
	e, ok := c.endpoints[method]
	request, isRequest := args.(proto.Message)
	message, isReply := into.(proto.Message)
	if !ok || !isRequest || !isReply {
		return c.table.Error(apierror.Internal, "no upstream operation for %s", method)
	}
	op, err := c.operation(ctx, method, e, request)
	if err != nil {
		return c.unsendable(ctx, err)
	}
	if ctx.Err() != nil {
		return c.complete(c.ended(ctx, op, attempt{}), op, attempt{})
	}
	answer, failure := c.carryOut(ctx, op)
	if failure != nil {
		c.logCause(ctx, method, failure)
		return failure
	}
	op.id = answer.id // another's if the call was shared
	d := decoder{status: func(code int64, text string) *statuspb.Status {
		return c.complete(c.table.Upstream(code, text), op, attempt{host: answer.host}).GRPCStatus().Proto()
	}}
	if err := d.decode(e.out, answer.data, message); err != nil {
		invalid := c.table.Error(apierror.ReplyInvalid, "the upstream's answer cannot be read")
		invalid.Cause = err
		err = c.complete(invalid, op, attempt{host: answer.host})
		c.logCause(ctx, method, err)
		return err
	}
	return nil
}

// turnedAway reports whether a call was not sent because it would have waited too
// long.
func turnedAway(e *apierror.Error) bool {
	return e.Reason == apierror.QuotaExceeded || e.Reason == apierror.Overloaded
}

// carryOut does what an operation says. Identical reads share what is done, but for
// those of callers who may have to wait longer than others.
func (c *Conn) carryOut(ctx context.Context, op operation) (reply, *apierror.Error) {
	if c.flights == nil {
		return c.do(ctx, op)
	}
	if op.class != read {
		defer c.flights.wrote()
		return c.do(ctx, op)
	}
	if callInfoOf(ctx).HasShare() {
		return c.do(ctx, op)
	}
	key := fmt.Sprintf("%s %s %s", op.name, op.target, op.body)
	l, ok := c.flights.do(ctx, key, func(ctx context.Context) (reply, *apierror.Error) { return c.do(ctx, op) })
	switch {
	case !ok:
		return reply{}, c.complete(c.ended(ctx, op, attempt{}), op, attempt{})
	case l.joined && l.err != nil && turnedAway(l.err):
		return c.do(ctx, op) // whoever began it may have had less time to wait
	case l.joined:
		c.metrics.shared.Inc()
	}
	if l.err != nil {
		l.err.TraceID = op.rpc
	}
	return l.reply, l.err
}

// NewStream refuses: the upstream has no streams.
func (c *Conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, c.table.Error(apierror.Internal, "no upstream stream for %s", method)
}

// unsendable makes the error for a request that cannot be written.
func (c *Conn) unsendable(ctx context.Context, err error) *apierror.Error {
	field, ok := errors.AsType[*fieldError](err)
	if !ok {
		e := c.table.Error(apierror.Internal, "the request cannot be written")
		e.Cause = err
		return e
	}
	e := c.table.Error(apierror.InvalidRequest, "%s %s", field.path, field.rule)
	e.TraceID = CallInfoOf(ctx).TraceID
	e.Violations = []apierror.Violation{{Field: field.path, Description: field.rule, Rule: "wire"}}
	return e
}

// logCause logs what is behind an error, for callers get no more than its kind.
func (c *Conn) logCause(ctx context.Context, method string, err error) {
	e, ok := errors.AsType[*apierror.Error](err)
	if !ok || e.Cause == nil {
		return
	}
	c.log.WarnContext(ctx, "upstream call failed",
		"method", method, "reason", e.Reason, "trace_id", e.TraceID, "upstream_trace_id", e.UpstreamTraceID, "endpoint", e.Endpoint, "cause", e.Cause)
}

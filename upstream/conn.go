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
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
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
	// Endpoints are base URLs, which may carry a path prefix. The first is
	// called.
	Endpoints []string
	// APIVersion is V2 or V21; V2 if empty.
	APIVersion string
	// Services are the services whose methods can be called.
	Services []protoreflect.ServiceDescriptor
	// Reasons is the error table.
	Reasons *Reasons
	// Dial makes connections; TCP if nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// UserAgent names this program and its version; "yunxin-facade" if empty.
	UserAgent string
	// Log takes what callers must not see; slog.Default if nil.
	Log *slog.Logger
	// Now is the clock of signatures; time.Now if nil.
	Now func() time.Time
}

// Conn calls the upstream. It implements grpc.ClientConnInterface and is safe
// for concurrent use. Every error it returns is an *Error.
type Conn struct {
	appKey, appSecret string
	base, host        string
	userAgent         string
	endpoints         map[string]*endpoint
	reasons           *Reasons
	http              *http.Client
	budget            *budget
	attempts          int
	now               func() time.Time
	log               *slog.Logger
}

var _ grpc.ClientConnInterface = (*Conn)(nil)

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
	base, err := baseURL(cfg.Endpoints[0])
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", cfg.Endpoints[0], err)
	}
	cfg.APIVersion = cmp.Or(cfg.APIVersion, V2)
	if !slices.Contains([]string{V2, V21}, cfg.APIVersion) {
		return nil, fmt.Errorf("API version %q: must be %s or %s", cfg.APIVersion, V2, V21)
	}
	table, err := endpoints(cfg.Services, cfg.APIVersion)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		appKey: cfg.AppKey, appSecret: cfg.AppSecret,
		base: strings.TrimRight(base.String(), "/"), host: base.Host,
		userAgent: cmp.Or(cfg.UserAgent, "yunxin-facade"),
		endpoints: table,
		reasons:   cfg.Reasons,
		http:      newHTTPClient(cfg.Dial),
		budget:    newBudget(),
		attempts:  maxAttempts,
		now:       cfg.Now,
		log:       cmp.Or(cfg.Log, slog.Default()),
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("must be an http or https URL")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must have no user, query or fragment")
	default:
		return u, nil
	}
}

// Close closes idle connections.
func (c *Conn) Close() { c.http.CloseIdleConnections() }

// Invoke calls the upstream operation behind a method.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	e, ok := c.endpoints[method]
	request, isRequest := args.(proto.Message)
	answer, isReply := reply.(proto.Message)
	if !ok || !isRequest || !isReply {
		return c.reasons.Error(ctx, reasonInternal, "no upstream operation for %s", method)
	}
	op, err := c.operation(ctx, method, e, request)
	if err != nil {
		return c.unsendable(ctx, err)
	}
	if ctx.Err() != nil {
		return c.complete(c.ended(ctx, op, attempt{}), op, attempt{status: http.StatusOK})
	}
	data, err := c.do(ctx, op)
	if err != nil {
		c.logCause(ctx, method, err)
		return err
	}
	d := decoder{status: func(code int64, message string) *statuspb.Status {
		return c.complete(c.reasons.refusal(code, message), op, attempt{status: http.StatusOK}).GRPCStatus().Proto()
	}}
	if err := d.decode(e.out, data, answer); err != nil {
		invalid := c.reasons.Error(ctx, reasonReplyInvalid, "the upstream's answer cannot be read")
		invalid.cause = err
		err = c.complete(invalid, op, attempt{status: http.StatusOK})
		c.logCause(ctx, method, err)
		return err
	}
	return nil
}

// NewStream refuses: the upstream has no streams.
func (c *Conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, c.reasons.Error(ctx, reasonInternal, "no upstream stream for %s", method)
}

// unsendable makes the error for a request that cannot be written.
func (c *Conn) unsendable(ctx context.Context, err error) *Error {
	field, ok := errors.AsType[*fieldError](err)
	if !ok {
		e := c.reasons.Error(ctx, reasonInternal, "the request cannot be written")
		e.cause = err
		return e
	}
	e := c.reasons.Error(ctx, reasonInvalidRequest, "%s %s", field.path, field.rule)
	e.Violations = []Violation{{Field: field.path, Description: field.rule, Rule: "wire"}}
	return e
}

// logCause logs what is behind an error, for callers get no more than its kind.
func (c *Conn) logCause(ctx context.Context, method string, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.cause == nil {
		return
	}
	c.log.WarnContext(ctx, "upstream call failed",
		"method", method, "reason", e.Reason, "trace_id", e.TraceID, "upstream_trace_id", e.UpstreamTraceID, "endpoint", e.Endpoint, "cause", e.cause)
}

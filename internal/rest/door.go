// Package rest is the REST door. What it adds to the generated gateway is exactness: an id
// arrives as it was sent or not at all, what is not known is refused, and every error
// looks the same. Calls go on to the handlers of the gRPC services in this process, and
// pass the same chain as those of the gRPC door.
package rest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// Grace is the time that a call has after its deadline to tell what became of it.
const Grace = 5 * time.Second

// Chain is what the calls of all doors pass.
type Chain interface {
	// Identify refuses a call if there are too many, and otherwise finds out who makes
	// it. The door asks before it reads the body.
	Identify(ctx context.Context, info *callinfo.Info, shown Credentials) error
	// Refuse completes an error of the door. It records the call as ended, unless it
	// has entered the chain, which records it then.
	Refuse(ctx context.Context, info *callinfo.Info, err error, entered bool) *apierror.Error
}

// Credentials are what a call shows of its caller.
type Credentials struct {
	Authorization, APIKey []string             // the values of these headers
	TLS                   *tls.ConnectionState // nil without TLS
}

// Options say what is behind a door.
type Options struct {
	Chain   Chain
	Methods callinfo.Methods
	// Authenticated says that callers prove who they are.
	Authenticated bool
	// MaxBody is the largest size of a body in bytes.
	MaxBody int64
	// StreamTime is the longest time that a stream may take.
	StreamTime time.Duration
	// Pages says that the page of the API is served too.
	Pages bool
}

// Door is an http.Handler. The services are registered with it first, and then their
// routes.
type Door struct {
	Options

	conn        *conn
	mux         *runtime.ServeMux
	marshaler   *marshaler
	routes      routes
	bodies      atomic.Int64 // bytes that bodies may still take
	pages       http.Handler
	crossOrigin http.CrossOriginProtection
}

// New returns a door without services.
func New(o Options) (*Door, error) {
	all, err := newRoutes(o.Methods)
	if err != nil {
		return nil, fmt.Errorf("the routes: %w", err)
	}
	d := &Door{Options: o, routes: all, pages: newPages(), conn: &conn{methods: o.Methods, unary: map[string]unaryHandler{}, streams: map[string]streamHandler{}}}
	d.bodies.Store(largestBodies * o.MaxBody)
	d.marshaler = &marshaler{JSONPb: runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{UseProtoNames: true}}, door: d}
	d.mux = d.newMux()
	return d, nil
}

// RegisterService implements grpc.ServiceRegistrar. The handlers must lead through the
// chain.
func (d *Door) RegisterService(desc *grpc.ServiceDesc, impl any) { d.conn.RegisterService(desc, impl) }

// RegisterRoutes registers REST views of the services.
func (d *Door) RegisterRoutes(register func(context.Context, *runtime.ServeMux, grpc.ClientConnInterface) error) error {
	return register(context.Background(), d.mux, d.conn)
}

func (d *Door) newMux() *runtime.ServeMux {
	none := func(string) (string, bool) { return "", false }
	return runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, d.marshaler),
		// No header becomes metadata, and no metadata a header.
		runtime.WithIncomingHeaderMatcher(none),
		runtime.WithOutgoingHeaderMatcher(none),
		runtime.WithOutgoingTrailerMatcher(none),
		// A POST is a POST.
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		// ServeHTTP hands over the path still encoded, and checkParameters decodes it.
		// The mux must not: none of its own modes keeps both %2F and %252F what they
		// were.
		runtime.WithUnescapingMode(runtime.UnescapingModeLegacy),
		runtime.WithMiddlewares(d.identify, d.checkParameters),
		runtime.WithErrorHandler(d.handleError),
		runtime.WithStreamErrorHandler(d.handleStreamError),
		runtime.WithRoutingErrorHandler(d.handleRoutingError),
	)
}

// ServeHTTP implements http.Handler. There is no http.ServeMux in front: it redirects
// paths such as /v1/conversations/.. to what it takes them for.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, r := d.newCall(w, r)
	w.Header().Set(callinfo.TraceHeader, c.info.TraceID)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	defer c.handlers.Wait()
	defer c.body.settle()
	defer func() {
		if value := recover(); value != nil {
			d.answerPanic(c, r, value)
		}
	}()
	if err := d.checkHost(r); err != nil {
		d.refuseUnread(c, r, err)
		return
	}
	if d.Pages && isPage(r.URL.Path) {
		d.servePage(c, r)
		return
	}
	if err := d.admit(c, r); err != nil {
		d.writeError(c, r, err)
		return
	}
	d.mux.ServeHTTP(c, withRawPath(r))
}

// identify notes the route of a call, and finds out who makes it before its body is read.
func (d *Door) identify(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		c := callOf(r.Context())
		pattern, _ := runtime.HTTPPattern(r.Context())
		c.info.Name = routeKey(c.info.Name, pattern.String())
		if c.route = d.routes[c.info.Name]; c.route != nil {
			c.info.Method = c.route.method
		}
		err := d.Chain.Identify(r.Context(), c.info, Credentials{
			Authorization: r.Header.Values(callinfo.AuthorizationHeader),
			APIKey:        r.Header.Values(callinfo.APIKeyHeader),
			TLS:           r.TLS,
		})
		if err != nil {
			d.refuseUnread(w, r, err)
			return
		}
		next(w, r, path)
	}
}

// checkHost prevents DNS rebinding: a site can make its own name mean 127.0.0.1, and then its
// pages in a browser on this machine have the same origin as the server. Where callers do not
// prove who they are, the Host of a call over loopback must be a local one.
func (d *Door) checkHost(r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if d.Authenticated || local == nil || !local.IP.IsLoopback() || isLocalHost(r.Host) {
		return nil
	}
	return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		"the header Host is %q: without --callers-file it must be localhost or an IP address", callinfo.Shorten(r.Host))
}

// isLocalHost reports whether nobody else can give the name in a header Host a meaning.
// Browsers do not look up localhost, and always send a Host.
func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// admit refuses calls for what their headers say.
func (d *Door) admit(c *call, r *http.Request) error {
	if r.ContentLength > d.MaxBody {
		return d.tooLarge()
	}
	// A page in somebody's browser could call a server on the same machine, where callers
	// may not have to prove who they are, or show the browser's certificate. Browsers say
	// where a call comes from.
	if err := d.crossOrigin.Check(r); err != nil {
		return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "calls from pages of other sites are refused")
	}
	const header = "Grpc-Timeout"
	if text := r.Header.Get(header); text != "" {
		// The generated code must not see it: it would set a deadline of its own.
		r.Header.Del(header)
		if c.info.Timeout = parseTimeout(text); c.info.Timeout == 0 {
			return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s must be up to 8 digits and one of H, M, S, m, u, n", header)
		}
	}
	return nil
}

// answerPanic answers a panic of the door. The chain has recovered those of handlers.
func (d *Door) answerPanic(c *call, r *http.Request, value any) {
	if value == http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
		panic(value)
	}
	e := d.complete(r.Context(), callinfo.Recovered(value))
	if c.wrote {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	d.write(c, e)
}

// handleError answers a call that failed: in the services, which say why, or on the way to
// them, where the generated code keeps an error's text only.
func (d *Door) handleError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(ctx)
	c.failed = true
	d.writeError(w, r, c.cause(err))
}

// handleStreamError ends a stream that failed. If nothing was written yet, the answer is
// that of a unary call, not a line of a stream.
func (d *Door) handleStreamError(ctx context.Context, err error) *status.Status {
	c := callOf(ctx)
	c.failed = true
	e := d.complete(ctx, c.cause(err))
	if !c.wrote {
		d.write(c, e)
		c.closed = true // what the generated code writes now is the same again
	}
	return e.GRPCStatus()
}

// endStream writes the last line of a stream that did not end in an error. Without that
// line, a stream that was cut off would look complete.
func (d *Door) endStream(ctx context.Context) {
	c := callOf(ctx)
	if c.failed {
		return
	}
	line := []byte(`{"status":{"code":0}}`)
	if err := c.cause(nil); err != nil { // the rest of the body never reached the service
		s := d.handleStreamError(ctx, err)
		line, _ = d.marshaler.Marshal(map[string]proto.Message{"error": s.Proto()})
	}
	if !c.wrote {
		c.Header().Set("Content-Type", "application/json")
	}
	_, _ = c.Write(append(line, '\n'))
}

func (d *Door) handleRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	if code == http.StatusMethodNotAllowed {
		d.refuseMethod(w, r, d.routes.methods(r.URL.Path))
		return
	}
	d.writeError(w, r, apierror.New(imv1.ErrorReason_ERROR_REASON_ROUTE_NOT_FOUND, "there is no such path"))
}

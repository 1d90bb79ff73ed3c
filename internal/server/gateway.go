package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// Limits of the HTTP servers that nobody has needed to change.
const (
	maxHeaderBytes = 32 << 10 // of which ids in paths and queries are the most
	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	exchangeGrace  = 5 * time.Second
)

// newHTTPServer returns a server that no slow client can hold for ever.
func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // one call at a time on a connection, see room
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// buildREST makes the REST view. It reaches the services through a gRPC
// connection like every other caller, so it passes the whole chain.
func (s *Server) buildREST(refusals *refusals, api api) (err error) {
	s.loop, err = grpc.NewClient("passthrough:///loop",
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return s.listeners.loop.dial(ctx, "", addr) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the bytes do not leave the process
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxReplyBytes),
			grpc.MaxCallSendMsgSize(2*int(s.cfg.MaxRequestBytes))),
		grpc.WithUnaryInterceptor(passUnary),
		grpc.WithStreamInterceptor(passStream),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	g := &gateway{
		refusals: refusals, telemetry: s.telemetry, admission: s.admission, pages: newPages(),
		maxBody: int64(s.cfg.MaxRequestBytes), streamTime: s.cfg.MaxStreamTime, access: s.access, hasPages: s.cfg.Docs,
	}
	if g.routes, err = newRoutes(service.Descriptors()); err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	g.bodies.Store(largestBodies * g.maxBody)
	g.marshaler = newMarshaler(g)
	g.mux = g.newMux()
	if err := api.routes(context.Background(), g.mux, s.loop); err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	s.rest = newHTTPServer(g, s.log)
	if s.identity != nil {
		s.rest.TLSConfig = s.identity.forHTTP()
	}
	// Longer than any call: when the time to read is over, net/http cancels
	// the request even if its body was read long ago.
	s.rest.ReadTimeout = 2*s.cfg.MaxTimeout + exchangeGrace
	s.rest.WriteTimeout = s.rest.ReadTimeout
	return nil
}

// gateway is the REST door. What it adds to the generated gateway is exactness:
// an id arrives as it was sent or not at all, what is not known is refused, and
// every error looks the same.
type gateway struct {
	*refusals

	telemetry   *telemetry
	admission   *admission
	access      *access // nil if callers are not authenticated
	mux         *runtime.ServeMux
	marshaler   *marshaler
	routes      routes
	maxBody     int64
	bodies      atomic.Int64 // bytes that bodies may still take
	streamTime  time.Duration
	pages       http.Handler
	hasPages    bool
	crossOrigin http.CrossOriginProtection
}

func (g *gateway) newMux() *runtime.ServeMux {
	none := func(string) (string, bool) { return "", false }
	return runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, g.marshaler),
		// Callers cannot set metadata but for the app and the idempotency key, see
		// callMetadata, and see none but the trace id, which ServeHTTP writes
		// itself.
		runtime.WithIncomingHeaderMatcher(none),
		runtime.WithOutgoingHeaderMatcher(none),
		runtime.WithOutgoingTrailerMatcher(none),
		runtime.WithMetadata(callMetadata),
		// A POST is a POST.
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		// ServeHTTP hands over the path still encoded and checkParameters
		// decodes it: the mux must not. None of its own modes keeps %2F, or
		// else %252F, what it was.
		runtime.WithUnescapingMode(runtime.UnescapingModeLegacy),
		runtime.WithMiddlewares(g.shed, g.authenticate, g.checkParameters),
		runtime.WithErrorHandler(g.handleError),
		runtime.WithStreamErrorHandler(g.handleStreamError),
		runtime.WithRoutingErrorHandler(g.handleRoutingError),
	)
}

// callMetadata tells the gRPC server what the gateway knows of a call.
func callMetadata(ctx context.Context, r *http.Request) metadata.MD {
	md := metadata.Pairs(traceHeader, upstream.CallInfoOf(ctx).TraceID, callerHeader, hostOf(r.RemoteAddr))
	md.Set(keyHeader, portable(r.Header.Values(keyHeader))...)
	md.Set(appHeader, portable(r.Header.Values(appHeader))...)
	if e := exchangeIn(ctx); e.timeout > 0 {
		md.Set(timeoutHeader, e.timeout.String())
	}
	return md
}

// portable returns values as metadata can carry them. The others could not leave
// the gateway. They arrive empty, or as just too many or too long, to be refused as
// what they are.
func portable(values []string) []string {
	const most = 2 // one is right
	values = slices.Clone(values[:min(len(values), most)])
	for i, value := range values {
		values[i] = value[:min(len(value), maxKeyLength+1)]
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			values[i] = ""
		}
	}
	return values
}

// ServeHTTP implements http.Handler. There is no http.ServeMux in front: it
// redirects paths such as /v1/conversations/.. to what it takes them for.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := upstream.NewTraceID()
	w.Header().Set(traceHeader, id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	e, r := newExchange(w, r.WithContext(upstream.WithCallInfo(r.Context(), upstream.CallInfo{TraceID: id})), g.maxBody, &g.bodies)
	defer e.body.settle()
	defer func() {
		if value := recover(); value != nil {
			g.answerPanic(e, r, value)
		}
	}()
	e.credentials = g.takeCredentials(r)
	if err := g.checkHost(r); err != nil {
		g.refuseUnread(e, r, err)
		return
	}
	if g.hasPages && isPage(r.URL.Path) {
		g.servePage(e, r)
		return
	}
	if err := g.admit(e, r); err != nil {
		g.writeError(e, r, err)
		return
	}
	g.mux.ServeHTTP(e, withRawPath(r))
}

// checkHost refuses pages of other sites that pass for this one: a site may make its
// own name mean 127.0.0.1, and then its pages in a browser on this machine have the
// same origin as the server. Where nobody proves who calls, a call that comes in over
// loopback must say so.
func (g *gateway) checkHost(r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if g.access != nil || local == nil || !local.IP.IsLoopback() || isLocalHost(r.Host) {
		return nil
	}
	return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		"the header Host is %q: without --callers-file it must be localhost or an IP address", cut(r.Host))
}

// isLocalHost tells whether a header Host holds no name that others could give
// another meaning. Browsers do not look localhost up, and always send a Host.
func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// admit refuses what need not be read any further.
func (g *gateway) admit(e *exchange, r *http.Request) error {
	if r.ContentLength > g.maxBody {
		return g.tooLarge()
	}
	// A page in somebody's browser could call a server on the same machine, where
	// no caller may have to prove who it is, or show the browser's certificate.
	// Browsers tell where a call comes from.
	if err := g.crossOrigin.Check(r); err != nil {
		return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "calls from pages of other sites are refused")
	}
	const header = "Grpc-Timeout"
	text := r.Header.Get(header)
	if text == "" {
		return nil
	}
	// The gateway itself must not see it, see limitTime.
	r.Header.Del(header)
	timeout, ok := parseTimeout(text)
	if !ok {
		return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s must be up to 8 digits and one of H, M, S, m, u, n", header)
	}
	e.timeout = timeout
	return nil
}

// answerPanic is for a panic of the gateway's own. One in a handler arrives here
// as an error.
func (g *gateway) answerPanic(e *exchange, r *http.Request, value any) {
	if value == http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
		panic(value)
	}
	g.logPanic(r.Context(), value)
	if e.wrote {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	g.writeError(e, r, apierror.New(imv1.ErrorReason_ERROR_REASON_INTERNAL, internalText))
}

// handleError answers a call that failed: in the services, which say why, or on
// the way to them, where the generated code keeps an error's text only.
func (g *gateway) handleError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	e := exchangeIn(ctx)
	e.failed = true
	g.writeError(w, r, e.cause(err))
}

// handleStreamError is for a stream that failed. If nothing was written yet, the
// answer is that of a unary call, not a line of a stream.
func (g *gateway) handleStreamError(ctx context.Context, err error) *status.Status {
	e := exchangeIn(ctx)
	e.failed = true
	s := g.statusOf(ctx, e.cause(err))
	if !e.wrote {
		g.writeStatus(e, s)
		e.closed = true // what the generated code writes now is the same again
	}
	return s
}

// endStream writes the last line of a stream that did not end in an error.
// Without that line, a stream that was cut off would look complete.
func (g *gateway) endStream(ctx context.Context) {
	e := exchangeIn(ctx)
	if e.failed {
		return
	}
	line := []byte(`{"status":{"code":0}}`)
	if err := e.cause(nil); err != nil { // the rest of the body never reached the service
		s := g.handleStreamError(ctx, err)
		line, _ = g.marshaler.Marshal(map[string]proto.Message{"error": s.Proto()})
	}
	if !e.wrote {
		e.Header().Set("Content-Type", "application/json")
	}
	_, _ = e.Write(append(line, '\n'))
}

func (g *gateway) handleRoutingError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	if code == http.StatusMethodNotAllowed {
		g.refuseMethod(w, r, g.routes.methods(r.URL.Path))
		return
	}
	g.writeError(w, r, apierror.New(imv1.ErrorReason_ERROR_REASON_ROUTE_NOT_FOUND, "there is no such path"))
}

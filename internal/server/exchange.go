package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/yunxin-facade/yunxin-facade/internal/auth"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// exchange is one REST call on its way through the gateway. The generated code
// passes errors on as text, and knows nothing of what was written before; both
// would be lost without it.
type exchange struct {
	http.ResponseWriter

	begin   time.Time
	request *http.Request
	body    *body
	// What the caller shows; kept here, for what the gateway does not pass on stays
	// out of all metadata.
	credentials auth.Credentials
	timeout     time.Duration     // the caller's wish, or 0
	streaming   bool              // the body may hold many messages
	path        map[string]string // what the path says of a request that is the body
	wrote       bool              // the answer has begun
	failed      bool              // the answer is an error, or ends in one
	closed      bool              // the answer is complete, what follows is dropped
	passed      bool              // the gRPC server has the call, and tells of it

	refusal atomic.Pointer[apierror.Error] // why the body was refused
}

type exchangeKey struct{}

// exchangeIn returns the exchange of a context that descends from a REST call's.
func exchangeIn(ctx context.Context) *exchange {
	e, _ := ctx.Value(exchangeKey{}).(*exchange)
	return e
}

// newExchange begins an exchange, and makes it known to all who get to see the
// request it returns, or its body.
func newExchange(w http.ResponseWriter, r *http.Request, maxBody int64, budget *atomic.Int64) (*exchange, *http.Request) {
	e := &exchange{ResponseWriter: w, begin: time.Now()}
	e.body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, maxBody), exchange: e, budget: budget}
	r = r.WithContext(context.WithValue(withFacts(r.Context()), exchangeKey{}, e))
	r.Body = e.body
	e.request = r
	return e, r
}

// passUnary and passStream note which calls leave the gateway.
func passUnary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption) error {
	exchangeIn(ctx).passed = true
	return next(ctx, method, req, reply, conn, options...)
}

func passStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	exchangeIn(ctx).passed = true
	return next(ctx, desc, conn, method, options...)
}

// WriteHeader implements http.ResponseWriter.
func (e *exchange) WriteHeader(code int) {
	if e.closed {
		return
	}
	e.wrote = true
	e.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (e *exchange) Write(p []byte) (int, error) {
	if e.closed {
		return len(p), nil
	}
	e.wrote = true
	return e.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController, which flushes streams.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// allow gives a stream more time than a unary call has, and lets it answer while
// its body still arrives.
func (e *exchange) allow(longest time.Duration) {
	control := http.NewResponseController(e)
	deadline := e.begin.Add(longest + exchangeGrace)
	// Errors mean that the server cannot do it; then its own limits stay.
	_ = control.SetReadDeadline(deadline)
	_ = control.SetWriteDeadline(deadline)
	_ = control.EnableFullDuplex()
}

// cause returns why the body was refused, or else the error that a call ended
// in, which may only be what came of that.
func (e *exchange) cause(err error) error {
	if refusal := e.refusal.Load(); refusal != nil {
		return refusal
	}
	return err
}

// withRawPath puts the path, encoded as it was sent, where the mux looks for it,
// and leaves the host out.
func withRawPath(r *http.Request) *http.Request {
	u := *r.URL
	// RawPath is empty if the default encoding of Path is what was sent.
	// EscapedPath is not always that: it drops a RawPath that is not well
	// encoded, such as "a%2F|b", and the slash with it.
	if u.Path = u.RawPath; u.Path == "" {
		u.Path = r.URL.EscapedPath()
	}
	u.RawPath = ""
	r = r.WithContext(r.Context())
	r.URL = &u
	r.Host = "" // else it becomes metadata
	return r
}

// parseTimeout reads the header grpc-timeout: up to 8 digits and a unit.
func parseTimeout(s string) (time.Duration, bool) {
	units := map[string]time.Duration{
		"H": time.Hour, "M": time.Minute, "S": time.Second,
		"m": time.Millisecond, "u": time.Microsecond, "n": time.Nanosecond,
	}
	const maxDigits = 8
	if len(s) < 2 || len(s) > maxDigits+1 {
		return 0, false
	}
	digits := s[:len(s)-1]
	unit, ok := units[s[len(s)-1:]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || strings.TrimLeft(digits, "0123456789") != "" || n == 0 {
		return 0, false
	}
	// 8 digits of hours do not fit a Duration; no timeout is that long anyway.
	return time.Duration(min(n, int64(24*365*time.Hour/unit))) * unit, true
}

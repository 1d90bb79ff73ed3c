package rest

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// call is one REST call on its way through the door. The generated code passes errors on
// as text, and does not know what was written before. The call keeps both.
type call struct {
	http.ResponseWriter

	info     *callinfo.Info
	body     *body
	route    *route            // nil if the path is none of the API
	path     map[string]string // what the path says of a request that is the body
	entered  bool              // the chain has the call, and records it
	wrote    bool              // the answer has begun
	failed   bool              // the answer is an error, or ends in one
	closed   bool              // the answer is complete, and what follows is dropped
	handlers sync.WaitGroup    // of streams

	refusal atomic.Pointer[apierror.Error] // why the body was refused
}

type callKey struct{}

// callOf returns the REST call that a context descends from.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// newCall begins a call, and makes it known to all who get to see the request it returns,
// or its body.
func (d *Door) newCall(w http.ResponseWriter, r *http.Request) (*call, *http.Request) {
	c := &call{ResponseWriter: w, info: &callinfo.Info{
		Door: callinfo.REST, TraceID: upstream.NewTraceID(), Begin: time.Now(),
		Address: callinfo.Host(r.RemoteAddr), Name: callinfo.Shorten(r.Method),
		Apps: r.Header.Values(callinfo.AppHeader), Keys: r.Header.Values(callinfo.KeyHeader),
	}}
	c.body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, d.MaxBody), call: c, budget: &d.bodies}
	r = r.WithContext(context.WithValue(callinfo.With(r.Context(), c.info), callKey{}, c))
	r.Body = c.body
	return c, r
}

// manyMessages reports whether the body may hold more than one message.
func (c *call) manyMessages() bool {
	return c.route != nil && c.route.method.Descriptor.IsStreamingClient()
}

// WriteHeader implements http.ResponseWriter.
func (c *call) WriteHeader(code int) {
	if c.closed {
		return
	}
	c.wrote = true
	c.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (c *call) Write(p []byte) (int, error) {
	if c.closed {
		return len(p), nil
	}
	c.wrote = true
	return c.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController, which flushes streams.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// allow gives a stream more time than a unary call has, and permits it to answer while its
// body still arrives. If the server cannot do it, its own limits stay.
func (c *call) allow(longest time.Duration) {
	control := http.NewResponseController(c)
	deadline := c.info.Begin.Add(longest + Grace)
	_ = control.SetReadDeadline(deadline)
	_ = control.SetWriteDeadline(deadline)
	_ = control.EnableFullDuplex()
}

// cause returns why the body was refused, or otherwise the error that the call ended in. The
// second may be a consequence of the first.
func (c *call) cause(err error) error {
	if refusal := c.refusal.Load(); refusal != nil {
		return refusal
	}
	return err
}

// withRawPath puts the path, encoded as it was sent, where the mux looks for it.
func withRawPath(r *http.Request) *http.Request {
	u := *r.URL
	// RawPath is empty if the default encoding of Path is what was sent. EscapedPath alone
	// would not do: it ignores a RawPath that is not well encoded, such as "a%2F|b".
	if u.Path = u.RawPath; u.Path == "" {
		u.Path = r.URL.EscapedPath()
	}
	u.RawPath = ""
	r = r.WithContext(r.Context())
	r.URL = &u
	return r
}

var (
	timeoutForm  = regexp.MustCompile(`^(\d{1,8})([HMSmun])$`)
	timeoutUnits = map[string]time.Duration{
		"H": time.Hour, "M": time.Minute, "S": time.Second,
		"m": time.Millisecond, "u": time.Microsecond, "n": time.Nanosecond,
	}
)

// parseTimeout reads the header grpc-timeout, and returns 0 if it is malformed.
func parseTimeout(s string) time.Duration {
	match := timeoutForm.FindStringSubmatch(s)
	if match == nil {
		return 0
	}
	unit := timeoutUnits[match[2]]
	n, _ := strconv.ParseInt(match[1], 10, 64) // it has a few digits
	// 8 digits of hours do not fit a Duration. No timeout is that long anyway.
	return time.Duration(min(n, int64(24*365*time.Hour/unit))) * unit
}

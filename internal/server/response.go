package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// writeError answers with an error.
func (g *gateway) writeError(w http.ResponseWriter, r *http.Request, err error) {
	g.writeStatus(w, g.statusOf(r.Context(), err))
}

// refuseUnread answers a call whose body nobody has read. Without the end of the
// connection, net/http would wait for the body before it answers; and in full
// duplex, it can break off the next call on the connection.
func (g *gateway) refuseUnread(w http.ResponseWriter, r *http.Request, err error) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	g.writeError(w, r, err)
}

// writeStatus answers with the google.rpc.Status that gRPC callers get, as JSON,
// under the HTTP status that fits.
func (g *gateway) writeStatus(w http.ResponseWriter, s *status.Status) {
	body, _ := g.marshaler.Marshal(s.Proto()) // the types of all details are linked in
	header := w.Header()
	header.Set("Content-Type", "application/json")
	if retry, ok := detail[*errdetails.RetryInfo](s); ok {
		// Rounded up: whoever comes too early is refused again.
		seconds := (retry.GetRetryDelay().AsDuration() + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	if s.Code() == codes.Unauthenticated {
		header.Set("WWW-Authenticate", "Bearer")
	}
	info, _ := detail[*errdetails.ErrorInfo](s)
	w.WriteHeader(HTTPStatus(info.GetReason(), s.Code()))
	_, _ = w.Write(body) //nolint:gosec // JSON, and the header says so
}

// refuseMethod answers a call of a path that exists for other methods.
func (g *gateway) refuseMethod(w http.ResponseWriter, r *http.Request, allowed []string) {
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	g.writeError(w, r, apierror.New(imv1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED, "the path takes %s, not %s", list, r.Method))
}

func (g *gateway) tooLarge() *apierror.Error {
	return apierror.New(imv1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE, "the body is larger than %d bytes", g.maxBody)
}

// statusOf returns the status for callers. The gRPC server has completed and
// logged the errors that come from it; those of the gateway itself, of which it
// knows nothing, are completed and logged here. So that no call counts twice,
// they count only if the server never had the call.
func (g *gateway) statusOf(ctx context.Context, err error) *status.Status {
	if _, ours := errors.AsType[*apierror.Error](err); !ours {
		s := status.Convert(err)
		if _, complete := detail[*errdetails.ErrorInfo](s); complete {
			return s
		}
	}
	refusal := g.complete(ctx, err)
	e := exchangeIn(ctx)
	c := call{
		door: doorREST, address: hostOf(e.request.RemoteAddr), name: cut(e.request.Method),
		begin: e.begin, code: refusal.Code, reason: refusal.Reason,
	}
	if pattern, ok := runtime.HTTPPattern(ctx); ok {
		c.name = routeKey(c.name, pattern.String())
		if route := g.routes[c.name]; route != nil {
			c.method = route.method
		}
	}
	if e.passed {
		g.telemetry.line(ctx, c)
	} else {
		g.telemetry.record(ctx, c, denialAttrs(err)...)
	}
	return refusal.GRPCStatus()
}

// HTTPStatus returns the HTTP status of an error: the usual one for its code, but
// for two reasons that HTTP knows better.
func HTTPStatus(reason string, code codes.Code) int {
	switch reason {
	case "REQUEST_TOO_LARGE":
		return http.StatusRequestEntityTooLarge
	case "METHOD_NOT_ALLOWED":
		return http.StatusMethodNotAllowed
	default:
		return runtime.HTTPStatusFromCode(code)
	}
}

// detail returns the first detail of a type.
func detail[T proto.Message](s *status.Status) (T, bool) {
	for _, d := range s.Details() {
		if found, ok := d.(T); ok {
			return found, true
		}
	}
	var none T
	return none, false
}

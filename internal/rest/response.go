package rest

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// writeError answers with the google.rpc.Status that gRPC callers get, as JSON, under the
// HTTP status that fits.
func (d *Door) writeError(w http.ResponseWriter, r *http.Request, err error) {
	d.write(w, d.complete(r.Context(), err))
}

// refuseUnread answers a call whose body nobody has read. Without the end of the
// connection, net/http would wait for the body before it answers; and in full duplex, it
// can break off the next call on the connection.
func (d *Door) refuseUnread(w http.ResponseWriter, r *http.Request, err error) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	d.writeError(w, r, err)
}

func (d *Door) write(w http.ResponseWriter, e *apierror.Error) {
	body, _ := d.marshaler.Marshal(e.GRPCStatus().Proto()) // the types of all details are linked in
	header := w.Header()
	header.Set("Content-Type", "application/json")
	if wait := e.RetryAfter(); wait > 0 {
		// Rounded up: whoever comes too early is refused again.
		header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	if e.Code == codes.Unauthenticated {
		header.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(cmp.Or(e.RESTStatus, runtime.HTTPStatusFromCode(e.Code)))
	_, _ = w.Write(body) //nolint:gosec // JSON, and the header says so
}

// refuseMethod answers a call of a path that exists for other methods.
func (d *Door) refuseMethod(w http.ResponseWriter, r *http.Request, allowed []string) {
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	d.writeError(w, r, apierror.New(imv1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED, "the path takes %s, not %s", list, r.Method))
}

func (d *Door) tooLarge() *apierror.Error {
	return apierror.New(imv1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE, "the body is larger than %d bytes", d.MaxBody)
}

// complete returns the error for callers. The chain has completed and recorded those that
// come from it, which thus have a trace id. Those of the door itself are recorded here; of
// a call that the chain records, they are only logged, so that no call counts twice.
func (d *Door) complete(ctx context.Context, err error) *apierror.Error {
	if e, ok := errors.AsType[*apierror.Error](err); ok && e.TraceID != "" {
		return e
	}
	c := callOf(ctx)
	return d.Chain.Refuse(ctx, c.info, err, c.entered)
}

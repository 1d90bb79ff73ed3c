package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// get calls GetConversation over gRPC and returns the trace id of the header.
func (r *running) get(ctx context.Context, id string) (header string, err error) {
	var md metadata.MD
	_, err = imv1.NewConversationServiceClient(r.conn).GetConversation(ctx,
		&imv1.GetConversationRequest{ConversationId: id}, grpc.Header(&md))
	return strings.Join(md.Get(callinfo.TraceHeader), ","), err
}

func TestPanic(t *testing.T) {
	h := &handlers{get: func(context.Context, *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		panic("kaboom")
	}}
	r := start(t, h.api())
	header, err := r.get(t.Context(), "a|1|b")
	reason, id := reasonOf(t, err)
	if status.Code(err) != codes.Internal || reason != "INTERNAL" || id != header || len(id) != 32 {
		t.Errorf("%v, reason %s, trace id %s, header %s", err, reason, id, header)
	}
	rest := r.do(t, http.MethodGet, aliceBob, http.NoBody)
	rest.failure(t, http.StatusInternalServerError, "INTERNAL")
	if text := err.Error() + rest.body; strings.Contains(text, "kaboom") || strings.Contains(text, "_test.go") {
		t.Errorf("callers see the cause: %s", text)
	}
	for door, id := range map[string]string{"grpc": id, "rest": rest.Header.Get("X-Trace-Id")} {
		lines := r.logs.with(t, id)
		if len(lines) != 1 {
			t.Fatalf("%d lines: %v", len(lines), lines)
		}
		line := lines[0]
		stack, _ := line["stack"].(string)
		if line["panic"] != "kaboom" || !strings.Contains(stack, "chain_test.go") || line["door"] != door || line["level"] != "ERROR" {
			t.Errorf("logged %v", line)
		}
	}
}

func TestPanicInTheChain(t *testing.T) {
	logs := new(logs)
	c := newTestChain(t, slog.New(slog.NewJSONHandler(logs, nil)))
	c.apps = nil
	err := c.call(t.Context(), func() error { return nil })
	reason, id := reasonOf(t, err)
	if reason != "INTERNAL" {
		t.Errorf("reason %s", reason)
	}
	if lines := logs.with(t, id); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0]["stack"]), "apps.go") {
		t.Errorf("logged %v", lines)
	}
	if n := c.admission.calls.Load(); n != 0 {
		t.Errorf("%d calls in progress", n)
	}
}

func TestErrorsOfHandlers(t *testing.T) {
	var fail error
	h := &handlers{get: func(context.Context, *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		return nil, fail
	}}
	r := start(t, h.api())
	for name, c := range map[string]struct {
		err    error
		reason string
		code   codes.Code
		level  string
	}{
		"of the table":    {apierror.New(imv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE, "no connection"), "UPSTREAM_UNREACHABLE", codes.Unavailable, "WARN"},
		"wrapped":         {fmt.Errorf("x: %w", apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "no")), "INVALID_REQUEST", codes.InvalidArgument, "INFO"},
		"cancelled":       {fmt.Errorf("x: %w", context.Canceled), "CANCELLED", codes.Canceled, "INFO"},
		"deadline":        {context.DeadlineExceeded, "DEADLINE_EXCEEDED", codes.DeadlineExceeded, "INFO"},
		"plain":           {errors.New("hunter2"), "INTERNAL", codes.Internal, "ERROR"},
		"plain status":    {status.Error(codes.InvalidArgument, "no"), "INVALID_REQUEST", codes.InvalidArgument, "INFO"},
		"internal status": {status.Error(codes.DataLoss, "hunter2"), "INTERNAL", codes.Internal, "ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			fail = c.err
			header, err := r.get(t.Context(), "a|1|b")
			if reason, _ := reasonOf(t, err); reason != c.reason || status.Code(err) != c.code {
				t.Errorf("got %v, reason %s", err, reason)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("callers see the cause: %v", err)
			}
			if lines := r.logs.with(t, header); len(lines) != 1 || lines[0]["reason"] != c.reason || lines[0]["level"] != c.level {
				t.Errorf("logged %v", lines)
			}
		})
	}
}

func TestRetryInfo(t *testing.T) {
	h := &handlers{get: func(ctx context.Context, _ *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		return nil, apierror.New(imv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE, "no connection")
	}}
	r := start(t, h.api())
	a := r.do(t, http.MethodGet, aliceBob, http.NoBody)
	f := a.failure(t, http.StatusServiceUnavailable, "UPSTREAM_UNREACHABLE")
	_, err := r.get(t.Context(), "a|1|b")
	info, ok := detail[*errdetails.RetryInfo](status.Convert(err))
	if !ok || len(f.Details) != 2 || info.GetRetryDelay().AsDuration() <= 0 {
		t.Fatalf("no RetryInfo: %v, %s", err, a.body)
	}
	// Each call is told a delay of its own.
	delay, err := time.ParseDuration(f.Details[1].RetryDelay)
	if got := a.Header.Get("Retry-After"); err != nil || delay <= 0 || got != fmt.Sprint(int(delay.Seconds()+0.999)) {
		t.Errorf("Retry-After %s, want %s, %v", got, delay, err)
	}
}

func TestValidation(t *testing.T) {
	h := &handlers{
		get: echo,
		batch: func(context.Context, *imv1.BatchGetConversationsRequest) (*imv1.BatchGetConversationsResponse, error) {
			panic("called")
		},
		send: func(context.Context, *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) { panic("called") },
	}
	r := start(t, h.api())
	_, err := imv1.NewConversationServiceClient(r.conn).BatchGetConversations(t.Context(), &imv1.BatchGetConversationsRequest{
		ConversationIds: []string{"a|1|b", "a|1|b", "a|1|b", "nonsense"},
	})
	if reason, _ := reasonOf(t, err); reason != "INVALID_REQUEST" {
		t.Errorf("reason %s", reason)
	}
	bad, ok := detail[*errdetails.BadRequest](status.Convert(err))
	if !ok || len(bad.GetFieldViolations()) != 1 {
		t.Fatalf("violations: %v", bad)
	}
	v := bad.GetFieldViolations()[0]
	if v.GetField() != "conversation_ids[3]" || v.GetReason() != "string.conversation_id" || !strings.Contains(v.GetDescription(), "owner|1|account") {
		t.Errorf("violation %v", v)
	}

	const secret = "never-in-the-log"
	long := secret + strings.Repeat("x", 5000)
	a := r.do(t, http.MethodPost, aliceBob+"/messages", strings.NewReader(`{"message":{"content":{"text":"`+long+`"}}}`))
	if fields := a.failure(t, http.StatusBadRequest, "INVALID_REQUEST").fields(); fmt.Sprint(fields) != "[message.content.text]" {
		t.Errorf("fields %v", fields)
	}
	if lines := r.logs.with(t, a.Header.Get("X-Trace-Id")); len(lines) != 1 || lines[0]["reason"] != "INVALID_REQUEST" {
		t.Errorf("logged %v", lines)
	}
	if strings.Contains(r.logs.String(), secret) {
		t.Error("the log holds the text of a message")
	}
}

func TestUnknownMethod(t *testing.T) {
	r := start(t, realAPI)
	for _, method := range []string{"/yunxin.im.v1.MessageService/Nope", "/no.Service/Nope"} {
		var md metadata.MD
		err := r.conn.Invoke(t.Context(), method, &emptypb.Empty{}, &emptypb.Empty{}, grpc.Header(&md))
		reason, id := reasonOf(t, err)
		if status.Code(err) != codes.Unimplemented || reason != "METHOD_UNIMPLEMENTED" || fmt.Sprint(md.Get(callinfo.TraceHeader)) != "["+id+"]" {
			t.Errorf("%s: %v, reason %s, header %v", method, err, reason, md)
		}
	}
}

func TestSizeOverGRPC(t *testing.T) {
	h := &handlers{get: echo}
	r := start(t, h.api(), "--max-request-bytes=64KiB")
	_, err := r.get(t.Context(), strings.Repeat("x", 100<<10))
	if reason, _ := reasonOf(t, err); reason != "REQUEST_TOO_LARGE" || status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
	// Far beyond the limit not even the library takes it.
	if _, err = r.get(t.Context(), strings.Repeat("x", 200<<10)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
}

func TestDeadline(t *testing.T) {
	var left time.Duration
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return echo(ctx, req)
	}}
	r := start(t, h.api(), "--default-timeout=2m", "--max-timeout=10m")
	for name, c := range map[string]struct {
		asked time.Duration
		rest  string
		want  time.Duration
	}{
		"default":      {0, "", 2 * time.Minute},
		"shorter":      {time.Minute, "60S", time.Minute},
		"longer":       {5 * time.Minute, "5M", 5 * time.Minute},
		"over maximum": {time.Hour, "99999999H", 10 * time.Minute},
	} {
		ctx, cancel := t.Context(), func() {}
		if c.asked > 0 {
			ctx, cancel = context.WithTimeout(ctx, c.asked)
		}
		if _, err := r.get(ctx, "a|1|b"); err != nil {
			t.Error(err)
		}
		cancel()
		check := func(door string) {
			if left > c.want || left < c.want-30*time.Second {
				t.Errorf("%s, %s: %s left, want %s", name, door, left, c.want)
			}
		}
		check("gRPC")
		r.do(t, http.MethodGet, aliceBob, http.NoBody, "Grpc-Timeout", c.rest)
		check("REST")
	}
}

func TestDeadlinePassesOverREST(t *testing.T) {
	h := &handlers{get: func(ctx context.Context, _ *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	r := start(t, h.api())
	r.do(t, http.MethodGet, aliceBob, http.NoBody, "Grpc-Timeout", "1m").failure(t, http.StatusGatewayTimeout, "DEADLINE_EXCEEDED")
	for _, bad := range []string{"x", "1", "S", "-1S", "+1S", "0S", "123456789S", "1s"} {
		r.do(t, http.MethodGet, aliceBob, http.NoBody, "Grpc-Timeout", bad).failure(t, http.StatusBadRequest, "INVALID_REQUEST")
	}
}

// stream is a grpc.ServerStream on which only nonsense arrives.
type stream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // it is all there is
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) RecvMsg(m any) error {
	if request, ok := m.(proto.Message); ok {
		proto.Merge(request, &imv1.GetConversationRequest{ConversationId: "nonsense"})
	}
	return nil
}

func (s *stream) SetHeader(metadata.MD) error { return nil }

func TestStreams(t *testing.T) {
	var logged bytes.Buffer
	c := newTestChain(t, slog.New(slog.NewTextHandler(&logged, nil)))
	call := func(handler grpc.StreamHandler) error {
		return c.stream(imv1.ConversationService_StreamConversations_FullMethodName, handler)(nil, &stream{ctx: t.Context()})
	}
	err := call(func(_ any, s grpc.ServerStream) error {
		if deadline, ok := s.Context().Deadline(); !ok || time.Until(deadline) < 50*time.Minute {
			t.Errorf("deadline %v", deadline)
		}
		return s.RecvMsg(new(imv1.GetConversationRequest))
	})
	if reason, _ := reasonOf(t, err); reason != "INVALID_REQUEST" {
		t.Errorf("%v", err)
	}
	err = call(func(any, grpc.ServerStream) error { panic("kaboom") })
	if reason, _ := reasonOf(t, err); reason != "INTERNAL" || strings.Count(logged.String(), "kaboom") != 1 {
		t.Errorf("%v, logged %s", err, logged.String())
	}
}

// What the headers of the gateway mean, they mean from the gateway only.
func TestGatewayHeadersOverGRPC(t *testing.T) {
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		if deadline, _ := ctx.Deadline(); time.Until(deadline) < time.Second {
			t.Error("the caller set the deadline")
		}
		return echo(ctx, req)
	}}
	r := start(t, h.api())
	ctx := metadata.AppendToOutgoingContext(t.Context(), callinfo.TraceHeader, "mine", "x-rest-timeout", "1ms")
	header, err := r.get(ctx, "a|1|b")
	if err != nil || header == "mine" || len(header) != 32 {
		t.Errorf("header %q, %v", header, err)
	}
}

func BenchmarkWarmUp(b *testing.B) {
	methods, err := callinfo.NewMethods(service.Descriptors())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := newValidator(methods); err != nil {
			b.Fatal(err)
		}
	}
}

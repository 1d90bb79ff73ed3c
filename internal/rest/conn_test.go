package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testChain lets everybody in, and counts what it is told.
type testChain struct{ ended, logged atomic.Int64 }

func (*testChain) Identify(context.Context, *callinfo.Info, Credentials) error { return nil }

func (c *testChain) Refuse(_ context.Context, info *callinfo.Info, err error, entered bool) *apierror.Error {
	if entered {
		c.logged.Add(1)
	} else {
		c.ended.Add(1)
	}
	e, ok := errors.AsType[*apierror.Error](err)
	if !ok {
		e = apierror.New(imv1.ErrorReason_ERROR_REASON_INTERNAL, "%v", err)
	}
	e.TraceID = info.TraceID
	return e
}

func newTestDoor(t testing.TB) *Door {
	t.Helper()
	methods, err := callinfo.NewMethods(service.Descriptors())
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{Chain: new(testChain), Methods: methods, MaxBody: 1 << 20, StreamTime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RegisterRoutes(service.RegisterGateway); err != nil {
		t.Fatal(err)
	}
	return d
}

// testCall makes a REST call, whose handlers are waited for when the test ends, and
// clients of the services behind the door.
func testCall(t *testing.T, impl *testService) (context.Context, context.CancelFunc, imv1.ConversationServiceClient, imv1.MessageServiceClient) {
	t.Helper()
	d := newTestDoor(t)
	imv1.RegisterConversationServiceServer(d, impl)
	imv1.RegisterMessageServiceServer(d, impl)
	c, r := d.newCall(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	ctx, cancel := context.WithCancel(r.Context())
	t.Cleanup(func() {
		cancel()
		c.handlers.Wait()
	})
	return ctx, cancel, imv1.NewConversationServiceClient(d.conn), imv1.NewMessageServiceClient(d.conn)
}

type testService struct {
	imv1.UnimplementedConversationServiceServer
	imv1.UnimplementedMessageServiceServer

	get   func(context.Context, *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error)
	list  func(grpc.ServerStreamingServer[imv1.ListConversationsResponse]) error
	piece func(grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error
}

func (s *testService) GetConversation(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
	return s.get(ctx, req)
}

func (s *testService) StreamConversations(_ *imv1.ListConversationsRequest, stream grpc.ServerStreamingServer[imv1.ListConversationsResponse]) error {
	return s.list(stream)
}

func (s *testService) SendStreamMessage(stream grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error {
	return s.piece(stream)
}

// A handler has the context of its call, and messages of its own.
func TestInvoke(t *testing.T) {
	type key struct{}
	request := &imv1.GetConversationRequest{ConversationId: "a|1|b"}
	shared := &imv1.GetConversationResponse{Conversation: &imv1.Conversation{ConversationId: "a|1|b"}}
	ctx, _, conversations, _ := testCall(t, &testService{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		deadline, ok := ctx.Deadline()
		info := callinfo.From(ctx)
		if req == request || req.GetConversationId() != "a|1|b" || ctx.Value(key{}) != "kept" || !ok || time.Until(deadline) > time.Hour {
			t.Errorf("%v, deadline %v", req, deadline)
		}
		if info.Name != imv1.ConversationService_GetConversation_FullMethodName || info.Method == nil {
			t.Errorf("%+v", info.Method)
		}
		if md, ok := metadata.FromIncomingContext(ctx); ok {
			t.Errorf("metadata %v", md)
		}
		req.ConversationId = "changed"
		return shared, nil
	}})
	ctx = metadata.AppendToOutgoingContext(context.WithValue(ctx, key{}, "kept"), "role", "evil")
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	reply, err := conversations.GetConversation(ctx, request)
	if err != nil || reply == shared || reply.GetConversation() == shared.GetConversation() || reply.GetConversation().GetConversationId() != "a|1|b" {
		t.Errorf("%v, %v", reply, err)
	}
	if request.GetConversationId() != "a|1|b" {
		t.Error("the handler changed the request of its caller")
	}
	if _, err := conversations.GetUnreadCount(ctx, &imv1.GetUnreadCountRequest{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	err = (&conn{}).Invoke(ctx, "/no.Service/Nope", request, reply)
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// The errors of handlers arrive as they are, after the messages before them.
func TestStreamEnds(t *testing.T) {
	broken := apierror.New(imv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, "no")
	for name, want := range map[string]error{"well": io.EOF, "in an error": broken} {
		ctx, _, conversations, _ := testCall(t, &testService{list: func(stream grpc.ServerStreamingServer[imv1.ListConversationsResponse]) error {
			for range 3 {
				if err := stream.Send(&imv1.ListConversationsResponse{}); err != nil {
					return err
				}
			}
			if want == broken { //nolint:errorlint // it is the very one
				return broken
			}
			return nil
		}})
		stream, err := conversations.StreamConversations(ctx, &imv1.ListConversationsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for ; err == nil; got++ {
			_, err = stream.Recv()
		}
		if got != 4 || err != want { //nolint:errorlint // it is the very one
			t.Errorf("%s: %d messages, then %v", name, got-1, err)
		}
	}
}

// A handler that ends early does not keep its caller waiting, who hears why.
func TestStreamRefused(t *testing.T) {
	refused := errors.New("refused")
	ctx, _, _, messages := testCall(t, &testService{piece: func(stream grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error {
		if _, err := stream.Recv(); err != nil {
			t.Error(err)
		}
		return refused
	}})
	stream, err := messages.SendStreamMessage(ctx)
	for err == nil {
		err = stream.Send(&imv1.SendStreamMessageRequest{})
	}
	if _, why := stream.Recv(); err != io.EOF || why != refused { //nolint:errorlint // they are the very ones
		t.Errorf("%v, then %v", err, why)
	}
	if err := errors.Join(stream.CloseSend(), stream.CloseSend()); err != nil {
		t.Error(err)
	}
}

// Whatever a handler waits for, it learns that its call is over.
func TestStreamCancelled(t *testing.T) {
	for name, wait := range map[string]func(grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error{
		"receives": func(stream grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error {
			_, err := stream.Recv()
			return err
		},
		"sends": func(stream grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error {
			return stream.Send(&imv1.SendStreamMessageResponse{})
		},
	} {
		ended := make(chan error, 1)
		ctx, cancel, _, messages := testCall(t, &testService{piece: func(stream grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error {
			err := wait(stream)
			ended <- err
			return err
		}})
		if _, err := messages.SendStreamMessage(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A REST call is over when its handler is, even if its answer cannot be written.
func TestCallWaitsForItsHandler(t *testing.T) {
	d := newTestDoor(t)
	var over atomic.Bool
	impl := &testService{list: func(stream grpc.ServerStreamingServer[imv1.ListConversationsResponse]) error {
		defer over.Store(true)
		for {
			if err := stream.Send(&imv1.ListConversationsResponse{}); err != nil {
				return err
			}
		}
	}}
	imv1.RegisterConversationServiceServer(d, impl)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/conversations:stream?account_id=a", http.NoBody)
	d.ServeHTTP(&brokenWriter{httptest.NewRecorder()}, r)
	if !over.Load() {
		t.Error("the handler goes on")
	}
}

// brokenWriter is the answer to somebody who has gone.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (*brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Errors of the door count once: as calls that ended, unless the chain has them.
func TestErrorsCountOnce(t *testing.T) {
	d := newTestDoor(t)
	chain, _ := d.Chain.(*testChain)
	imv1.RegisterMessageServiceServer(d, &testService{piece: func(stream grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]) error {
		for {
			if _, err := stream.Recv(); err != nil {
				return nil //nolint:nilerr // the body ends
			}
		}
	}})
	for path, want := range map[string][2]int64{
		"/v1/nope": {1, 0},
		"/v1/conversations:sendStreamMessage?x=1": {1, 0},
		"/v1/conversations:sendStreamMessage":     {0, 1},
	} {
		chain.ended.Store(0)
		chain.logged.Store(0)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(`{"start":{}}{nonsense`))
		d.ServeHTTP(httptest.NewRecorder(), r)
		if got := [2]int64{chain.ended.Load(), chain.logged.Load()}; got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

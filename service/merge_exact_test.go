package service

import (
	"context"
	"fmt"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// TestMergeIsExact tells that a conversation of a merged call is the one that a
// call of its own reads.
func TestMergeIsExact(t *testing.T) {
	t.Parallel()
	for _, version := range []string{upstream.V2, upstream.V21} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			conn := newSandbox(t, version)
			up := imv1.NewConversationServiceClient(conn)
			asked := fillSandbox(t, conn)
			together, err := newConversationService(up, Options{Pressed: always}).getTogether(t.Context(), asked)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range asked {
				alone, err := up.GetConversation(t.Context(), &imv1.GetConversationRequest{ConversationId: id})
				if got, ok := together[id]; ok != (err == nil) || ok && !proto.Equal(got, alone) {
					t.Errorf("%s: together\n%v, alone\n%v, %v", id, got, alone, err)
				}
			}
			if len(together) != 5 {
				t.Errorf("found %v", together)
			}
		})
	}
}

// newSandbox starts an upstream on loopback.
func newSandbox(t *testing.T, version string) *upstream.Conn {
	t.Helper()
	box, err := sandbox.New(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(box)
	t.Cleanup(server.Close)
	conn, err := upstream.New(upstream.Config{
		AppKey: sandbox.AppKey, AppSecret: sandbox.AppSecret, Endpoints: []string{server.URL},
		APIVersion: version, Services: Descriptors(), Reasons: imv1.ErrorReason(0).Descriptor(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// fillSandbox makes conversations with all that a conversation may have, and
// names them and two that are not there.
func fillSandbox(t *testing.T, conn grpc.ClientConnInterface) []string {
	t.Helper()
	messages, conversations := imv1.NewMessageServiceClient(conn), imv1.NewConversationServiceClient(conn)
	const carol, team, erin = "alice|1|carol", "alice|2|2366968294", "alice|1|erin"
	extension := `{"a":1}`
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return send(ctx, messages, carol) },
		func(ctx context.Context) error { return send(ctx, messages, team) },
		func(ctx context.Context) error {
			_, err := conversations.UpdateConversation(ctx, &imv1.UpdateConversationRequest{ConversationId: carol, ServerExtension: &extension})
			return err
		},
		func(ctx context.Context) error {
			_, err := conversations.PinConversation(ctx, &imv1.PinConversationRequest{ConversationId: carol})
			return err
		},
		func(ctx context.Context) error {
			_, err := conversations.CreateConversation(ctx, &imv1.CreateConversationRequest{ConversationId: erin})
			return err
		},
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return []string{carol, strings.ToUpper(carol), "carol|1|alice", team, erin, "alice|1|nobody", "alice|1|mallory"}
}

func send(ctx context.Context, up imv1.MessageServiceClient, id string) error {
	_, err := up.SendMessage(ctx, &imv1.SendMessageRequest{ConversationId: id, Message: &imv1.NewMessage{
		Content: &imv1.MessageContent{Kind: &imv1.MessageContent_Text{Text: id}},
	}})
	return err
}

// An instant upstream answers at once.
type instant struct {
	imv1.ConversationServiceClient

	calls atomic.Int64
}

func (up *instant) GetConversation(_ context.Context, req *imv1.GetConversationRequest, _ ...grpc.CallOption) (*imv1.GetConversationResponse, error) {
	up.calls.Add(1)
	return &imv1.GetConversationResponse{Conversation: &imv1.Conversation{ConversationId: req.GetConversationId()}}, nil
}

func (up *instant) BatchGetConversations(_ context.Context, req *imv1.BatchGetConversationsRequest, _ ...grpc.CallOption) (*imv1.BatchGetConversationsResponse, error) {
	up.calls.Add(1)
	reply := &imv1.BatchGetConversationsResponse{}
	for _, id := range req.GetConversationIds() {
		reply.Results = append(reply.Results, &imv1.ConversationResult{ConversationId: id, Result: &imv1.ConversationResult_Conversation{
			Conversation: &imv1.Conversation{ConversationId: id},
		}})
	}
	return reply, nil
}

// BenchmarkGetConversation shows what the facade adds to one of a thousand reads
// at a time, and how many calls of the upstream it takes.
func BenchmarkGetConversation(b *testing.B) {
	for name, merge := range map[string]func(context.Context, string) bool{"straight": nil, "merged": always} {
		b.Run(name, func(b *testing.B) {
			up := new(instant)
			s := newConversationService(up, Options{Pressed: merge})
			b.SetParallelism(1000 / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			var callers atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				id := fmt.Sprintf("alice|1|%d", callers.Add(1))
				for pb.Next() {
					if _, err := read(b.Context(), s, id); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(up.calls.Load())/float64(b.N), "calls/op")
		})
	}
}

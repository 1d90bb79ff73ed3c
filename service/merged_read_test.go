package service

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/upstream/codec"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// TestMergeIsExact checks that a conversation of a merged call is the one that a call
// of its own reads, and that reads are merged only when they should be.
func TestMergeIsExact(t *testing.T) {
	t.Parallel()
	for _, version := range []string{codec.V2, codec.V21} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			box, straight, merging := newSandbox(t, version)
			asked := fillSandbox(t, straight)
			for _, ctx := range []context.Context{t.Context(), upstream.WithCallInfo(t.Context(), upstream.CallInfo{QuotaShare: 0.5})} {
				before := len(box.Ledger())
				together := readAll(ctx, merging, asked)
				merged := 0
				for _, entry := range box.Ledger()[before:] {
					if strings.HasSuffix(entry.Route, "/conversations/actions/conversation_ids") {
						merged++
					}
				}
				if want := map[bool]int{true: 1}[!upstream.CallInfoOf(ctx).HasShare()]; merged != want {
					t.Errorf("%d merged calls, want %d", merged, want)
				}
				found := 0
				for i, alone := range readAll(t.Context(), straight, asked) {
					if !proto.Equal(together[i].reply, alone.reply) || status.Code(together[i].err) != status.Code(alone.err) {
						t.Errorf("%s: together\n%v, alone\n%v", asked[i], together[i], alone)
					}
					if alone.err == nil {
						found++
					}
				}
				if found != 5 {
					t.Errorf("%d found", found)
				}
			}
		})
	}
}

// got is what a read was answered.
type got struct {
	reply *imv1.GetConversationResponse
	err   error
}

// readAll reads conversations at the same time.
func readAll(ctx context.Context, conn grpc.ClientConnInterface, ids []string) []got {
	up := imv1.NewConversationServiceClient(conn)
	all := make([]got, len(ids))
	var group sync.WaitGroup
	for i, id := range ids {
		group.Go(func() {
			all[i].reply, all[i].err = up.GetConversation(ctx, &imv1.GetConversationRequest{ConversationId: id})
		})
	}
	group.Wait()
	return all
}

// newSandbox starts an upstream on loopback, and two clients of it: one that merges
// reads and one that does not.
func newSandbox(t *testing.T, version string) (box *sandbox.Sandbox, straight, merging *upstream.Conn) {
	t.Helper()
	box, err := sandbox.New(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(box)
	t.Cleanup(server.Close)
	connect := func(merge upstream.Merge) *upstream.Conn {
		conn, err := upstream.New(upstream.Config{
			AppKey: sandbox.AppKey, AppSecret: sandbox.AppSecret, Endpoints: []string{server.URL},
			APIVersion: version, Services: Descriptors(), Reasons: imv1.ErrorReason(0).Descriptor(), MergeReads: merge,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	return box, connect(upstream.MergeNever), connect(upstream.MergeAlways)
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

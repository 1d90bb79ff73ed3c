package service

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

type groupKey struct{}

func groupOf(ctx context.Context) string {
	group, _ := ctx.Value(groupKey{}).(string)
	return group
}

// worlds is an upstream where every group has conversations of its own: their
// extension is the group.
type worlds struct {
	imv1.ConversationServiceClient

	mu    sync.Mutex
	calls map[string]int
}

func (w *worlds) conversation(ctx context.Context, id string) *imv1.Conversation {
	group := groupOf(ctx)
	return &imv1.Conversation{ConversationId: id, ServerExtension: &group}
}

func (w *worlds) GetConversation(ctx context.Context, req *imv1.GetConversationRequest, _ ...grpc.CallOption) (*imv1.GetConversationResponse, error) {
	return &imv1.GetConversationResponse{Conversation: w.conversation(ctx, req.GetConversationId())}, nil
}

func (w *worlds) BatchGetConversations(ctx context.Context, req *imv1.BatchGetConversationsRequest, _ ...grpc.CallOption) (*imv1.BatchGetConversationsResponse, error) {
	w.mu.Lock()
	w.calls[groupOf(ctx)]++
	w.mu.Unlock()
	reply := &imv1.BatchGetConversationsResponse{}
	for _, id := range req.GetConversationIds() {
		reply.Results = append(reply.Results, &imv1.ConversationResult{ConversationId: id, Result: &imv1.ConversationResult_Conversation{
			Conversation: w.conversation(ctx, id),
		}})
	}
	return reply, nil
}

// TestMergeKeepsGroupsApart tells that equal ids of two groups in one moment get
// the answers of their groups, by a call for each group; and that a group waits
// only if it is pressed itself.
func TestMergeKeepsGroupsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &worlds{calls: map[string]int{}}
		s := newConversationService(up, Options{
			Pressed: func(ctx context.Context, _ string) bool { return groupOf(ctx) != "calm" },
			Group:   groupOf,
		})
		var all sync.WaitGroup
		for i := range 60 {
			group := []string{"one", "two", "calm"}[i%3]
			all.Go(func() {
				ctx := context.WithValue(t.Context(), groupKey{}, group)
				reply, err := read(ctx, s, fmt.Sprintf("alice|1|%d", i/6))
				if err != nil || reply.GetConversation().GetServerExtension() != group {
					t.Errorf("%s got %v, %v", group, reply, err)
				}
			})
		}
		all.Wait()
		if len(up.calls) != 2 || up.calls["one"] != 1 || up.calls["two"] != 1 {
			t.Errorf("calls %v", up.calls)
		}
	})
}

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/metadata"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// TestSharesAreNotMerged checks that the reads of callers with a share of the quota
// are not merged with those of others, who would be kept to it as well.
func TestSharesAreNotMerged(t *testing.T) {
	t.Parallel()
	keys, callers := twoCallers(t, "scopes: [conversations.read], quota_share: 0.5", "scopes: [conversations.read]")
	r := newRig(t, "--merge-reads=always", callers)
	r.answerData(`{"conversation_id":"alice|1|bob"}`)
	for key, merges := range map[string]bool{keys[0]: false, keys[1]: true} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", key)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				_, err := imv1.NewConversationServiceClient(r.conn).GetConversation(ctx, &imv1.GetConversationRequest{ConversationId: fmt.Sprint("alice|1|peer", i)})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		merged := 0
		for _, request := range r.take() {
			if strings.Contains(request.path, "batch") || request.query.Has("conversation_ids") {
				merged++
			}
		}
		if merged > 0 != merges {
			t.Errorf("merged calls %d, merging is right: %t", merged, merges)
		}
	}
}

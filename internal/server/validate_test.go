package server

import (
	"errors"
	"log/slog"
	"testing"

	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// TestManyViolations checks that however often a request breaks a rule, the answer
// and the work for it stay small.
func TestManyViolations(t *testing.T) {
	t.Parallel()
	c := newTestChain(t, slog.New(slog.DiscardHandler))
	c.largest = 1 << 30
	for broken, want := range map[int]int{3: 3, 1000: mostViolations, 1_000_000: 1} {
		request := &imv1.BatchGetConversationsRequest{ConversationIds: make([]string, broken)}
		refusal, _ := errors.AsType[*apierror.Error](c.validate(new(callinfo.Info), request, proto.Size(request)))
		if refusal == nil || len(refusal.Violations) != want {
			t.Errorf("%d broken rules: %d are told, want %d", broken, len(refusal.Violations), want)
		}
	}
}

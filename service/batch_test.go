package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// ids returns n conversation ids of an owner.
func ids(owner string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s|1|peer%d", owner, i)
	}
	return list
}

// found answers for every id, in reverse, as an upstream may.
func found(_ context.Context, ids []string) ([]*imv1.ConversationOutcome, error) {
	var all []*imv1.ConversationOutcome
	for _, id := range slices.Backward(ids) {
		all = append(all, &imv1.ConversationOutcome{ConversationId: strings.ToLower(id)})
	}
	return all, nil
}

// outcomes runs a batch of conversations of one owner each.
type outcomes func(context.Context, []string) ([]*imv1.ConversationOutcome, error)

func (call outcomes) run(ctx context.Context, asked []string) ([]*imv1.ConversationOutcome, error) {
	b, err := newBatch(imv1.File_yunxin_im_v1_conversation_service_proto.Services().Get(0).Methods().ByName("BatchDeleteConversations"))
	if err != nil {
		return nil, err
	}
	clearMessage := true
	request := &imv1.BatchDeleteConversationsRequest{ConversationIds: asked, ClearMessage: &clearMessage}
	reply, err := b.run(ctx, request, func(ctx context.Context, part proto.Message) (proto.Message, error) {
		of, _ := part.(*imv1.BatchDeleteConversationsRequest)
		if !of.GetClearMessage() {
			return nil, errors.New("a part is not like the request")
		}
		results, err := call(ctx, of.GetConversationIds())
		return &imv1.BatchDeleteConversationsResponse{Results: results}, err
	})
	if len(request.GetConversationIds()) != len(asked) {
		return nil, errors.New("the request was changed")
	}
	if err != nil {
		return nil, err
	}
	of, _ := reply.(*imv1.BatchDeleteConversationsResponse)
	return of.GetResults(), nil
}

// ownerOf returns the owner of a conversation.
func ownerOf(conversationID string) string {
	owner, _, _ := strings.Cut(conversationID, "|")
	return strings.ToLower(owner)
}

func TestBatchAnswersInOrder(t *testing.T) {
	t.Parallel()
	asked := append(ids("alice", 150), ids("Bob", 3)...)
	asked = append(asked, asked[0], "ALICE|1|peer1")
	results, err := outcomes(found).run(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.GetConversationId() != asked[i] || r.GetError() != nil {
			t.Fatalf("result %d is %v, want %s", i, r, asked[i])
		}
	}
}

func TestBatchSplits(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sizes []int
	seen := map[string]int{}
	asked := slices.Concat(ids("alice", 250), ids("bob", 1), ids("ALICE", 250))
	_, err := outcomes(func(ctx context.Context, part []string) ([]*imv1.ConversationOutcome, error) {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(part))
		for _, id := range part {
			seen[id]++
			if ownerOf(id) != ownerOf(part[0]) {
				t.Errorf("%s and %s in one call", id, part[0])
			}
		}
		return found(ctx, part)
	}).run(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(sizes)
	if want := []int{1, 50, 100, 100}; !slices.Equal(sizes, want) {
		t.Errorf("calls of %v items, want %v", sizes, want)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s was asked for %d times", id, times)
		}
	}
}

func TestBatchPartFails(t *testing.T) {
	t.Parallel()
	asked := ids("alice", 10_000)
	results, err := outcomes(func(ctx context.Context, part []string) ([]*imv1.ConversationOutcome, error) {
		if slices.Contains(part, asked[4242]) {
			return nil, status.Error(codes.Unavailable, "gone")
		}
		return found(ctx, part)
	}).run(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, r := range results {
		if r.GetConversationId() != asked[i] {
			t.Fatalf("result %d is for %s", i, r.GetConversationId())
		}
		if r.GetError() != nil {
			failed++
			if codes.Code(r.GetError().GetCode()) != codes.Unavailable {
				t.Errorf("error of %s: %v", asked[i], r.GetError())
			}
		}
	}
	if len(results) != len(asked) || failed != 100 {
		t.Errorf("%d results, %d failed", len(results), failed)
	}
}

func TestBatchAllPartsFail(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	_, err := outcomes(func(context.Context, []string) ([]*imv1.ConversationOutcome, error) {
		return nil, gone
	}).run(t.Context(), ids("alice", 300))
	if !errors.Is(err, gone) {
		t.Errorf("error %v, want %v", err, gone)
	}
}

// TestBatchPartsFailDifferently checks that no part speaks for another: one that was
// not sent, for one that may have been executed.
func TestBatchPartsFailDifferently(t *testing.T) {
	t.Parallel()
	lost := failing(codes.Unknown, imv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, "lost")
	busy := failing(codes.Unknown, imv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, "busy")
	asked := ids("alice", 150)
	results, err := outcomes(func(_ context.Context, part []string) ([]*imv1.ConversationOutcome, error) {
		if slices.Contains(part, asked[149]) {
			return nil, lost
		}
		return nil, busy
	}).run(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]error{0: busy, 149: lost} {
		if have := status.ErrorProto(results[i].GetError()); reasonIn(have) != reasonOf(want) {
			t.Errorf("item %d: %v", i, have)
		}
	}
}

// TestBatchDeadline checks that the end of the caller's time hides neither what was
// answered nor what may have been executed.
func TestBatchDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	lost := failing(codes.Canceled, imv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, "lost")
	asked := ids("alice", 300)
	var calls atomic.Int32
	results, err := outcomes(func(_ context.Context, part []string) ([]*imv1.ConversationOutcome, error) {
		defer func() {
			if calls.Add(1) == 3 {
				cancel()
			}
		}()
		if slices.Contains(part, asked[299]) {
			return nil, lost
		}
		return found(ctx, part)
	}).run(ctx, asked)
	if err != nil {
		t.Fatal(err)
	}
	if results[0].GetError() != nil || reasonIn(status.ErrorProto(results[299].GetError())) != "OUTCOME_UNKNOWN" {
		t.Errorf("%v, %v", results[0], results[299])
	}
	all, err := outcomes(func(context.Context, []string) ([]*imv1.ConversationOutcome, error) { return nil, lost }).run(ctx, asked)
	if reasonOf(err) != "OUTCOME_UNKNOWN" {
		t.Errorf("%v, %v", all, err)
	}
}

func TestBatchNamesWhatWasPassedOver(t *testing.T) {
	t.Parallel()
	results, err := outcomes(func(ctx context.Context, part []string) ([]*imv1.ConversationOutcome, error) {
		return found(ctx, part[1:])
	}).run(t.Context(), ids("alice", 2))
	if err != nil {
		t.Fatal(err)
	}
	if got := codes.Code(results[0].GetError().GetCode()); got != codes.Internal {
		t.Errorf("passed over: code %v", got)
	}
	if results[1].GetError() != nil {
		t.Errorf("answered: %v", results[1].GetError())
	}
}

func TestBatchConcurrencyIsBounded(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	_, err := outcomes(func(ctx context.Context, part []string) ([]*imv1.ConversationOutcome, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		return found(ctx, part)
	}).run(t.Context(), ids("alice", 10_000))
	if err != nil || most.Load() > batchConcurrency {
		t.Errorf("%d calls at a time, error %v", most.Load(), err)
	}
}

func TestWithoutDetailsSilenceIsSuccess(t *testing.T) {
	t.Parallel()
	refused := &imv1.SendResult{AccountId: "carol", Result: &imv1.SendResult_Error{Error: status.New(codes.NotFound, "").Proto()}}
	detailed := &imv1.SendResult{AccountId: "bob", Result: &imv1.SendResult_Message{Message: &imv1.Message{}}}
	got := withUnnamed([]string{"bob", "Carol", "dave"}, []*imv1.SendResult{refused, detailed})
	if len(got) != 3 || got[1] != detailed || got[2].GetAccountId() != "dave" || got[2].GetResult() != nil {
		t.Errorf("results %v", got)
	}
}

// failing makes an error with a gRPC code and a reason.
func failing(code codes.Code, reason imv1.ErrorReason, text string) error {
	e := apierror.New(reason, "%s", text)
	e.Code = code
	return e
}

// reasonIn returns the reason that the status of an item tells.
func reasonIn(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

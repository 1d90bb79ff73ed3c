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
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

func always(context.Context, string) bool { return true }

// lookups is an upstream that reads conversations. It knows none whose id ends
// with "?", and passes over those that end with "-".
type lookups struct {
	imv1.ConversationServiceClient

	took   func() time.Duration            // a call's time; none if nil
	refuse func([]string) error            // the answer to a batch, instead of results
	see    func(context.Context, []string) // every call, one by one

	mu      sync.Mutex
	batches [][]string
	alone   []string
	flying  int // batches under way
	most    int
}

func (l *lookups) work(ctx context.Context, ids []string) error {
	if l.see != nil {
		l.see(ctx, ids)
	}
	if l.took == nil {
		return nil
	}
	select {
	case <-time.After(l.took()):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (l *lookups) GetConversation(ctx context.Context, req *imv1.GetConversationRequest, _ ...grpc.CallOption) (*imv1.GetConversationResponse, error) {
	id := req.GetConversationId()
	l.mu.Lock()
	l.alone = append(l.alone, id)
	l.mu.Unlock()
	if err := l.work(ctx, []string{id}); err != nil {
		return nil, err
	}
	if strings.HasSuffix(id, "?") {
		return nil, status.Error(codes.InvalidArgument, "alone: "+id)
	}
	return &imv1.GetConversationResponse{Conversation: &imv1.Conversation{ConversationId: strings.ToLower(id)}}, nil
}

func (l *lookups) BatchGetConversations(ctx context.Context, req *imv1.BatchGetConversationsRequest, _ ...grpc.CallOption) (*imv1.BatchGetConversationsResponse, error) {
	ids := req.GetConversationIds()
	l.mu.Lock()
	l.batches = append(l.batches, ids)
	l.flying++
	l.most = max(l.most, l.flying)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.flying--
		l.mu.Unlock()
	}()
	if err := l.work(ctx, ids); err != nil {
		return nil, err
	}
	if l.refuse != nil {
		if err := l.refuse(ids); err != nil {
			return nil, err
		}
	}
	reply := &imv1.BatchGetConversationsResponse{}
	for _, id := range slices.Backward(ids) { // in an order of its own
		switch id = strings.ToLower(id); id[len(id)-1] {
		case '-':
		case '?':
			reply.Results = append(reply.Results, &imv1.ConversationResult{ConversationId: id, Result: &imv1.ConversationResult_Error{
				Error: status.New(codes.NotFound, "in a batch: "+id).Proto(),
			}})
		default:
			reply.Results = append(reply.Results, &imv1.ConversationResult{ConversationId: id, Result: &imv1.ConversationResult_Conversation{
				Conversation: &imv1.Conversation{ConversationId: id},
			}})
		}
	}
	return reply, nil
}

// read gets a conversation, and tells what is wrong with the answer if there is one.
func read(ctx context.Context, s *conversationService, id string) (*imv1.GetConversationResponse, error) {
	reply, err := s.GetConversation(ctx, &imv1.GetConversationRequest{ConversationId: id})
	if err == nil && reply.GetConversation().GetConversationId() != strings.ToLower(id) {
		return nil, fmt.Errorf("asked for %s, got %v", id, reply)
	}
	return reply, err
}

// readAll gets conversations at the same time.
func readAll(ctx context.Context, s *conversationService, ids []string) []error {
	errs := make([]error, len(ids))
	var group sync.WaitGroup
	for i, id := range ids {
		group.Go(func() { _, errs[i] = read(ctx, s, id) })
	}
	group.Wait()
	return errs
}

// lasting returns a context that ends after d.
func lasting(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func takes(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// checkIdle tells that nothing is left of calls that have ended.
func (m *merger[K, R]) checkIdle(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open != nil || m.flying != 0 {
		t.Errorf("%d merged calls are left, and %+v", m.flying, m.open)
	}
}

func TestMergeMakesFewCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{took: takes(10 * time.Millisecond)}
		s := newConversationService(up, Options{Pressed: always})
		start := time.Now()
		for i, err := range readAll(t.Context(), s, ids("alice", 1000)) {
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		}
		if len(up.batches) != 10 || len(up.alone) != 0 {
			t.Errorf("%d merged calls, %d others", len(up.batches), len(up.alone))
		}
		if took := time.Since(start); took != 10*time.Millisecond { // full calls do not wait
			t.Errorf("took %s", took)
		}
		s.gets.of(t.Context()).checkIdle(t)
	})
}

func TestMergeWaitsNoLongerThanTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{}
		s := newConversationService(up, Options{Pressed: always})
		start := time.Now()
		for _, err := range readAll(t.Context(), s, ids("alice", 99)) {
			if err != nil {
				t.Error(err)
			}
		}
		if len(up.batches) != 1 || len(up.batches[0]) != 99 || time.Since(start) != mergeWindow {
			t.Errorf("calls %v after %s", up.batches, time.Since(start))
		}
	})
}

// TestMergeOnlyIfWanted tells that a call goes straight unless it is to wait, for
// which it asks each time, and also if it finds nobody to go with.
func TestMergeOnlyIfWanted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wanted := false
		for name, tt := range map[string]struct {
			merge func(context.Context, string) bool
			wants []bool
			alone int
			took  time.Duration
		}{
			"never":          {nil, []bool{true, true}, 4, 0},
			"not now":        {func(context.Context, string) bool { return wanted }, []bool{false, false}, 4, 0},
			"first not":      {func(context.Context, string) bool { return wanted }, []bool{false, true}, 2, mergeWindow},
			"nobody to join": {func(context.Context, string) bool { return !wanted }, []bool{true}, 2, 0},
		} {
			up := &lookups{}
			s := newConversationService(up, Options{Pressed: tt.merge})
			start := time.Now()
			for _, wanted = range tt.wants {
				for _, err := range readAll(t.Context(), s, []string{"alice|1|bob", "alice|1|carol"}) {
					if err != nil {
						t.Error(err)
					}
				}
			}
			if len(up.alone) != tt.alone || time.Since(start) != tt.took {
				t.Errorf("%s: alone %v, merged %v, after %s", name, up.alone, up.batches, time.Since(start))
			}
		}
		up := &lookups{see: func(ctx context.Context, _ []string) {
			if upstream.CallInfoOf(ctx).TraceID != "single" {
				t.Error("a single caller's call is not its own")
			}
		}}
		s := newConversationService(up, Options{Pressed: always})
		if _, err := read(upstream.WithCallInfo(t.Context(), upstream.CallInfo{TraceID: "single"}), s, "alice|1|bob"); err != nil || len(up.batches) != 0 || len(up.alone) != 1 {
			t.Errorf("a single caller: merged %v, error %v", up.batches, err)
		}
		s.gets.of(t.Context()).checkIdle(t)
	})
}

// TestMergeAsksOnce tells that equal ids are asked for once, that others are not
// taken for equal, and that each caller gets a message of its own.
func TestMergeAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{took: takes(time.Second)}
		s := newConversationService(up, Options{Pressed: always})
		seen := make(map[*imv1.Conversation]bool)
		var mu sync.Mutex
		var group sync.WaitGroup
		for i := range 300 {
			group.Go(func() {
				id := []string{"alice|1|bob", "ALICE|1|bob", "alice|1|carol"}[i%3]
				reply, err := read(t.Context(), s, id)
				if err != nil {
					t.Error(err)
					return
				}
				reply.Conversation.SortOrder = int64(i) // a race if it were another's
				mu.Lock()
				defer mu.Unlock()
				seen[reply.GetConversation()] = true
			})
		}
		group.Wait()
		if len(up.batches) != 1 || len(up.alone) != 0 || len(seen) != 300 {
			t.Fatalf("merged %v, alone %v, %d messages", up.batches, up.alone, len(seen))
		}
		slices.Sort(up.batches[0])
		if !slices.Equal(up.batches[0], []string{"ALICE|1|bob", "alice|1|bob", "alice|1|carol"}) {
			t.Errorf("asked for %v", up.batches[0])
		}
	})
}

// TestMergeWhatWasNotFound tells that an item without an answer gets the error of
// a call of its own, and that the others do not care.
func TestMergeWhatWasNotFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{}
		s := newConversationService(up, Options{Pressed: always})
		asked := []string{"alice|1|bob", "alice|1|missing?", "alice|1|passed-", "alice|1|carol", "alice|1|missing?"}
		errs := readAll(t.Context(), s, asked)
		for i, want := range []codes.Code{codes.OK, codes.InvalidArgument, codes.OK, codes.OK, codes.InvalidArgument} {
			if status.Code(errs[i]) != want || want != codes.OK && !strings.HasSuffix(errs[i].Error(), "alone: "+asked[i]) {
				t.Errorf("%s: %v", asked[i], errs[i])
			}
		}
		slices.Sort(up.alone)
		if len(up.batches) != 1 || !slices.Equal(up.alone, []string{asked[1], asked[1], asked[2]}) {
			t.Errorf("merged %v, alone %v", up.batches, up.alone)
		}
	})
}

// TestMergeCallFails tells which errors of a merged call its callers get.
func TestMergeCallFails(t *testing.T) {
	t.Parallel()
	busy, err := status.New(codes.Unavailable, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		err    error
		shared bool
	}{
		"busy":        {busy.Err(), true},
		"parameter":   {status.Error(codes.InvalidArgument, "414"), false},
		"unreadable":  {status.Error(codes.Internal, "too large"), false},
		"not allowed": {status.Error(codes.PermissionDenied, "no batches"), false},
		"foreign":     {fmt.Errorf("wrapped: %w", context.DeadlineExceeded), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				up := &lookups{refuse: func([]string) error { return tt.err }}
				s := newConversationService(up, Options{Pressed: always})
				for _, err := range readAll(t.Context(), s, ids("alice", 5)) {
					if !tt.shared {
						if err != nil {
							t.Errorf("heard of %v", err)
						}
						continue
					}
					if !errors.Is(err, tt.err) {
						t.Errorf("heard of %v", err)
					}
				}
				if alone := len(up.alone); alone != map[bool]int{false: 5}[tt.shared] || len(up.batches) != 1 {
					t.Errorf("merged %v, alone %d", up.batches, alone)
				}
			})
		})
	}
}

func TestMergePanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{took: takes(time.Second), refuse: func([]string) error { panic("boom") }}
		s := newConversationService(up, Options{Pressed: always})
		var group sync.WaitGroup
		for i, id := range ids("alice", 5) {
			group.Go(func() {
				ctx := t.Context()
				if i == 2 {
					ctx = lasting(t, time.Millisecond)
				}
				defer func() {
					text := fmt.Sprint(recover())
					if told := strings.Contains(text, "boom") && strings.Contains(text, "merge_test.go"); told != (i != 2) {
						t.Errorf("caller %d: %s", i, text)
					}
				}()
				_, _ = read(ctx, s, id)
			})
		}
		group.Wait()
		s.gets.of(t.Context()).checkIdle(t)
	})
}

// TestMergePanicOfTheGivenUp tells that a panic is not lost if all have left.
func TestMergePanicOfTheGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{see: func(ctx context.Context, _ []string) {
			<-ctx.Done()
			panic("boom")
		}}
		s := newConversationService(up, Options{Pressed: always})
		var told atomic.Int32
		var group sync.WaitGroup
		for i, id := range ids("alice", 2) {
			group.Go(func() {
				defer func() {
					if recover() != nil {
						told.Add(1)
					}
				}()
				_, _ = read(lasting(t, time.Duration(i+1)*time.Second), s, id)
			})
		}
		group.Wait()
		if told.Load() != 1 {
			t.Errorf("%d callers heard of the panic", told.Load())
		}
	})
}

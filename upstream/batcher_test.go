package upstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// lookups is an upstream that reads conversations. It knows none whose id ends with
// "?", and passes over those that end with "-".
type lookups struct {
	took   func() time.Duration            // a call's time; none if nil
	refuse func([]string) error            // the answer to a batch, instead of results
	see    func(context.Context, []string) // every call, one by one

	mu         sync.Mutex
	batches    [][]string
	alone      []string
	inProgress int // batches
	most       int
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

func (l *lookups) single(ctx context.Context, id string) (string, error) {
	l.mu.Lock()
	l.alone = append(l.alone, id)
	l.mu.Unlock()
	if err := l.work(ctx, []string{id}); err != nil {
		return "", err
	}
	if strings.HasSuffix(id, "?") {
		return "", status.Error(codes.InvalidArgument, "alone: "+id)
	}
	return strings.ToLower(id), nil
}

func (l *lookups) batch(ctx context.Context, ids []string) (map[string]string, error) {
	l.mu.Lock()
	l.batches = append(l.batches, ids)
	l.inProgress++
	l.most = max(l.most, l.inProgress)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.inProgress--
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
	values := make(map[string]string)
	for _, id := range ids {
		if id = fold(id); id[len(id)-1] != '-' && id[len(id)-1] != '?' {
			values[id] = id
		}
	}
	return values, nil
}

// reader reads from lookups by a batcher.
type reader struct {
	batcher[string]

	up *lookups
}

const batchLimit = 100

func newReader(up *lookups) *reader {
	return &reader{batcher[string]{limit: batchLimit, call: up.batch}, up}
}

// ids returns n conversation ids.
func ids(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("alice|1|peer%d", i)
	}
	return list
}

// read gets a conversation, and returns what is wrong with the answer.
func read(ctx context.Context, s *reader, id string) error {
	value, done, err := s.get(ctx, id)
	if !done {
		value, err = s.up.single(ctx, id)
	}
	if err == nil && value != fold(id) {
		return fmt.Errorf("asked for %s, got %s", id, value)
	}
	return err
}

// readAll gets conversations at the same time.
func readAll(ctx context.Context, s *reader, ids []string) []error {
	errs := make([]error, len(ids))
	var group sync.WaitGroup
	for i, id := range ids {
		group.Go(func() { errs[i] = read(ctx, s, id) })
	}
	group.Wait()
	return errs
}

func takes(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// checkIdle checks that nothing is left of calls that have ended.
func (b *batcher[V]) checkIdle(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open != nil || b.inProgress != 0 {
		t.Errorf("%d merged calls are left, and %+v", b.inProgress, b.open)
	}
}

func TestMergeMakesFewCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{took: takes(10 * time.Millisecond)}
		s := newReader(up)
		start := time.Now()
		for i, err := range readAll(t.Context(), s, ids(1000)) {
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
		s.checkIdle(t)
	})
}

func TestMergeWaitsNoLongerThanTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{}
		s := newReader(up)
		start := time.Now()
		for _, err := range readAll(t.Context(), s, ids(99)) {
			if err != nil {
				t.Error(err)
			}
		}
		if len(up.batches) != 1 || len(up.batches[0]) != 99 || time.Since(start) != mergeWindow {
			t.Errorf("calls %v after %s", up.batches, time.Since(start))
		}
	})
}

// TestMergeSingleCaller checks that a caller who finds nobody to go with goes alone.
func TestMergeSingleCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{see: func(ctx context.Context, _ []string) {
			if CallInfoOf(ctx).TraceID != "single" {
				t.Error("a single caller's call is not its own")
			}
		}}
		s := newReader(up)
		if err := read(WithCallInfo(t.Context(), CallInfo{TraceID: "single"}), s, "alice|1|bob"); err != nil || len(up.batches) != 0 || len(up.alone) != 1 {
			t.Errorf("a single caller: merged %v, error %v", up.batches, err)
		}
		s.checkIdle(t)
	})
}

// TestMergeAsksOnce checks that equal ids are asked for once, and that others are not
// taken for equal.
func TestMergeAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{took: takes(time.Second)}
		s := newReader(up)
		var group sync.WaitGroup
		for i := range 300 {
			group.Go(func() {
				if err := read(t.Context(), s, []string{"alice|1|bob", "ALICE|1|bob", "alice|1|carol"}[i%3]); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if len(up.batches) != 1 || len(up.alone) != 0 {
			t.Fatalf("merged %v, alone %v", up.batches, up.alone)
		}
		slices.Sort(up.batches[0])
		if !slices.Equal(up.batches[0], []string{"ALICE|1|bob", "alice|1|bob", "alice|1|carol"}) {
			t.Errorf("asked for %v", up.batches[0])
		}
	})
}

// TestMergeWhatWasNotFound checks that an item without an answer gets the error of
// a call of its own, and that the others do not care.
func TestMergeWhatWasNotFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{}
		s := newReader(up)
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
	busy := &apierror.Error{Reason: apierror.Unavailable, Code: codes.Unavailable, Retry: upstreamv1.Retry_RETRY_SAFE, After: time.Second}
	for name, tt := range map[string]struct {
		err    error
		shared bool
	}{
		"busy":        {busy, true},
		"parameter":   {status.Error(codes.InvalidArgument, "414"), false},
		"unreadable":  {status.Error(codes.Internal, "too large"), false},
		"not allowed": {status.Error(codes.PermissionDenied, "no batches"), false},
		"foreign":     {fmt.Errorf("wrapped: %w", context.DeadlineExceeded), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				up := &lookups{refuse: func([]string) error { return tt.err }}
				s := newReader(up)
				for _, err := range readAll(t.Context(), s, ids(5)) {
					if !tt.shared {
						if err != nil {
							t.Errorf("heard of %v", err)
						}
						continue
					}
					if status.Code(err) != codes.Unavailable {
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
		s := newReader(up)
		var group sync.WaitGroup
		for i, id := range ids(5) {
			group.Go(func() {
				ctx := t.Context()
				if i == 2 {
					ctx = lasting(t, time.Millisecond)
				}
				defer func() {
					text := fmt.Sprint(recover())
					if told := strings.Contains(text, "boom") && strings.Contains(text, "batcher_test.go"); told != (i != 2) {
						t.Errorf("caller %d: %s", i, text)
					}
				}()
				_ = read(ctx, s, id)
			})
		}
		group.Wait()
		s.checkIdle(t)
	})
}

// TestMergePanicOfTheGivenUp checks that a panic is not lost if all have left.
func TestMergePanicOfTheGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{see: func(ctx context.Context, _ []string) {
			<-ctx.Done()
			panic("boom")
		}}
		s := newReader(up)
		var told atomic.Int32
		var group sync.WaitGroup
		for i, id := range ids(2) {
			group.Go(func() {
				defer func() {
					if recover() != nil {
						told.Add(1)
					}
				}()
				_ = read(lasting(t, time.Duration(i+1)*time.Second), s, id)
			})
		}
		group.Wait()
		if told.Load() != 1 {
			t.Errorf("%d callers heard of the panic", told.Load())
		}
	})
}

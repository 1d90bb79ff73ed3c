package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// TestMergeCallersLeave checks that callers leave when they want to, and that
// nobody else notices, whether the merged call has been made or not.
func TestMergeCallersLeave(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]time.Duration{"gathering": mergeWindow / 2, "under way": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				up := &lookups{took: takes(10 * time.Second), see: func(ctx context.Context, _ []string) {
					if CallInfoOf(ctx).TraceID != "0" {
						t.Errorf("trace id %q", CallInfoOf(ctx).TraceID)
					}
				}}
				s := newReader(up)
				start := time.Now()
				var group sync.WaitGroup
				for i, id := range ids(20) {
					synctest.Wait() // in this order
					group.Go(func() {
						ctx := WithCallInfo(t.Context(), CallInfo{TraceID: fmt.Sprint(i)})
						want, after := codes.OK, mergeWindow+10*time.Second
						var cancel context.CancelFunc
						switch i % 4 {
						case 0: // the first among them
							want, after = codes.Canceled, gone
							ctx, cancel = context.WithCancel(ctx)
							time.AfterFunc(gone, cancel)
						case 1:
							want, after = codes.DeadlineExceeded, gone+time.Duration(i)
							ctx, cancel = context.WithTimeout(ctx, gone+time.Duration(i))
							defer cancel()
						}
						err := read(ctx, s, id)
						if took := time.Since(start); status.Code(err) != want || took != after {
							t.Errorf("caller %d: %v after %s", i, err, took)
						}
					})
				}
				group.Wait()
				asked := map[string]int{"gathering": 10, "under way": 20}[name]
				if len(up.batches) != 1 || len(up.batches[0]) != asked || len(up.alone) != 0 {
					t.Errorf("merged %v, alone %v", up.batches, up.alone)
				}
				s.checkIdle(t)
			})
		})
	}
}

// TestMergeAllLeave checks that a call ends with its last caller, and is not made
// if all have left before.
func TestMergeAllLeave(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		patience time.Duration
		calls    int
	}{
		"gathering": {mergeWindow / 2, 0},
		"under way": {time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				up := &lookups{took: takes(time.Hour)}
				s := newReader(up)
				start := time.Now()
				for i, err := range readAll(lasting(t, tt.patience), s, ids(5)) {
					if status.Code(err) != codes.DeadlineExceeded || time.Since(start) != tt.patience {
						t.Errorf("caller %d: %v after %s", i, err, time.Since(start))
					}
				}
				if len(up.batches) != tt.calls || len(up.alone) != 0 || up.inProgress != 0 {
					t.Errorf("merged %v, alone %v, %d under way", up.batches, up.alone, up.inProgress)
				}
				s.checkIdle(t)
			})
		})
	}
}

// TestMergeDeadline tells which deadline a merged call has.
func TestMergeDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const none = 0
		for _, tt := range []struct {
			callers []time.Duration
			want    time.Duration
		}{
			{[]time.Duration{5 * time.Second, 9 * time.Second, 3 * time.Second}, 9 * time.Second},
			{[]time.Duration{5 * time.Second, none, 3 * time.Second}, none},
		} {
			start := time.Now()
			up := &lookups{see: func(ctx context.Context, _ []string) {
				deadline, ok := ctx.Deadline()
				if ok != (tt.want != none) || ok && !deadline.Equal(start.Add(tt.want)) {
					t.Errorf("callers %v: deadline after %s, %t", tt.callers, deadline.Sub(start), ok)
				}
			}}
			s := newReader(up)
			var group sync.WaitGroup
			for i, id := range ids(len(tt.callers)) {
				ctx := t.Context()
				if tt.callers[i] != none {
					ctx = lasting(t, tt.callers[i])
				}
				group.Go(func() {
					if err := read(ctx, s, id); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if len(up.batches) != 1 {
				t.Errorf("merged %v", up.batches)
			}
		}
	})
}

// TestMergeIsBounded tells where callers go while no more calls may be made.
func TestMergeIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{took: takes(time.Second)}
		s := newReader(up)
		all := ids((mergedCalls+1)*batchLimit + 7)
		busy, next, beyond := all[:mergedCalls*batchLimit], all[mergedCalls*batchLimit:len(all)-7], all[len(all)-7:]
		var group sync.WaitGroup
		start := time.Now()
		take := func(ids []string, after time.Duration) {
			for _, id := range ids {
				group.Go(func() {
					if err := read(t.Context(), s, id); err != nil || time.Since(start) != after {
						t.Errorf("%s: %v after %s", id, err, time.Since(start))
					}
				})
			}
			synctest.Wait()
		}
		take(busy, time.Second)
		take(next, 2*time.Second)                        // wait for one of those to end
		take(beyond, time.Second)                        // go alone at once
		take([]string{next[0], next[99]}, 2*time.Second) // are asked for anyway
		up.mu.Lock()
		if len(up.batches) != mergedCalls || len(up.alone) != len(beyond) {
			t.Errorf("%d merged calls, %d others", len(up.batches), len(up.alone))
		}
		up.mu.Unlock()
		group.Wait()
		if len(up.batches) != mergedCalls+1 || len(up.alone) != len(beyond) || up.most != mergedCalls {
			t.Errorf("%d merged calls, %d at a time, %d others", len(up.batches), up.most, len(up.alone))
		}
		s.checkIdle(t)
	})
}

// TestMergeLeavesOneBehind checks that the last of those who waited for room goes
// alone, rather than wait for a merged call that merges nothing.
func TestMergeLeavesOneBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &lookups{took: takes(time.Hour)}
		s := newReader(up)
		s.inProgress = mergedCalls
		start := time.Now()
		var group sync.WaitGroup
		group.Go(func() { _ = read(lasting(t, time.Minute), s, "alice|1|bob") })
		if err := read(t.Context(), s, "alice|1|carol"); err != nil || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("error %v after %s", err, time.Since(start))
		}
		group.Wait()
	})
}

// TestMergeAtRandom lets callers come and go at random, and calls fail.
func TestMergeAtRandom(t *testing.T) {
	t.Parallel()
	busy := &apierror.Error{Reason: apierror.Unavailable, Code: codes.Unavailable, Retry: upstreamv1.Retry_RETRY_SAFE, After: time.Second}
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				random := rand.New(rand.NewPCG(seed, 1))
				some := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return random.IntN(n)
				}
				up := &lookups{
					took: func() time.Duration { return time.Duration(some(30)) * time.Millisecond },
					refuse: func(ids []string) error {
						return []error{nil, nil, nil, busy, status.Error(codes.NotFound, ids[0])}[some(5)]
					},
				}
				s := newReader(up)
				var outcomes sync.Map
				var group sync.WaitGroup
				for range 1000 {
					id := fmt.Sprintf("alice|1|%d%s", some(700), []string{"", "", "", "?", "-"}[some(5)])
					begin, patience := time.Duration(some(50_000))*time.Microsecond, time.Duration(1+some(60_000))*time.Microsecond
					group.Go(func() {
						<-time.After(begin)
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						start := time.Now()
						err := read(ctx, s, id)
						code, took := status.Code(err), time.Since(start)
						outcomes.Store(code, true)
						switch {
						case took > patience, code == codes.DeadlineExceeded && took != patience:
							t.Errorf("%s: %v after %s of %s", id, err, took, patience)
						case code == codes.InvalidArgument && strings.HasSuffix(err.Error(), "alone: "+id):
						case code == codes.OK && !strings.HasSuffix(id, "?"), code == codes.Unavailable, code == codes.DeadlineExceeded:
						default:
							t.Errorf("%s: %v", id, err)
						}
					})
				}
				group.Wait()
				checkBatches(t, up)
				s.checkIdle(t)
				for _, code := range []codes.Code{codes.OK, codes.InvalidArgument, codes.Unavailable, codes.DeadlineExceeded} {
					if _, ok := outcomes.Load(code); !ok {
						t.Errorf("no caller got %s: the test tests nothing", code)
					}
				}
			})
		})
	}
}

func checkBatches(t *testing.T, up *lookups) {
	t.Helper()
	merged := 0
	for _, batch := range up.batches {
		merged += len(batch)
		slices.Sort(batch)
		if len(batch) > batchLimit || len(slices.Compact(batch)) != len(batch) {
			t.Errorf("a call for %d items, some of them equal: %v", len(batch), batch)
		}
	}
	if up.most > mergedCalls || up.inProgress != 0 || merged < 10*len(up.batches) {
		t.Errorf("%d items in %d calls, %d at a time", merged, len(up.batches), up.most)
	}
}

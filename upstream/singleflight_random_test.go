package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// TestFlightsAtRandom lets readers and writers come and go at random. No reader
// may see less than the writes that had ended before it came, or hear of the end
// of another.
func TestFlightsAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				some := func(n int) time.Duration { return time.Duration(random.IntN(n)) * time.Millisecond }
				w := &world{}
				var group sync.WaitGroup
				for range 400 {
					begin, patience, took := some(1000), 1+some(100), some(150)
					key := string(rune('a' + random.IntN(3)))
					if random.IntN(20) == 0 {
						group.Go(func() { <-time.After(begin); w.write(took) })
						continue
					}
					group.Go(func() { <-time.After(begin); w.read(t, key, patience, took) })
				}
				group.Wait()
				w.f.checkEmpty(t)
				if w.shared.Load() == 0 || w.left.Load() == 0 || w.calls.Load() == 0 {
					t.Errorf("%d calls, %d readers shared, %d left: the test tests nothing", w.calls.Load(), w.shared.Load(), w.left.Load())
				}
			})
		})
	}
}

// A world is what readers read: how many writes it has seen.
type world struct {
	f                   singleflight[[]byte]
	state, acknowledged atomic.Int64
	shared, left, calls atomic.Int64
}

func (w *world) write(took time.Duration) {
	<-time.After(took / 2)
	now := w.state.Add(1)
	<-time.After(took / 2)
	w.f.wrote()
	for {
		known := w.acknowledged.Load()
		if known >= now || w.acknowledged.CompareAndSwap(known, now) {
			return
		}
	}
}

func (w *world) read(t *testing.T, key string, patience, took time.Duration) {
	t.Helper()
	known, start := w.acknowledged.Load(), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, ok := w.f.do(ctx, key, func(ctx context.Context) ([]byte, *apierror.Error) {
		w.calls.Add(1)
		state := w.state.Load() // at the worst possible moment
		select {
		case <-time.After(took):
			return fmt.Appendf(nil, "%s %d", key, state), nil
		case <-ctx.Done():
			return nil, &apierror.Error{Reason: apierror.Cancelled}
		}
	})
	if l.joined {
		w.shared.Add(1)
	}
	if !ok {
		w.left.Add(1)
		if time.Since(start) != patience {
			t.Errorf("left after %s of %s", time.Since(start), patience)
		}
		return
	}
	var of string
	var state int64
	if _, err := fmt.Sscan(string(l.reply), &of, &state); err != nil || l.err != nil || of != key || state < known {
		t.Errorf("reader of %s after %d writes got %q, %v", key, known, l.reply, l.err)
	}
}

// BenchmarkFlight shows what it costs a read that nobody shares.
func BenchmarkFlight(b *testing.B) {
	call := func(context.Context) ([]byte, *apierror.Error) { return nil, nil }
	b.Run("direct", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = call(b.Context())
		}
	})
	b.Run("alone", func(b *testing.B) {
		var f singleflight[[]byte]
		ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
		defer cancel()
		b.ReportAllocs()
		for b.Loop() {
			f.do(ctx, "GET /im/v2/conversations/alice%7C1%7Cbob", call)
		}
	})
}

package faults

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A load is calls that begin on a schedule, whatever became of those before: an
// open loop. The nth call is due n/rate after the begin.
type load struct {
	rate   float64 // calls per second
	length time.Duration
	call   func(ctx context.Context, n int) outcome
}

// A record is what became of one call. Times count from the begin of the load.
type record struct {
	outcome

	n               int
	due, begin, end time.Duration
}

func (r record) took() time.Duration { return r.end - r.begin }

// A run is a load under way.
type run struct {
	started time.Time
	halt    atomic.Bool
	done    chan struct{}
	records []record
}

// begin starts a load.
func (l load) begin(ctx context.Context) *run {
	r := &run{started: time.Now(), done: make(chan struct{})}
	// Each call writes to a place of its own.
	r.records = make([]record, int(l.rate*l.length.Seconds()))
	go func() {
		defer close(r.done)
		made := r.pace(ctx, l)
		r.records = r.records[:made]
	}()
	return r
}

// pace makes the calls when they are due and returns how many there were. What is
// late is made at once, so that the schedule stays what it is.
func (r *run) pace(ctx context.Context, l load) int {
	var calls sync.WaitGroup
	defer calls.Wait()
	for n := range r.records {
		due := time.Duration(float64(n) / l.rate * float64(time.Second))
		if wait := due - time.Since(r.started); wait > 0 && !pause(ctx, wait) || r.halt.Load() {
			return n
		}
		calls.Go(func() {
			begin := time.Since(r.started)
			o := l.call(ctx, n)
			r.records[n] = record{o, n, due, begin, time.Since(r.started)}
		})
	}
	return len(r.records)
}

// until waits for a time of the load.
func (r *run) until(ctx context.Context, at time.Duration) {
	pause(ctx, at-time.Since(r.started))
}

// stop ends the schedule; calls under way go on.
func (r *run) stop() { r.halt.Store(true) }

// wait returns the records when all calls have ended.
func (r *run) wait() []record {
	<-r.done
	return r.records
}

// within returns the calls that were due in a stretch of time.
func within(records []record, from, to time.Duration) []record {
	var some []record
	for _, r := range records {
		if r.due >= from && r.due < to {
			some = append(some, r)
		}
	}
	return some
}

// where returns the calls with a property.
func where(records []record, is func(record) bool) []record {
	return slices.DeleteFunc(slices.Clone(records), func(r record) bool { return !is(r) })
}

func succeeded(r record) bool { return r.ok() }
func broken(r record) bool    { return !r.ok() }

// share is the part of the calls that has a property; 0 of none.
func share(records []record, is func(record) bool) float64 {
	if len(records) == 0 {
		return 0
	}
	return float64(len(where(records, is))) / float64(len(records))
}

// reasons counts how calls failed, for messages.
func reasons(records []record) map[string]int {
	counts := make(map[string]int)
	for _, r := range records {
		if !r.ok() {
			counts[r.code.String()+" "+r.reason]++
		}
	}
	return counts
}

// tally lists counts, as text.
func tally(counts map[string]int) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		texts = append(texts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return strings.Join(texts, ", ")
}

// percentile returns the least time that a share of the given ones does not exceed;
// 0 if there are none.
func percentile(times []time.Duration, share float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	at := int(share*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(at, 0), len(sorted)-1)]
}

// times lists a time of each call.
func times(records []record, of func(record) time.Duration) []time.Duration {
	all := make([]time.Duration, len(records))
	for i, r := range records {
		all[i] = of(r)
	}
	return all
}

// jain is Jain's index of fairness: 1 if all have the same, 1/n if one has all.
func jain(amounts []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, a := range amounts {
		sum += a
		squares += a * a
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(amounts)) * squares)
}

// each does something n times, some of them at a time, and waits for the end.
func each(tb testing.TB, n, atATime int, do func(i int)) {
	tb.Helper()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, atATime) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	workers.Wait()
}

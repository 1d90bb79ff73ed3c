package faults

import (
	"context"
	"math"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var stalls = scenario{
	name:  "stalls",
	fault: "connections go silent; answers trickle, 50 bytes per second; answers have no end, 6 MiB per second",
	load:  "200 reads per second over gRPC and REST, deadlines of 50 to 500 ms; the fault comes every 4 s for 2 s",
	must:  "answered by the deadline + 20 ms at p99; the heap grows by at most 32 MiB; goroutines are back within 2 s",
}

func TestStalls(t *testing.T) {
	testmode.Beside(t)
	r := stalls.begin(t)
	up := startFake(t, behaviour{})
	p := startProxy(t, strings.TrimPrefix(up.url, "http://"))
	callers := startFacade(t, []string{"http://" + p.address()}, apart...).callers(t, 4)
	rate, length := form(100.0, 200.0), form(time.Second, 40*time.Second)
	spell := form(time.Second, 2*time.Second)
	deadline := func(n int) time.Duration { return time.Duration(50+n%10*50) * time.Millisecond }
	call := func(ctx context.Context, n int) outcome {
		c, conversation := callers[n%len(callers)], peer(n)
		if n/len(callers)%2 == 0 {
			return c.readREST(ctx, conversation, deadline(n))
		}
		ctx, cancel := context.WithTimeout(ctx, deadline(n))
		defer cancel()
		return c.read(ctx, conversation)
	}
	under := func(length time.Duration) []record {
		return load{rate: rate, length: length, call: call}.begin(t.Context()).wait()
	}
	// A connection has goroutines at both ends for as long as it is idle.
	running := func() int {
		p.reset(func(*link) bool { return true })
		for _, c := range callers {
			c.rest.CloseIdleConnections()
		}
		return runtime.NumGoroutine()
	}
	under(time.Second)
	least := running()
	await(t.Context(), time.Second, func() bool { least = min(least, running()); return false })

	for _, f := range []fault{
		{mode: swallow},
		{mode: trickle, n: 1, every: 20 * time.Millisecond},
		{mode: endless, n: 64 << 10, every: 10 * time.Millisecond},
	} {
		grown := growth(t)
		calls := load{rate: rate, length: length, call: call}.begin(t.Context())
		for at := time.Duration(0); at < length; at += 2 * spell {
			p.set(t, f)
			calls.until(t.Context(), at+spell)
			p.set(t, fault{}) // otherwise the service would soon refuse all calls, and none would wait
			calls.until(t.Context(), at+2*spell)
		}
		records := calls.wait()
		heap := grown()
		back := time.Now()
		await(t.Context(), form(30*time.Second, 2*time.Second), func() bool { return running() <= least+5 })
		late := func(c record) time.Duration { return c.took() - deadline(c.n) }
		// Those that were refused because the endpoint is out of service, or has
		// enough to do, had nothing to wait for.
		waited := where(records, func(c record) bool {
			return broken(c) && c.reason != "UPSTREAM_UNREACHABLE" && c.reason != "OVERLOADED"
		})
		p99 := percentile(times(waited, late), 0.99)
		r.Logf("%d of %d waited; p99 late over REST %v, over gRPC %v; begun late %v", len(waited), len(records),
			percentile(times(where(waited, func(c record) bool { return c.n/len(callers)%2 == 0 }), late), 0.99),
			percentile(times(where(waited, func(c record) bool { return c.n/len(callers)%2 == 1 }), late), 0.99),
			percentile(times(waited, func(c record) time.Duration { return c.begin - c.due }), 0.99))
		r.timed(f.mode.String()+": answered at p99", milliseconds(p99), " ms after the deadline", atMost(20))
		r.timed("heap +", math.Round(heap/(1<<20)*10)/10, " MiB", atMost(32))
		r.figure("goroutines +", float64(max(0, running()-least)), "", atMost(5))
		t.Logf("goroutines back after %v; answers %v", time.Since(back), reasons(records))
		for _, c := range records {
			if c.reason == "half an answer over HTTP" || c.reason == "no answer over HTTP" || c.reason == "no google.rpc.Status" {
				t.Errorf("%s: call %d: %s: %v", f.mode, c.n, c.reason, c.err)
			}
		}
		// Calls get through again, be it after the service has found out.
		r.must(callers[0].well(t), f.mode.String()+": calls fail when it is over")
	}
	r.write()
}

// growth returns a function that tells by how many bytes what lives on the heap
// has grown in between, at most.
func growth(tb testing.TB) func() float64 {
	tb.Helper()
	live := func() float64 {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		return float64(sample[0].Value.Uint64())
	}
	runtime.GC()
	before, most := live(), 0.0
	ctx, stop := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() {
		for pause(ctx, 500*time.Millisecond) {
			runtime.GC() // what is counted is what the last collection found alive
			most = max(most, live())
		}
	})
	return func() float64 {
		stop()
		watch.Wait()
		return max(0, most-before)
	}
}

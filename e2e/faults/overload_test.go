package faults

import (
	"context"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var overload = scenario{
	name:  "overload",
	fault: "five times as many calls as the upstream can carry, for 2 minutes",
	load:  "1,000 reads per second with deadlines of 1 s, where 20 workers take 100 ms for each",
	must:  "as many answers in time as 90 % of what the upstream can give; refused within 5 ms; all well within 5 s",
}

func TestOverload(t *testing.T) {
	testmode.Beside(t)
	r := overload.begin(t)
	const workers, service = 20, 100 * time.Millisecond
	up := startFake(t, behaviour{workers: make(chan struct{}, workers), service: service})
	peak := workers / service.Seconds()
	callers := startFacade(t, []string{up.url}, apart...).callers(t, 4)
	warm, over, after := form(500*time.Millisecond, 10*time.Second), form(3*time.Second, 120*time.Second), form(2*time.Second, 20*time.Second)
	call := func(ctx context.Context, n int) outcome {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return callers[n%len(callers)].read(ctx, peer(n))
	}
	below := load{rate: peak / 2, length: warm, call: call}.begin(t.Context()).wait()
	if n := len(where(below, broken)); n > 0 {
		t.Errorf("%d calls failed at half of the load: %v", n, reasons(below))
	}
	records := load{rate: 5 * peak, length: over, call: call}.begin(t.Context()).wait()
	recovery := load{rate: peak / 2, length: after, call: call}.begin(t.Context()).wait()

	good := where(records, succeeded)
	refused := where(records, func(c record) bool { return c.reason == "OVERLOADED" })
	r.timed("answers in time", float64(len(good))/over.Seconds()/peak*100, " % of what the upstream can give", atLeast(90))
	r.must(len(good) > 0, "nothing was answered")
	r.timed("refused at p99 after", milliseconds(percentile(times(refused, record.took), 0.99)), " ms", atMost(5))
	r.sayf("at p50 %s ms", digits(milliseconds(percentile(times(refused, record.took), 0.5))))
	r.sayf("answers at p50 after %s ms, at p99 %s ms", digits(milliseconds(percentile(times(good, record.took), 0.5))),
		digits(milliseconds(percentile(times(good, record.took), 0.99))))
	r.timed("refused or failed from 5 s after it on", share(within(recovery, min(5*time.Second, after/2), after), broken)*100, " %", atMost(1))
	r.sayf("all well %s s after it", digits(lastFailure(recovery).Seconds()))
	r.must(callers[0].well(t), "calls fail after it")
	r.sayf("begun too late by the callers at p99 %s ms", digits(milliseconds(percentile(times(records, func(c record) time.Duration { return c.begin - c.due }), 0.99))))
	t.Logf("failed: %v; after it: %v", reasons(records), reasons(recovery))
	r.write()
}

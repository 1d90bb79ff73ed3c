package attacks

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// traffic is what became of the calls.
type traffic struct {
	mu            sync.Mutex
	calls, failed int
	took          []time.Duration
	late          time.Duration // that a call began at most
}

// add counts a call, and reports whether it failed and is to be shown.
func (c *traffic) add(late, took time.Duration, err error) (show bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.late, c.took = c.calls+1, max(c.late, late), append(c.took, took)
	if err == nil {
		return false
	}
	const shown = 5
	c.failed++
	return c.failed <= shown
}

func (c *traffic) judge(t *testing.T) {
	t.Helper()
	slices.Sort(c.took)
	t.Logf("%d calls, %d failed; p99 %v, begun at most %v late", c.calls, c.failed, p99(c.took), c.late)
}

// under calls at a steady rate, whatever becomes of the calls, until a deed is
// done.
func (v *vault) under(tb testing.TB, deed func()) *traffic {
	tb.Helper()
	done := make(chan struct{})
	c := &traffic{}
	var all sync.WaitGroup
	all.Go(func() { v.load(tb, done, &all, c) })
	defer all.Wait()
	defer close(done)
	deed()
	return c
}

// load begins calls until the deed is done, and counts how all of them end. In the
// short form a machine that stands still must not make an overload of them.
func (v *vault) load(tb testing.TB, done <-chan struct{}, all *sync.WaitGroup, c *traffic) {
	tb.Helper()
	room := make(chan struct{}, scale(8, 1000)) // the server takes a few more
	timer := time.NewTimer(0)
	defer timer.Stop()
	every := time.Second / scale[time.Duration](100, 500)
	begin := time.Now()
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(n) * every)
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-done:
			return
		}
		if full() && len(room) == cap(room) {
			tb.Errorf("call %d: %d others are not answered", n, len(room))
			return
		}
		select {
		case room <- struct{}{}: // without a wait, unless the machine stands still in the short form
		case <-done:
			return
		}
		all.Go(func() {
			late, started := time.Since(due), time.Now()
			err := v.doors[n%len(v.doors)].call(tb)
			<-room
			if c.add(late, time.Since(started), err) {
				tb.Errorf("call %d at %v: %v", n, time.Since(begin), err)
			}
		})
	}
}

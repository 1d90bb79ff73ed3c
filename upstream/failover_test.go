package upstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// switches returns how often the calls have moved.
func (c client) switches(t *testing.T) int {
	t.Helper()
	return int(counted(t, c.metrics.switches))
}

// TestFailover checks that the calls move when a host goes silent, those under way
// included, and come back when it has been well for a while.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]load{
		"reads":        {readThing, 60, 3 * time.Second, ""},
		"keyed writes": {writeThing, 60, 3 * time.Second, "k"},
	} {
		for _, ill := range []condition{holed, gateless, refusing} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFleet(t, "main", "backup")
					c := f.client(t, "main", "backup")
					if calls, failed := l.run(t, c, 5*time.Second, 0); failed > 0 || f.arrived("backup", time.Hour) > 0 {
						t.Fatalf("well: %d of %d calls failed, %d at the backup", failed, calls, f.arrived("backup", time.Hour))
					}
					f.turn(ill)
					if calls, failed := l.run(t, c, 20*time.Second, 2*time.Second); failed*100 > calls || c.switches(t) != 1 {
						t.Errorf("ill: %d of %d calls failed, %d switches", failed, calls, c.switches(t))
					}
					f.turn(well)
					if calls, failed := l.run(t, c, (30*time.Second)-2*time.Second, 0); failed > 0 || c.switches(t) != 1 {
						t.Errorf("healed: %d of %d calls failed, %d switches", failed, calls, c.switches(t))
					}
					if calls, failed := l.run(t, c, 40*time.Second, 0); failed > 0 || c.switches(t) != 2 || f.arrived("backup", time.Second) > 0 {
						t.Errorf("back: %d of %d calls failed, %d switches", failed, calls, c.switches(t))
					}
				})
			})
		}
	}
}

// TestSilenceAfterSilence checks that a silence is noticed after an earlier one that
// was over before a probe could tell, however short the pauses between calls are.
func TestSilenceAfterSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "main", "backup")
		c := f.client(t, "main", "backup")
		l := load{readThing, 100, time.Second, ""}
		for at, ill := range map[time.Duration]condition{time.Second: paused, 1700 * time.Millisecond: well, 4 * time.Second: holed} {
			time.AfterFunc(at, func() { f.turn(ill) })
		}
		if calls, failed := l.run(t, c, 15*time.Second, 6*time.Second); failed > 0 || c.switches(t) != 1 {
			t.Errorf("%d of %d calls failed, %d switches", failed, calls, c.switches(t))
		}
	})
}

// TestOneProbe checks that the only host is not left for one probe that got lost.
func TestOneProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "main")
		c := f.client(t, "main")
		f.turn(stuck)
		time.AfterFunc((500*time.Millisecond)-1, func() { f.turn(holed) })
		time.AfterFunc((500*time.Millisecond)+time.Second+1, func() { f.turn(well) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = c.fail(ctx, t, readThing)
		<-time.After(time.Second)
		if _, err := c.call(t.Context(), readThing); err != nil {
			t.Error(err)
		}
	})
}

// TestInFlightMove checks that a call which hangs at a silent host is answered by
// another one, whatever is left of the budget.
func TestInFlightMove(t *testing.T) {
	t.Parallel()
	for _, method := range []string{readThing, setThing} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, "main", "backup")
			c := f.client(t, "main", "backup")
			if _, err := c.call(t.Context(), readThing); err != nil { // leaves a connection
				t.Fatal(err)
			}
			f.turn(holed)
			c.budget.saved = 0
			begin := time.Now()
			if _, err := c.call(t.Context(), method); err != nil || time.Since(begin) > 2*time.Second {
				t.Errorf("%s: %v after %v", method, err, time.Since(begin))
			}
		})
	}
}

// TestSentWriteStays checks that a write which was sent is not made at another
// host, while one that was not is.
func TestSentWriteStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "main", "backup")
		c := f.client(t, "main", "backup")
		if _, err := c.call(t.Context(), readThing); err != nil {
			t.Fatal(err)
		}
		f.turn(stuck) // takes what it is sent
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		time.AfterFunc(100*time.Millisecond, func() { f.turn(holed) })
		if e := c.fail(ctx, t, writeThing); e.Reason != apierror.OutcomeUnknown {
			t.Errorf("%s", e.Reason)
		}
		if n := f.arrived("backup", time.Hour); n != 0 {
			t.Errorf("%d attempts at the backup", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "main", "backup")
		c := f.client(t, "main", "backup")
		f.turn(holed) // no connection to it
		if _, err := c.call(t.Context(), writeThing); err != nil {
			t.Error(err)
		}
	})
}

// TestFlapping checks that a host that is never well for long gets no calls back.
func TestFlapping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "main", "backup")
		c := f.client(t, "main", "backup")
		l := load{readThing, 100, 3 * time.Second, ""}
		for i := range 20 {
			f.turn([]condition{holed, well}[i%2])
			grace := time.Duration(0)
			if i == 0 {
				grace = 2 * time.Second
			}
			if calls, failed := l.run(t, c, 7*time.Second, grace); failed*100 > calls {
				t.Errorf("phase %d: %d of %d calls failed", i, failed, calls)
			}
		}
		if c.switches(t) != 1 {
			t.Errorf("%d switches", c.switches(t))
		}
	})
}

// TestRelapse checks that the calls return ever later to a host that does not
// last, and never within ten seconds of the last switch.
func TestRelapse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "main", "backup")
		c := f.client(t, "main", "backup")
		l := load{readThing, 20, 3 * time.Second, ""}
		before := time.Duration(0)
		for i := range 4 {
			f.turn(gateless)
			l.run(t, c, 3*time.Second, 0)
			f.turn(well)
			healed := time.Now()
			for c.current() != "main" && time.Since(healed) < time.Hour {
				l.run(t, c, time.Second, 0)
			}
			took := time.Since(healed)
			if took < (30*time.Second) || took < before*3/2 {
				t.Errorf("return %d after %v, the one before after %v", i, took, before)
			}
			before = took
		}
	})
}

// TestOutage checks that a host that is the only one is spared while it fails, and
// called as soon as it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, ill := range []condition{holed, gateless, refusing} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, "main")
			c := f.client(t, "main")
			l := load{readThing, 100, 3 * time.Second, ""}
			l.run(t, c, 5*time.Second, 0)
			f.turn(ill)
			l.run(t, c, 10*time.Second, 0)
			if n := f.arrived("main", 5*time.Second); n > 6 {
				t.Errorf("condition %d: %d attempts in 5 s", ill, n)
			}
			f.turn(well)
			if calls, failed := l.run(t, c, 10*time.Second, 3*time.Second); failed > 0 {
				t.Errorf("condition %d: %d of %d calls failed after recovery", ill, failed, calls)
			}
		})
	}
}

// TestProbes checks that a host is judged by its calls where probes say nothing.
func TestProbes(t *testing.T) {
	t.Parallel()
	l := load{readThing, 50, 3 * time.Second, ""}
	t.Run("slow but alive", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, "main", "backup")
			c := f.client(t, "main", "backup")
			f.turn(stuck)
			ctx, cancel := context.WithTimeout(t.Context(), 1900*time.Millisecond)
			defer cancel()
			if e := c.fail(ctx, t, readThing); e.Reason != apierror.DeadlineExceeded || c.switches(t) != 0 {
				t.Error("switched")
			}
		})
	})
	t.Run("calls hang", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, "main", "backup")
			c := f.client(t, "main", "backup")
			f.turn(stuck)
			if calls, failed := l.run(t, c, 20*time.Second, 4*time.Second); failed > 0 {
				t.Errorf("%d of %d calls failed", failed, calls)
			}
		})
	})
	t.Run("no probes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, "main")
			c := f.client(t, "main")
			f.turn(unprobed)
			if _, failed := l.run(t, c, 10*time.Second, 0); failed > 0 {
				t.Errorf("%d calls failed", failed)
			}
			f.turn(gateless)
			l.run(t, c, 10*time.Second, 0)
			f.turn(unprobed)
			if calls, failed := l.run(t, c, 10*time.Second, 3*time.Second); failed > 0 {
				t.Errorf("%d of %d calls failed after recovery", failed, calls)
			}
		})
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, "main", "backup")
			c := f.client(t, "main", "backup")
			if _, err := c.call(t.Context(), readThing); err != nil {
				t.Fatal(err)
			}
			f.turn(holed)
			<-time.After(time.Hour) // nobody calls
			synctest.Wait()
			if c.switches(t) != 0 {
				t.Error("switched")
			}
			if _, err := c.call(t.Context(), readThing); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestSetEndpoints checks that hosts keep their health when the list changes, and
// that calls leave those that are no longer in it.
func TestSetEndpoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, "main", "backup", "third")
		c := f.client(t, "main", "backup")
		f.turn(gateless)
		l := load{readThing, 50, 3 * time.Second, ""}
		l.run(t, c, 5*time.Second, 0)
		set := func(names ...string) {
			if err := c.endpoints.Replace(names); err != nil {
				t.Fatal(err)
			}
		}
		set("http://main", "http://backup", "http://third")
		if c.current() != "backup" || c.endpoints.States()[0].Up {
			t.Error("health forgotten")
		}
		set("http://main", "http://third")
		if _, failed := l.run(t, c, 5*time.Second, 0); failed > 0 || f.arrived("third", time.Minute) == 0 {
			t.Errorf("%d calls failed; %d at the new host", failed, f.arrived("third", time.Minute))
		}
		if err := c.endpoints.Replace([]string{"ftp://x"}); err == nil || c.current() != "third" {
			t.Errorf("a list that cannot be: %v", err)
		}
		before := testutil.CollectAndCount(c.metrics.attempts)
		set("http://main", "http://main/prefix")
		if problems, err := testutil.CollectAndLint(c); err != nil {
			t.Errorf("%v %v", problems, err)
		}
		set("http://main", "http://main/")
		if n := testutil.CollectAndCount(c.metrics.attempts); n >= before {
			t.Errorf("%d series, and %d when there were more hosts", n, before)
		}
		if len(c.endpoints.States()) != 1 {
			t.Errorf("%d hosts, one of them twice", len(c.endpoints.States()))
		}
		if _, err := c.call(t.Context(), readThing); err == nil {
			t.Error("called a host that is out of service and one of none")
		}
	})
}

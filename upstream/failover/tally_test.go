package failover

import (
	"testing"
	"time"
)

// TestTally checks that results are forgotten.
func TestTally(t *testing.T) {
	t.Parallel()
	var w tally
	now := time.Now()
	for i := range 10 {
		if w.failing() {
			t.Errorf("failing after %d results", i)
		}
		w.add(now, i%2 == 0)
	}
	if !w.failing() {
		t.Error("half of the results are bad")
	}
	w.add(now.Add(2*tallyLength), true)
	if w.failing() || w.lastBad != 0 {
		t.Error("not forgotten")
	}
}

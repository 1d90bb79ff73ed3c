// Package testmode says how much the tests do. In the plain form, `go test ./...`,
// every rule is tested once. In the full form, which CI runs, simulated crowds, random
// histories, faults and attacks have their full size.
package testmode

import (
	"flag"
	"os"
	"strconv"
	"testing"
)

// Full reports whether the environment asks for the full form: YUNXIN_TESTS=full.
func Full() bool { return os.Getenv("YUNXIN_TESTS") == "full" }

// Crowd skips a test that makes calls by the ten thousand in simulated time, except in
// the full form. Other tests look for races: in such a crowd the race detector itself
// fails now and then, see golang/go#78156.
func Crowd(t testing.TB) {
	t.Helper()
	if raceDetector || !Full() {
		t.Skip("in the full form without the race detector only: YUNXIN_TESTS=full")
	}
}

// Size returns the size of the full form, or the small one of the plain form.
func Size(plain, full int) int {
	if Full() {
		return full
	}
	return plain
}

// Beside lets a test run beside others in the plain form: it waits more than it
// computes. In the full form it runs alone, since times are judged there, and under the
// race detector, which needs the processor.
func Beside(t *testing.T) {
	t.Helper()
	if !Full() && !raceDetector {
		t.Parallel()
	}
}

// Many lets so many tests run beside each other where Beside does, whatever the number
// of cores.
func Many(tests int) error {
	if Full() || raceDetector {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(tests))
}

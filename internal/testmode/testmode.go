// Package testmode says how much the tests do. In the plain form, `go test ./...`,
// every rule is tested once. In the full form, which CI runs, simulated crowds, random
// histories, faults and attacks have their full size.
package testmode

import (
	"os"
	"testing"
)

// Full reports whether the environment asks for the full form: YUNXIN_TESTS=full.
func Full() bool { return os.Getenv("YUNXIN_TESTS") == "full" && !testing.Short() }

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

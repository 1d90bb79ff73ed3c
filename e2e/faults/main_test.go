// Package faults proves that the service loses nothing, doubles nothing and gets
// stuck nowhere. It starts the whole server, calls it over TCP like anybody would,
// and has at the other end an upstream of its own, which notes what it executed
// and fails as told, and a proxy before that, which breaks connections.
//
// There is one test for each row of docs/reliability.md. By itself the suite is
// short, and only what does not depend on the speed of the machine decides: what
// was executed, how often, in which order. With YUNXIN_TESTS=full, as `make faults`
// sets it, the loads are those of the table, the figures that are times
// decide as well, and the page is written anew.
package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// full reports whether the full form of the suite runs.
var full = testmode.Full()

func TestMain(m *testing.M) {
	if err := errors.Join(testmode.Many(8), trustTestCertificate()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	goleak.VerifyTestMain(m)
}

// form returns what belongs to the form of the suite that runs.
func form[T any](short, long T) T {
	if full {
		return long
	}
	return short
}

// pause waits, and reports whether the context lasted as long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await asks again and again until the answer is yes, and reports whether it came
// in time.
func await(ctx context.Context, most time.Duration, yes func() bool) bool {
	deadline := time.Now().Add(most)
	for !yes() {
		if time.Now().After(deadline) || !pause(ctx, 5*time.Millisecond) {
			return false
		}
	}
	return true
}

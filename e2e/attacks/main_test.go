// Package attacks does to the service what nobody means well with: headers that
// claim to be somebody, bodies that do not end, frames by the thousand, ids that
// want to be something else. What is asked for must happen to nobody but the
// attacker, and honest calls go on. All of it happens on loopback.
//
// The short form judges what holds at any speed. With YUNXIN_TESTS=full it
// takes more of everything, and also judges how much slower honest calls become.
package attacks

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// full reports whether the full form of the suite runs.
func full() bool { return testmode.Full() }

// scale is an amount in the short form or in the long one.
func scale[N any](short, long N) N {
	if full() {
		return long
	}
	return short
}

func TestMain(m *testing.M) {
	if order := os.Getenv(attackerEnv); order != "" {
		beAttacker(order)
		return
	}
	if err := testmode.Many(8); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	flag.Parse()
	// The number of random cases; the seed is printed by a failure.
	if err := flag.Set("rapid.checks", strconv.Itoa(scale(300, 250_000))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if command.dir != "" {
		_ = os.RemoveAll(command.dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Package e2e tests the service from outside, through both of its doors: gRPC
// and REST. The server is the real one, started from command-line arguments; its
// upstream is the built-in sandbox, a recording stand-in, or, for the corpus of
// cases, whatever a running service calls (see README.md).
package e2e

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

func TestMain(m *testing.M) {
	if err := testmode.Many(8); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

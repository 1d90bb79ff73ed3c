package attacks

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
)

// A facade is where a running service listens: host and port of each door.
type facade struct{ grpc, rest, admin string }

// startFacade starts the server in this process, in front of an upstream, and
// stops it when the test ends.
func startFacade(tb testing.TB, endpoint string, args ...string) facade {
	tb.Helper()
	return facadeAt(harness.Start(tb, slices.Concat(baseArgs(tb, endpoint), args)...))
}

// baseArgs are the arguments for a server whose reads stay apart: one call is one
// request to the upstream.
func baseArgs(tb testing.TB, endpoint string) []string {
	tb.Helper()
	return append(harness.Upstream(tb, endpoint), "--no-share-reads", "--merge-reads=never", "--drain-timeout=2s")
}

func facadeAt(doors harness.Doors) facade {
	bare := func(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }
	return facade{doors.GRPC, bare(doors.REST), bare(doors.Admin)}
}

// dialGRPC makes a connection of an ordinary client.
func (f facade) dialGRPC(tb testing.TB, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient(f.grpc, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

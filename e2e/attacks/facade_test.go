package attacks

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/server"
)

// A facade is where a running service listens: host and port of each door.
type facade struct{ grpc, rest, admin string }

// startFacade starts the server in this process, in front of an upstream, and
// stops it when the test ends.
func startFacade(tb testing.TB, endpoint string, args ...string) facade {
	tb.Helper()
	cfg, err := config.Parse(append(baseArgs(tb, endpoint), args...), tb.Output())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := server.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			tb.Errorf("the server did not stop cleanly: %v", err)
		}
	})
	f, ok := addresses(s.Banner())
	if !ok {
		tb.Fatalf("the banner has no addresses:\n%s", s.Banner())
	}
	return f
}

// baseArgs are the arguments for a server without quotas, whose reads stay apart:
// one call is one request to the upstream.
func baseArgs(tb testing.TB, endpoint string) []string {
	tb.Helper()
	secret := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("attacks-secret\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return []string{
		"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
		"--app-key=attacks-key", "--app-secret-file=" + secret, "--endpoint=" + endpoint,
		"--plan=unlimited", "--no-share-reads", "--merge-reads=never", "--drain-timeout=2s",
	}
}

var listening = regexp.MustCompile(`(?s)\sgRPC\s+(\S+)\s.*\sREST\s+(http://[^/]+)/.*\sadmin\s+(http://[^/]+)/`)

// addresses reads where a server listens from what it tells its operator.
func addresses(banner string) (facade, bool) {
	m := listening.FindStringSubmatch(banner)
	if m == nil {
		return facade{}, false
	}
	bare := func(url string) string { return strings.TrimPrefix(url, "http://") }
	return facade{m[1], bare(m[2]), bare(m[3])}, true
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

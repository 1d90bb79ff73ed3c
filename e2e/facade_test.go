package e2e

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/server"
)

// The credentials that the recorded upstream expects.
const (
	testKey    = "e2e-key"
	testSecret = "e2e-secret"
)

// A facade is a running service, as its callers see it.
type facade struct {
	grpcAddr string
	restURL  string
	conn     *grpc.ClientConn
	client   *http.Client
}

// startFacade starts the server with the given arguments, on ports of its own,
// and stops it when the test ends.
func startFacade(tb testing.TB, args ...string) *facade {
	tb.Helper()
	args = append([]string{
		"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
	}, args...)
	cfg, err := config.Parse(args, tb.Output())
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
	grpcAddr, restURL := addresses(tb, s.Banner())
	f := connect(tb, grpcAddr, restURL)
	tb.Cleanup(func() {
		f.close()
		stop()
		if err := <-stopped; err != nil {
			tb.Errorf("the server did not stop cleanly: %v", err)
		}
	})
	return f
}

var bound = regexp.MustCompile(`(?m)^\s*gRPC\s+(\S+)\n\s*REST\s+(http://[^/]+)/`)

// addresses reads where a server listens from what it tells its operator.
func addresses(tb testing.TB, banner string) (grpcAddr, restURL string) {
	tb.Helper()
	m := bound.FindStringSubmatch(banner)
	if m == nil {
		tb.Fatalf("the banner has no addresses:\n%s", banner)
	}
	return m[1], m[2]
}

// connect makes the clients of a service that runs already.
func connect(tb testing.TB, grpcAddr, restURL string) *facade {
	tb.Helper()
	conn, err := grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	return &facade{grpcAddr: grpcAddr, restURL: restURL, conn: conn, client: client}
}

func (f *facade) close() {
	_ = f.conn.Close()
	f.client.CloseIdleConnections()
}

// door returns one of the ways in, by its name.
func (f *facade) door(name string) door {
	if name == "grpc" {
		return grpcDoor{f.conn}
	}
	return restDoor{f.restURL, f.client}
}

// upstreamArgs are the arguments for a server that calls the given upstream,
// which has no quotas.
func upstreamArgs(tb testing.TB, endpoint string, args ...string) []string {
	tb.Helper()
	secret := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testSecret+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return append([]string{"--app-key=" + testKey, "--app-secret-file=" + secret, "--endpoint=" + endpoint, "--plan=unlimited"}, args...)
}

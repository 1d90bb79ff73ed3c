// Package harness starts the server for the end-to-end tests, as it is started
// from the command line.
package harness

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/server"
)

// The credentials of the app that Upstream names.
const (
	AppKey    = "e2e-key"
	AppSecret = "e2e-secret"
)

// Doors are where a running server listens: host and port of gRPC, the URLs of
// REST and admin without a path.
type Doors struct{ GRPC, REST, Admin string }

// Ports are arguments for ports that are free.
func Ports() []string {
	return []string{"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"}
}

// Upstream are arguments for a server that calls these endpoints, without quotas
// unless a later argument says otherwise.
func Upstream(tb testing.TB, endpoints ...string) []string {
	tb.Helper()
	secret := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(AppSecret+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return []string{
		"--app-key=" + AppKey, "--app-secret-file=" + secret, "--plan=unlimited", "--endpoint=" + strings.Join(endpoints, ","),
	}
}

// Start starts the server in this process, on ports of its own, and stops it when
// the test ends.
func Start(tb testing.TB, args ...string) Doors {
	tb.Helper()
	cfg, err := config.Parse(append(Ports(), args...), tb.Output())
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
	doors, ok := Listening(s.Banner())
	if !ok {
		tb.Fatalf("the banner has no addresses:\n%s", s.Banner())
	}
	return doors
}

var listening = regexp.MustCompile(`(?s)\sgRPC\s+(\S+)\s.*\sREST\s+(https?://[^/]+)/.*\sadmin\s+(http://[^/]+)/`)

// Listening reads the doors from what a server tells its operator, and whether
// all of it is there yet.
func Listening(banner string) (Doors, bool) {
	m := listening.FindStringSubmatch(banner)
	if m == nil {
		return Doors{}, false
	}
	return Doors{m[1], m[2], m[3]}, true
}

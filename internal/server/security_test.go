package server

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/yunxin-facade/yunxin-facade/internal/auth"
	"github.com/yunxin-facade/yunxin-facade/internal/testca"
)

// newKey makes an API key and its entry in the callers file.
func newKey(t testing.TB) (key, entry string) {
	t.Helper()
	k, e, err := auth.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, e.String()
}

// write makes or replaces a file, as a whole, like those who deploy.
func write(t testing.TB, path, content string) string {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// as adds credentials to the calls under a context: pairs of names and values.
func as(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// await polls until something has happened.
func await(t testing.TB, what string, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("%s: not yet", what)
		}
	}
}

// awaitLog polls until something is logged.
func (r *running) awaitLog(t testing.TB, text string) {
	t.Helper()
	await(t, text, func() bool { return strings.Contains(r.logs.String(), text) })
}

// A fileSet is the files of a server under test.
type fileSet struct{ cert, key, ca, callers, audit string }

func newFiles(t testing.TB, a *testca.Authority) *fileSet {
	t.Helper()
	dir := t.TempDir()
	f := &fileSet{
		cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), ca: filepath.Join(dir, "ca.PEM"),
		callers: filepath.Join(dir, "callers.yaml"), audit: filepath.Join(dir, "audit.jsonl"),
	}
	f.identify(t, a)
	write(t, f.ca, a.PEM)
	write(t, f.callers, "callers: []")
	return f
}

// identify gives the server another certificate.
func (f *fileSet) identify(t testing.TB, a *testca.Authority) {
	t.Helper()
	cert, key := a.Host(t)
	write(t, f.cert, cert)
	write(t, f.key, key)
}

func (f *fileSet) tls() []string {
	return []string{"--tls-cert-file=" + f.cert, "--tls-key-file=" + f.key}
}

package auth

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/internal/watch"
)

// A key that is taken out of the file is refused once the file was read again, and
// a file with a slip in it takes nothing from anybody.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "callers.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	key, entry, err := NewKey(&counter{})
	if err != nil {
		t.Fatal(err)
	}
	with, without := "callers: [{name: a, scopes: [], apps: [main], keys: ["+entry.String()+"]}]", "callers: [{name: a, scopes: [], apps: [main]}]"
	put(with)
	directory, err := Load(path, testKnown)
	if err != nil {
		t.Fatal(err)
	}
	a := New(directory, Options{})
	defer a.Close()
	files, loads := directory.Files(), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch.Watch(ctx, slog.New(slog.DiscardHandler), func() []string { return files }, func() error {
			d, err := Load(path, testKnown)
			if err == nil {
				files = d.Files()
				a.Use(d) //nolint:contextcheck // what it starts goes on until Close
			}
			select {
			case loads <- err:
			case <-ctx.Done():
			}
			return err
		})
	}()
	defer func() {
		cancel()
		<-done
	}()
	if err := <-loads; err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text       string
		good, slip bool
	}{{"callers: [", true, true}, {without, false, false}, {with, true, false}} {
		put(c.text)
		for err := range loads {
			if (err != nil) == c.slip { // one with a slip may be tried again
				break
			}
		}
		caller, err := a.Authenticate(t.Context(), Credentials{APIKey: []string{key}})
		if (err == nil) != c.good || c.good && caller.Name() != "a" {
			t.Errorf("%s: %v, %v", c.text, caller, err)
		}
	}
}

// counter is a source of bytes that are not random.
type counter struct{ n byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

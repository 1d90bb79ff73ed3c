package config

import (
	"crypto/rand"
	"fmt"
	"io"

	"github.com/yunxin-facade/yunxin-facade/internal/auth"
)

// newKey makes an API key.
type newKey struct {
	Name string `env:"-" placeholder:"NAME" help:"Name of a new caller who is to have the key. Its entry in the callers file is printed whole, without any rights yet."`
}

// write prints a key, which nobody can print again, and lines of YAML for the
// callers file, which do not tell the key.
func (n newKey) write(w io.Writer) error {
	key, entry, err := auth.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	lines := fmt.Sprintf("- %s\n", entry)
	if n.Name != "" {
		lines = fmt.Sprintf("- name: %q\n  scopes: []\n  keys:\n  - %s\n", n.Name, entry)
	}
	_, err = fmt.Fprintf(w, "%s\n%s", key, lines)
	return err
}

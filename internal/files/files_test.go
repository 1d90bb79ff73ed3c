package files

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := Read(path, 4); err != nil || string(data) != "1234" {
		t.Errorf("%q, %v", data, err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		path:          "larger than 3 bytes",
		path + ".not": "no such file",
		pipe:          "not a regular file",
		t.TempDir():   "not a regular file",
	} {
		if data, err := Read(name, 3); err == nil || !strings.Contains(err.Error(), want) || data != nil {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

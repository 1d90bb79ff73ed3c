package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// traceIDs returns those of the lines of a file, joined by spaces.
func traceIDs(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	var ids []string
	for _, members := range readLines(t, data) {
		id, _ := members["trace_id"].(string)
		ids = append(ids, id)
	}
	return strings.Join(ids, " ")
}

// A logDir is a log in a directory.
type logDir struct {
	*Log

	path string
	told messages
}

func newLogDir(t *testing.T) *logDir {
	t.Helper()
	l := &logDir{path: filepath.Join(t.TempDir(), "audit")}
	opened, err := Open(l.path, l.told.logger())
	l.Log = mustOpen(t, opened, err)
	return l
}

// write writes a record and waits until it is in the file, and until the path is due
// to be looked at again.
func (l *logDir) write(i int) {
	l.Write(numbered(i))
	synctest.Wait()
	<-time.After(checkInterval)
}

func TestRotationByRenaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogDir(t)
		defer l.Close() //nolint:errcheck // its file is looked at before
		l.write(1)
		must(t, os.Rename(l.path, l.path+".1"))
		l.write(2)
		must(t, os.Rename(l.path, l.path+".2"))
		must(t, os.WriteFile(l.path, nil, 0o600)) // as logrotate's create
		l.Write(numbered(3))
		synctest.Wait()
		must(t, os.Remove(l.path))
		l.Write(numbered(4)) // too soon to notice
		synctest.Wait()
		<-time.After(checkInterval)
		l.write(5)
		for name, want := range map[string]string{".1": "1", ".2": "2", "": "5"} {
			if got := traceIDs(t, l.path+name); got != want {
				t.Errorf("audit%s holds %q, want %q", name, got, want)
			}
		}
		if l.told.levels() != "" {
			t.Errorf("messages: %s", l.told.levels())
		}
	})
}

func TestRotationByCopying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogDir(t)
		defer l.Close() //nolint:errcheck // its file is looked at before
		l.write(1)
		l.write(2)
		must(t, os.Truncate(l.path, 0))
		l.write(3)
		if got := traceIDs(t, l.path); got != "3" {
			t.Errorf("the file holds %q", got)
		}
	})
}

// When the path cannot be opened again, the old file is still used.
func TestRotationThatFails(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link": func(path string) error {
			return os.Symlink(path+".other", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLogDir(t)
				defer l.Close() //nolint:errcheck // its file is looked at before
				l.write(1)
				must(t, os.Rename(l.path, l.path+".1"))
				must(t, replace(l.path))
				l.write(2)
				l.write(3)
				if l.told.levels() != "level=ERROR" {
					t.Errorf("messages: %s", l.told.levels())
				}
				must(t, os.Remove(l.path))
				l.write(4)
				if l.told.levels() != "level=ERROR level=INFO" {
					t.Errorf("messages: %s", l.told.levels())
				}
				if got, old := traceIDs(t, l.path), traceIDs(t, l.path+".1"); got != "4" || old != "1 2 3" {
					t.Errorf("%q and %q", old, got)
				}
				if _, err := os.Lstat(l.path + ".other"); err == nil {
					t.Error("the target of the link was made")
				}
			})
		})
	}
}

func TestOpenKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	for i := range 3 {
		l, err := Open(path, nil)
		mustOpen(t, l, err).Write(numbered(i))
		must(t, l.Close())
	}
	if got := traceIDs(t, path); got != "0 1 2" {
		t.Errorf("the file holds %q", got)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s", info.Mode())
	}
	must(t, os.Chmod(path, 0o640)) // what a collector of logs needs
	l, err := Open(path, nil)
	must(t, mustOpen(t, l, err).Close())
	if info, err = os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %s, %v", info.Mode(), err)
	}
}

// A process that was stopped within a line has left it so.
func TestOpenBehindATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	const torn = `{"time":"2026-11-22T15:04:05.000006Z","caller":"bil`
	must(t, os.WriteFile(path, []byte(torn), 0o600))
	a, err := newAppender(path, openRegular)
	must(t, err)
	for range 2 {
		_, err := a.append([]byte(testLine), time.Now())
		must(t, err)
	}
	must(t, a.close())
	data, err := os.ReadFile(path)
	must(t, err)
	if want := torn + "\n" + testLine + testLine; string(data) != want {
		t.Errorf("got %q, want %q", data, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(t, os.Symlink("file", filepath.Join(dir, "link")))
	must(t, os.Symlink("gone", filepath.Join(dir, "dangling")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600)) // opening it could block
	must(t, os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	for _, name := range []string{"link", "dangling", "pipe", "directory", "no/directory", "file/below", ""} {
		path := filepath.Join(dir, name)
		if l, err := Open(path, nil); err == nil {
			t.Errorf("%s is taken", name)
			must(t, l.Close())
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "gone")); err == nil {
		t.Error("the target of a link was made")
	}
	pipe, err := os.OpenFile(filepath.Join(dir, "pipe"), os.O_RDWR, 0)
	must(t, err)
	defer pipe.Close() //nolint:errcheck // nothing is in it
	if names(pipe.Name(), pipe) {
		t.Error("a pipe that came between is taken")
	}
	must(t, os.Symlink(".", filepath.Join(dir, "volume")))
	l, err := Open(filepath.Join(dir, "volume", "file"), nil)
	must(t, mustOpen(t, l, err).Close())
}

// What happens to a file of which a line is written in part decides how to go on.
func TestPartOfALine(t *testing.T) {
	begun := testLine[:20]
	for name, c := range map[string]struct {
		meanwhile func(path string) error
		want      string
	}{
		"nothing":   {func(string) error { return nil }, testLine + testLine + testLine},
		"truncated": {func(path string) error { return os.Truncate(path, 0) }, testLine + testLine},
		"appended": {func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, append(data, "more"...), 0o600)
		}, testLine + begun + "more\n" + testLine + testLine},
		"renamed": {func(path string) error { return os.Rename(path, path+".1") }, testLine + testLine},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t)
			d.space = len(testLine) + len(begun)
			a, err := newAppender(d.path, d.open)
			must(t, err)
			lines := bytes.Repeat([]byte(testLine), 3)
			n, err := a.append(lines, time.Now())
			if n != len(testLine) || err == nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
			must(t, c.meanwhile(d.path))
			d.space = 1 << 30
			if n, err := a.append(lines[n:], time.Now().Add(checkInterval)); n != 2*len(testLine) || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			must(t, a.close())
			data, err := os.ReadFile(d.path)
			must(t, err)
			if string(data) != c.want {
				t.Errorf("got\n%s\nwant\n%s", data, c.want)
			}
		})
	}
}

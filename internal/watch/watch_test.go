package watch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// lab is a directory, and a watch of files in it.
type lab struct {
	dir    string
	loads  chan string // what was loaded: the contents, joined
	bad    string      // content that cannot be used
	logged bytes.Buffer
	names  []string // of the files
	load   func() error
	stop   func() // ends the watch; afterwards the log may be read
}

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), loads: make(chan string, 100), bad: "bad", names: names}
	// Where the system keeps temporary files may be a link itself.
	l.dir, _ = filepath.EvalSymlinks(l.dir)
	l.load = l.read
	return l
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) paths() []string {
	var paths []string
	for _, name := range l.names {
		paths = append(paths, l.path(name))
	}
	return paths
}

func (l *lab) read() error {
	var all []string
	for _, path := range l.paths() {
		content, err := os.ReadFile(path)
		if err != nil || len(content) == 0 { // not all changes are atomic
			content = []byte("none")
		}
		all = append(all, string(content))
	}
	joined := strings.Join(all, "+")
	l.loads <- joined
	if strings.HasPrefix(joined, l.bad) {
		return errors.New("bad content")
	}
	return nil
}

// start watches until the test ends, and waits for the first load.
func (l *lab) start(t *testing.T, first string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, slog.New(slog.NewTextHandler(&l.logged, nil)), l.paths, l.load)
	}()
	l.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(l.stop)
	if got := <-l.loads; got != first {
		t.Fatalf("the first load got %q, want %q", got, first)
	}
}

// expect waits for a content. Before it, something may be missing, and what failed
// may be tried again.
func (l *lab) expect(t *testing.T, want string) {
	t.Helper()
	for got := range l.loads {
		if got == want {
			return
		}
		if !strings.Contains(got, "none") && !strings.HasPrefix(got, l.bad) {
			t.Fatalf("loaded %q, want %q", got, want)
		}
	}
}

func (l *lab) write(t *testing.T, name, content string) {
	t.Helper()
	must(t, os.WriteFile(l.path(name), []byte(content), 0o600))
}

// replace does as editors do.
func (l *lab) replace(t *testing.T, name, content string) {
	t.Helper()
	l.write(t, name+".new", content)
	must(t, os.Rename(l.path(name+".new"), l.path(name)))
}

func (l *lab) mkdir(t *testing.T, name string) {
	t.Helper()
	must(t, os.MkdirAll(l.path(name), 0o700))
}

// link makes a link, or swaps it for another as Kubernetes does.
func (l *lab) link(t *testing.T, target, name string) {
	t.Helper()
	must(t, os.Symlink(target, l.path(name+"_tmp")))
	must(t, os.Rename(l.path(name+"_tmp"), l.path(name)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "a", "b")
		l.write(t, "a", "1")
		l.start(t, "1+none")
		l.write(t, "a", "2")
		l.expect(t, "2+none")
		l.replace(t, "a", "3")
		l.expect(t, "3+none")
		l.write(t, "b", "x")
		l.expect(t, "3+x")
		must(t, os.Remove(l.path("a")))
		l.expect(t, "none+x")
		l.replace(t, "a", "4")
		l.expect(t, "4+x")
		l.replace(t, "a", "5")
		l.expect(t, "5+x")
	})
}

// A load costs, and what it does may be seen: it is for changes only.
func TestSameContentIsNotLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "a")
		l.write(t, "a", "1")
		l.start(t, "1")
		for range 3 {
			l.replace(t, "a", "1")
			l.write(t, "neighbour", "x")
			must(t, os.Chmod(l.path("a"), 0o400))
		}
		l.replace(t, "a", "2")
		if got := <-l.loads; got != "2" {
			t.Errorf("loaded %q", got)
		}
	})
}

func TestKubernetes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "mount/callers.yaml", "mount/jwks.json")
		for name, content := range map[string]string{"..1": "1", "..2": "2", "..3": "3"} {
			l.mkdir(t, "mount/"+name)
			l.write(t, "mount/"+name+"/callers.yaml", content)
			l.write(t, "mount/"+name+"/jwks.json", "j"+content)
		}
		l.link(t, "..1", "mount/..data")
		l.link(t, "..data/callers.yaml", "mount/callers.yaml")
		l.link(t, filepath.Join("..data", "jwks.json"), "mount/jwks.json")
		l.start(t, "1+j1")
		for _, content := range []string{"2", "3"} {
			l.link(t, ".."+content, "mount/..data")
			l.expect(t, content+"+j"+content)
		}
		must(t, os.RemoveAll(l.path("mount/..1")))
		must(t, os.RemoveAll(l.path("mount/..2")))
		l.write(t, "mount/..3/callers.yaml", "in place")
		l.expect(t, "in place+j3")
	})
}

func TestLinks(t *testing.T) {
	t.Run("of the file", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, "etc/a")
			for _, name := range []string{"etc", "far", "further"} {
				l.mkdir(t, name)
			}
			l.write(t, "further/a", "1")
			l.link(t, "../further/a", "far/a")
			l.link(t, l.path("far/a"), "etc/a")
			l.start(t, "1")
			l.replace(t, "further/a", "2")
			l.expect(t, "2")
			l.write(t, "further/b", "3")
			l.link(t, "../further/b", "far/a")
			l.expect(t, "3")
			l.write(t, "far/c", "4")
			l.link(t, "../far/c", "etc/a")
			l.expect(t, "4")
			l.replace(t, "far/c", "5")
			l.expect(t, "5")
		})
	})
	t.Run("of a directory on the way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, "current/etc/a")
			for _, release := range []string{"1", "2"} {
				l.mkdir(t, release+"/etc")
				l.write(t, release+"/etc/a", release)
			}
			l.link(t, "1", "current")
			l.start(t, "1")
			l.link(t, "2", "current")
			l.expect(t, "2")
			l.replace(t, "2/etc/a", "3")
			l.expect(t, "3")
		})
	})
}

func TestDirectoryGoesAndComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "x/y/a")
		l.start(t, "none")
		for _, content := range []string{"1", "2"} {
			l.mkdir(t, "x/y")
			l.write(t, "x/y/a", content)
			l.expect(t, content)
			must(t, os.RemoveAll(l.path("x")))
			l.expect(t, "none")
		}
		l.mkdir(t, "x/y")
		l.write(t, "x/y/a", "3")
		l.expect(t, "3")
		l.mkdir(t, "x/z")
		l.write(t, "x/z/a", "4")
		must(t, os.Rename(l.path("x/y"), l.path("x/old")))
		must(t, os.Rename(l.path("x/z"), l.path("x/y")))
		l.expect(t, "4")
		l.replace(t, "x/y/a", "5")
		l.expect(t, "5")
	})
}

func TestFailingLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "a")
		l.write(t, "a", "1")
		l.start(t, "1")
		l.replace(t, "a", "bad")
		l.expect(t, "bad")
		l.write(t, "neighbour", "x")
		l.expect(t, "bad") // the cause might be there
		l.replace(t, "a", "2")
		l.expect(t, "2")
		l.replace(t, "a", "bad")
		l.expect(t, "bad")
		l.replace(t, "a", "bad too") // for the same cause
		l.expect(t, "bad too")
		l.replace(t, "a", "3")
		l.expect(t, "3")
		l.stop()
		log := l.logged.String()
		if n := strings.Count(log, "cannot be used"); n != 3 {
			t.Errorf("%d failures were logged:\n%s", n, log)
		}
		if n := strings.Count(log, "read again"); n != 2 {
			t.Errorf("%d changes were logged:\n%s", n, log)
		}
		if !strings.Contains(log, "bad content") || !strings.Contains(log, l.path("a")) {
			t.Errorf("neither cause nor file was logged:\n%s", log)
		}
	})
}

// What makes a load fail may be in a file that is not known before it works.
func TestFailingLoadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "a")
		l.write(t, "a", "1")
		loads := 0
		read := l.load
		l.load = func() error {
			loads++
			switch {
			case loads < 4:
				return errors.New("one cause")
			case loads < 8:
				return errors.New("another cause")
			}
			return read()
		}
		l.start(t, "1")
		l.replace(t, "a", "2")
		l.expect(t, "2")
		l.stop()
		log := l.logged.String()
		if loads != 9 || strings.Count(log, "one cause") != 1 || strings.Count(log, "another cause") != 1 {
			t.Errorf("%d loads:\n%s", loads, log)
		}
	})
}

// What is loaded may name other files.
func TestOtherFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "a")
		l.mkdir(t, "far")
		l.write(t, "a", "1")
		l.write(t, "far/b", "x")
		read := l.load
		l.load = func() error {
			defer func() { l.names = []string{"a", "far/b"} }()
			return read()
		}
		l.start(t, "1")
		l.expect(t, "1+x")
		l.replace(t, "far/b", "y")
		l.expect(t, "1+y")
	})
}

// A change is in force within two seconds, while a file is still being written not
// before it is whole.
func TestInForceInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "a")
		l.write(t, "a", "1")
		l.start(t, "1")
		start := time.Now()
		l.replace(t, "a", "2")
		l.expect(t, "2")
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		// The next poll sees half of it.
		time.AfterFunc(poll-time.Millisecond, func() { l.write(t, "a", "half") })
		time.AfterFunc(poll+quiet/2, func() { l.write(t, "a", "whole") })
		if got := <-l.loads; got != "whole" {
			t.Errorf("loaded %q", got)
		}
	})
}

func TestEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Watch(ctx, slog.New(slog.DiscardHandler), func() []string { return nil }, func() error { return nil })
}

func TestDigest(t *testing.T) {
	dir := t.TempDir()
	pipe, file, big := filepath.Join(dir, "pipe"), filepath.Join(dir, "file"), filepath.Join(dir, "big")
	must(t, syscall.Mkfifo(pipe, 0o600)) // opening it would block
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	must(t, os.WriteFile(big, make([]byte, 2*maxFile), 0o600))
	all := map[[32]byte]string{}
	for name, files := range map[string][]string{
		"none": nil, "pipe": {pipe}, "file": {file}, "big": {big}, "missing": {filepath.Join(dir, "gone")},
		"directory": {dir}, "two": {file, big}, "the other way": {big, file},
	} {
		sum := digest(files)
		if other, ok := all[sum]; ok {
			t.Errorf("%s is like %s", name, other)
		}
		all[sum] = name
	}
}

// However large a file is, reading it takes little.
func TestDigestOfLargeFile(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	content := strings.Repeat(" ", maxFile)
	must(t, os.WriteFile(big, []byte(content+"a"), 0o600))
	before := digest([]string{big})
	must(t, os.WriteFile(big, []byte(content+"b"), 0o600))
	if digest([]string{big}) != before {
		t.Error("the end was read")
	}
}

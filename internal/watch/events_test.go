package watch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

func TestWait(t *testing.T) {
	for name, c := range map[string]struct {
		events []time.Duration // after the begin
		want   time.Duration
	}{
		"nothing":   {nil, slowPoll},
		"one":       {[]time.Duration{time.Second}, time.Second + quiet},
		"several":   {[]time.Duration{0, 50 * time.Millisecond, 140 * time.Millisecond}, 140*time.Millisecond + quiet},
		"no end":    {every(20 * time.Millisecond), 20*time.Millisecond + impatient},
		"just then": {[]time.Duration{slowPoll - 10*time.Millisecond}, slowPoll - 10*time.Millisecond + quiet},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				some := make(chan struct{}, 1)
				start := time.Now()
				for _, at := range c.events {
					time.AfterFunc(at, func() { some <- struct{}{} })
				}
				wait(t.Context(), some, slowPoll)
				if took := time.Since(start); took != c.want {
					t.Errorf("it took %s, want %s", took, c.want)
				}
				for range cap(some) + len(c.events) {
					select {
					case <-some:
					case <-time.After(time.Minute):
					}
				}
			})
		})
	}
}

func every(d time.Duration) []time.Duration {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(i+1)*d)
	}
	return all
}

func TestEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		some := make(chan struct{}, 1)
		start := time.Now()
		time.AfterFunc(time.Second, cancel)
		wait(ctx, some, slowPoll)
		some <- struct{}{}
		wait(ctx, some, slowPoll)
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %s", took)
		}
	})
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

// After a directory has become another one, events come from that.
func TestEventsOfAnotherDirectory(t *testing.T) {
	l := newLab(t, "x/y/a")
	e := openEvents(fsnotify.NewWatcher)
	defer e.close()
	for _, name := range []string{"x/y", "new/y"} {
		l.mkdir(t, name)
	}
	must(t, e.follow(l.paths()))
	must(t, os.Rename(l.path("x"), l.path("old"))) // x/y does not tell
	must(t, os.Rename(l.path("new"), l.path("x")))
	must(t, e.follow(l.paths()))
	l.write(t, "x/y/a", "1")
	<-e.some
}

// The library forgets a directory that is deleted, even if another one comes that
// looks the same.
func TestForgottenDirectory(t *testing.T) {
	l := newLab(t, "a")
	e := openEvents(fsnotify.NewWatcher)
	defer e.close()
	must(t, e.follow(l.paths()))
	must(t, e.watcher.Remove(l.dir))
	must(t, e.follow(l.paths()))
	l.write(t, "a", "1")
	<-e.some
}

func TestDirectoriesOfEndlessLinks(t *testing.T) {
	l := newLab(t)
	l.link(t, "loop", "loop")
	l.link(t, "grow/grow", "grow")
	for _, name := range []string{"loop", "loop/a", "grow"} {
		for _, found := range directories(l.path(name)) {
			if found != l.dir {
				t.Errorf("%s: %s", name, found)
			}
		}
	}
	if len(directories(l.path("loop"))) > 2*maxHops+2 {
		t.Error("too many")
	}
}

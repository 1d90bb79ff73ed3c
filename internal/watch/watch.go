// Package watch reads files anew when they change, however that happens: in
// place, by an editor that replaces the file, or by Kubernetes, which swaps a link
// to a directory.
package watch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/yunxin-facade/yunxin-facade/internal/files"
)

// Limits of the watch. A change is in force within two seconds, unless the system
// tells of none, as on network file systems: then after the slow poll.
const (
	quiet     = 100 * time.Millisecond // that must pass, for writing takes several steps
	impatient = time.Second            // after which it need not
	slowPoll  = 10 * time.Second       // beside events, which can be lost
	fastPoll  = time.Second            // without events
	maxFile   = 1 << 20                // bytes of a file that count
	maxRounds = 3                      // of loading at a time
)

// A watcher watches some files.
type watcher struct {
	log    *slog.Logger
	files  func() []string
	load   func() error
	events *events
	poll   time.Duration

	blind   bool              // there are no events
	last    [sha256.Size]byte // digest of what was loaded last
	failure string            // of that load
}

// Watch calls load at the beginning, and again whenever the content of one of the
// files changes, until the context ends; then it returns, and nothing is left
// behind. It never calls load twice at a time. As it begins with a call, no change
// is missed between what was read before and the watch.
//
// The files are asked for again after each load, which may have brought others.
// They need not exist. If load fails, what was loaded before has to stay in force;
// that is logged, once for this content and cause, and load is tried again from
// time to time.
func Watch(ctx context.Context, log *slog.Logger, files func() []string, load func() error) {
	w := &watcher{log: log, files: files, load: load, events: openEvents(fsnotify.NewWatcher), poll: slowPoll}
	w.run(ctx)
}

func (w *watcher) run(ctx context.Context) {
	defer w.events.close()
	for ctx.Err() == nil {
		w.check(ctx)
		poll := w.poll
		if w.blind {
			poll = fastPoll
		}
		wait(ctx, w.events.some, poll)
	}
}

// check loads what has changed, and what failed before: the cause may have been in
// a file that it knows nothing of. Loading may bring other files, so it looks
// again, and would load once more for those.
func (w *watcher) check(ctx context.Context) {
	for range maxRounds {
		files := w.files()
		// Before the files are read, or what changes in between would not be told.
		w.note(ctx, w.events.follow(files))
		now := digest(files)
		changed, first := now != w.last, w.last == [sha256.Size]byte{}
		if !changed && w.failure == "" {
			return
		}
		w.last = now
		if err := w.load(); err != nil {
			if text := err.Error(); changed || text != w.failure {
				w.failure = text
				w.log.ErrorContext(ctx, "files have changed and cannot be used; what was read before stays in force",
					"files", files, "cause", err)
			}
			return
		}
		w.failure = ""
		if !first {
			w.log.InfoContext(ctx, "files have changed and were read again", "files", files)
		}
	}
}

// note logs when events begin to be missing, and when they are back.
func (w *watcher) note(ctx context.Context, err error) {
	switch {
	case err != nil && !w.blind:
		w.log.WarnContext(ctx, "the system does not tell of changes of files; they are looked at every second", "cause", err)
	case err == nil && w.blind:
		w.log.InfoContext(ctx, "the system tells of changes of files again")
	}
	w.blind = err != nil
}

// wait returns when something has happened and then nothing for a while, when it
// is time to poll, or when the context ends.
func wait(ctx context.Context, some <-chan struct{}, poll time.Duration) {
	late := time.NewTimer(poll)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return
	case <-late.C:
		return
	case <-some:
		late.Reset(impatient)
	}
	calm := time.NewTimer(quiet)
	defer calm.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-late.C:
			return
		case <-calm.C:
			return
		case <-some:
			calm.Reset(quiet)
		}
	}
}

// digest tells contents of files apart, and files that cannot be read.
func digest(paths []string) [sha256.Size]byte {
	all := sha256.New()
	for _, path := range paths {
		content, err := files.Read(path, maxFile)
		fmt.Fprintf(all, "%q %x %v\n", path, sha256.Sum256(content), err) //nolint:errcheck // a hash takes everything
	}
	return [sha256.Size]byte(all.Sum(nil))
}

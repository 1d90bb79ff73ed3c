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

	"github.com/yunxin-facade/yunxin-facade/internal/files"
)

// A change is in force within two seconds: files are polled, since file systems of
// networks and containers do not report changes reliably.
const (
	poll      = time.Second
	quiet     = 100 * time.Millisecond // without a change before files are read: writing takes several steps
	impatient = time.Second            // after which they are read anyway
	maxFile   = 1 << 20                // bytes of a file that count
	maxRounds = 3                      // of loading at a time
)

// watcher watches some files.
type watcher struct {
	log   *slog.Logger
	files func() []string
	load  func() error

	last    [sha256.Size]byte // digest of what was loaded last
	failure string            // of that load
}

// Watch calls load at the beginning, and again whenever the content of one of the
// files changes, until the context ends. It never calls load twice at a time. No
// change between an earlier read and the watch is missed, because it begins with a
// call.
//
// The files are asked for again after each load, which may have brought others.
// They need not exist. If load fails, what was loaded before has to stay in force.
// The failure is logged once for a content and a cause, and load is tried again with
// each poll.
func Watch(ctx context.Context, log *slog.Logger, files func() []string, load func() error) {
	w := &watcher{log: log, files: files, load: load}
	for ctx.Err() == nil {
		w.check(ctx)
		sleep(ctx, poll)
	}
}

// check loads what has changed, and what failed before, since the cause may have been
// in another file. Loading may bring other files, which are then loaded as well.
func (w *watcher) check(ctx context.Context) {
	for range maxRounds {
		files := w.files()
		now, first := digest(files), w.last == [sha256.Size]byte{}
		if now != w.last && !first {
			now = settled(ctx, files, now)
		}
		changed := now != w.last
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

// settled waits until files that have this digest stay as they are for a while, and
// returns their digest then.
func settled(ctx context.Context, files []string, now [sha256.Size]byte) [sha256.Size]byte {
	for began := time.Now(); time.Since(began) < impatient && ctx.Err() == nil; {
		sleep(ctx, quiet)
		before := now
		if now = digest(files); now == before {
			break
		}
	}
	return now
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// digest is a hash of what files hold, and of why they cannot be read.
func digest(paths []string) [sha256.Size]byte {
	all := sha256.New()
	for _, path := range paths {
		content, err := files.Read(path, maxFile)
		fmt.Fprintf(all, "%q %x %v\n", path, sha256.Sum256(content), err) //nolint:errcheck // a hash takes everything
	}
	return [sha256.Size]byte(all.Sum(nil))
}

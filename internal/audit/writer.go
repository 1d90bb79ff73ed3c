package audit

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// run writes until the log is closed.
func (l *Log) run() {
	defer close(l.done)
	for {
		some := l.some
		var retry <-chan time.Time
		if l.begin < len(l.batch) {
			// Else every call would bring one more attempt.
			some, retry = nil, time.After(retryInterval)
		}
		select {
		case <-some:
		case <-retry:
		case <-l.quit:
			l.err = l.finish(l.flush())
			return
		}
		_ = l.flush() // what it is has been told
	}
}

// flush writes all there is. Its error says why something is left.
func (l *Log) flush() error {
	for {
		if l.begin == len(l.batch) && !l.take() {
			if l.file.stale == nil {
				l.relax()
			}
			return nil
		}
		n, err := l.file.append(l.batch[l.begin:], time.Now())
		// The line about losses, which is no record, comes last.
		records := min(bytes.Count(l.batch[l.begin:l.begin+n], newline), l.left)
		l.begin += n
		l.left -= records
		l.written.Add(uint64(records)) //nolint:gosec // a count
		if err != nil {
			l.complain(err)
			return err
		}
		if l.file.stale != nil {
			l.complain(l.file.stale)
		}
	}
}

// take makes what is pending the next batch, and reports whether there is anything.
func (l *Log) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending, l.batch = l.batch[:0], l.pending
	l.left, l.records, l.begin = l.records, 0, 0
	if l.unreported > 0 {
		// They came when all this was pending, and before all that follows.
		l.batch = appendLoss(l.batch, time.Now(), l.unreported)
		l.unreported = 0
	}
	l.stalled = false
	close(l.room)
	l.room = make(chan struct{})
	return len(l.batch) > 0
}

// finish gives up what is left because of an error, and closes the file.
func (l *Log) finish(cause error) error {
	var errs []error
	if cause != nil {
		gone := l.left
		l.take()
		gone += l.left
		l.lost.Add(uint64(gone)) //nolint:gosec // a count
		errs = append(errs, fmt.Errorf("%d records are lost: %w", gone, cause))
	}
	return errors.Join(append(errs, l.file.close())...)
}

// complain logs that something is wrong, once until all is well again.
func (l *Log) complain(cause error) {
	if l.troubled.CompareAndSwap(false, true) {
		l.log.Error("the audit log is in trouble: records may be late or lost", "cause", cause)
	}
}

// relax logs that all is well again.
func (l *Log) relax() {
	if l.troubled.CompareAndSwap(true, false) {
		l.log.Info("the audit log is well again", "lost_so_far", l.lost.Load())
	}
}

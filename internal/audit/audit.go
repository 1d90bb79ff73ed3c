// Package audit writes the audit log: one line for each call, which says who did
// what in whose name and how it ended, and never what was said. It is a stream of
// its own, apart from the log on standard error, in a file that is only appended to.
package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of what may wait, and for how long.
const (
	maxQueue      = 2 << 20                // bytes that wait for the writer: about 6,000 records
	patience      = 100 * time.Millisecond // of a call for room in the queue
	retryInterval = time.Second            // between attempts to write what could not be written
	closePatience = 5 * time.Second        // of Close for the disk
)

// A Log is an audit log. It is safe for concurrent use; a nil Log writes nothing.
//
// A record that cannot be written, because the disk is full or too slow, waits in a
// queue. When that is full, the record is lost: a service that cannot be used
// because its disk is full would be the greater loss. The log then holds a line
// with the number of records that are missing at this place.
type Log struct {
	log           *slog.Logger
	written, lost atomic.Uint64
	troubled      atomic.Bool // somebody was told that records are not written

	mu         sync.Mutex
	pending    []byte // lines
	records    int    // in pending
	unreported int    // lost records of which no line tells
	stalled    bool   // a call has waited in vain, and there was no room since
	closed     bool
	room       chan struct{} // closed when pending is taken away

	some chan struct{} // holds that something is pending
	quit chan struct{} // closed by Close
	done chan struct{} // closed when the writer has ended
	err  error         // of closing; to be read after done

	// What follows is the writer's alone.

	file  *appender
	batch []byte // lines; those up to begin are written
	begin int
	left  int // records of the batch that are not written
}

// Stats are numbers of records since the log was opened. Each record is counted
// once, as soon as it is known what became of it.
type Stats struct{ Written, Lost uint64 }

// Open opens an audit log, which it makes if there is none, for the owner only. It
// appends to what is there. The log takes a message when records begin to be
// missing or late, and one when all is well again; nobody is told if it is nil.
//
// The path must name a regular file: a link, even one that appears later, is refused,
// for who can place one would choose the file that grows. Directories on the way may
// be links. Whoever rotates the file may rename it, or copy and truncate it: when the
// path does not name the open file any more, it is opened anew within a second of
// writing.
func Open(path string, log *slog.Logger) (*Log, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return start(path, log, openRegular)
}

func start(path string, log *slog.Logger, open opener) (*Log, error) {
	file, err := newAppender(path, open)
	if err != nil {
		return nil, err
	}
	l := &Log{
		log: log.With("path", path), file: file, room: make(chan struct{}),
		some: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l, nil
}

// Write hands a record over to be written; those of one goroutine are written in
// their order. It waits for room in the queue, at most 100 ms, and not at all if
// another call has just waited in vain: a disk that hangs must not make every call
// late. Then, and after Close, the record is lost and counted.
func (l *Log) Write(r Record) {
	if l == nil {
		return
	}
	var space [lineSize]byte
	line := r.appendTo(space[:0])
	room, lost := l.put(line, false)
	if room != nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		for late := false; room != nil; room, lost = l.put(line, late) {
			select {
			case <-room:
			case <-timer.C:
				late = true
			}
		}
	}
	if lost {
		l.complain(errSlow)
	}
}

var errSlow = errors.New("the disk is too slow, and the queue is full")

// put queues a line. If it has to wait, it returns what to wait for, unless it is
// too late for that: then the record is lost, as it is when others have waited in
// vain.
func (l *Log) put(line []byte, late bool) (room <-chan struct{}, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		l.lost.Add(1)
		return nil, false
	case len(l.pending)+len(line) <= maxQueue:
		l.pending = append(l.pending, line...)
		l.records++
		select {
		case l.some <- struct{}{}:
		default:
		}
		return nil, false
	case late, l.stalled:
		l.stalled = true
		l.unreported++
		l.lost.Add(1)
		return nil, true
	}
	return l.room, false
}

// Stats returns how many records were written and lost so far.
func (l *Log) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	return Stats{Written: l.written.Load(), Lost: l.lost.Load()}
}

// Close writes what waits, hands it to the disk and closes the file. It does not
// wait for a disk that fails, and 5 seconds for one that hangs; its error says what
// was lost then.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.quit)
	}
	l.mu.Unlock()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.err
	case <-timer.C:
		return fmt.Errorf("the disk does not answer within %s; the last records may be lost", closePatience)
	}
}

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	fileMode      = 0o600
	checkInterval = time.Second // between looks at whether the path names the open file
)

// A file is what of *os.File is needed here.
type file interface {
	io.ReaderAt
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
}

type opener func(path string) (file, error)

// openRegular opens a regular file to append to it, and makes it if there is none.
// An existing one keeps its mode, which is its owner's choice: whoever collects logs
// may have to read it.
func openRegular(path string) (file, error) {
	// Before anything is opened: opening can have effects, or make the target of a link.
	named, err := os.Lstat(path)
	if err == nil && !named.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, fileMode) //nolint:gosec // the operator's own choice
	if err != nil {
		return nil, err
	}
	if !names(path, f) { // it was replaced meanwhile
		_ = f.Close()
		return nil, fmt.Errorf("%s is not the regular file that was opened", path)
	}
	return f, nil
}

// names reports whether a path is that of an open file, and no link to it.
func names(path string, f file) bool {
	named, err := os.Lstat(path)
	if err != nil || !named.Mode().IsRegular() {
		return false
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(named, opened)
}

// An appender appends whole lines to the file that a path names.
type appender struct {
	path    string
	open    opener
	file    file
	checked time.Time // when the path was looked at last
	stale   error     // why the path could not be opened again; the old file is still in use

	torn   bool  // the file ends within a line that will not be completed
	part   int   // bytes of the next line that are in the file already
	length int64 // of the file with them
}

func newAppender(path string, open opener) (*appender, error) {
	a := &appender{path: path, open: open, checked: time.Now()}
	return a, a.openFile()
}

// openFile opens the path. The file may end within a line, if whoever wrote it was
// stopped there.
func (a *appender) openFile() error {
	next, err := a.open(a.path)
	if err != nil {
		return err
	}
	if a.file != nil {
		_ = a.file.Close() // all it takes was written
	}
	a.file, a.part, a.torn = next, 0, isTorn(next)
	return nil
}

// append appends lines, and returns the length of those that are in the file as a
// whole. The next call must begin with the first that is not.
func (a *appender) append(lines []byte, now time.Time) (int, error) {
	a.follow(now)
	if a.part > 0 && a.size() != a.length {
		// Somebody has truncated the file, or appended to it: what there is of the
		// line is gone, or will not become one.
		a.part, a.torn = 0, isTorn(a.file)
	}
	if a.torn {
		if _, err := a.file.Write(newline); err != nil {
			return 0, err
		}
		a.torn = false
	}
	n, err := a.file.Write(lines[a.part:])
	n += a.part
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	a.part = n - whole
	if a.part > 0 {
		a.length = a.size()
	}
	return whole, err
}

// follow opens the path again if it does not name the open file any more. If that
// cannot be, the old file is better than none.
func (a *appender) follow(now time.Time) {
	if now.Sub(a.checked) < checkInterval {
		return
	}
	a.checked, a.stale = now, nil
	if !names(a.path, a.file) {
		a.stale = a.openFile()
	}
}

// size returns the length of the file, and -1 if that is not known.
func (a *appender) size() int64 {
	info, err := a.file.Stat()
	if err != nil {
		return -1
	}
	return info.Size()
}

func isTorn(f file) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	last := []byte{0}
	_, err = f.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

func (a *appender) close() error { return errors.Join(a.file.Sync(), a.file.Close()) }

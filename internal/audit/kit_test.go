package audit

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A disk holds a file, and can hang and become full.
type disk struct {
	path    string
	mu      sync.Mutex
	space   int           // bytes that still fit; then errFull
	writes  int           // attempts
	blocked chan struct{} // writing waits until it is closed
}

var errFull = errors.New("no space left on device")

func newDisk(t *testing.T) *disk {
	t.Helper()
	return &disk{path: filepath.Join(t.TempDir(), "audit"), space: 1 << 30}
}

func (d *disk) start(t *testing.T, log *slog.Logger) *Log {
	t.Helper()
	l, err := start(d.path, log, d.open)
	return mustOpen(t, l, err)
}

func (d *disk) open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, fileMode)
	return &onDisk{f, d}, err
}

type onDisk struct {
	*os.File
	*disk
}

func (d *onDisk) Write(b []byte) (int, error) {
	if d.blocked != nil {
		<-d.blocked
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	fits := min(len(b), d.space)
	d.space -= fits
	n, err := d.File.Write(b[:fits])
	if err == nil && fits < len(b) {
		err = errFull
	}
	return n, err
}

func (d *disk) change(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *disk) lines(t *testing.T) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	return readLines(t, data)
}

func readLines(t *testing.T, data []byte) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range bytes.Lines(data) {
		all = append(all, checkLine(t, line))
	}
	return all
}

// messages is a log to look into.
type messages struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (m *messages) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(b)
}

// levels returns the levels of all messages.
func (m *messages) levels() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var levels []string
	for line := range strings.Lines(m.text.String()) {
		levels = append(levels, strings.Fields(line)[0])
	}
	return strings.Join(levels, " ")
}

func (m *messages) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(m, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func mustOpen(t *testing.T, l *Log, err error) *Log {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func numbered(i int) Record {
	r := testRecord
	r.TraceID = fmt.Sprint(i)
	return r
}

// fill writes records until no more fits, while the writer is busy, and returns how
// many. The first are large, or there would be thousands.
func fill(l *Log) (n int) {
	for _, text := range []string{strings.Repeat("\x00", maxText), ""} {
		for {
			r := numbered(n)
			r.App += text
			r.Accounts = append(r.Accounts, text)
			if l.waiting()+len(line(r)) > maxQueue {
				break
			}
			l.Write(r)
			n++
		}
	}
	return n
}

func line(r Record) []byte { return r.appendTo(nil) }

func (l *Log) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}

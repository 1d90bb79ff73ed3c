package audit

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNil(t *testing.T) {
	var l *Log
	l.Write(testRecord)
	if l.Stats() != (Stats{}) || l.Close() != nil {
		t.Error("a nil log does something")
	}
}

func TestManyWriters(t *testing.T) {
	const writers, each = 50, 200
	path := filepath.Join(t.TempDir(), "audit")
	l, err := Open(path, nil)
	mustOpen(t, l, err)
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			for i := range each {
				r := numbered(i)
				r.Caller = fmt.Sprint(w)
				l.Write(r)
			}
		})
	}
	running.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if want := (Stats{Written: writers * each}); l.Stats() != want {
		t.Errorf("%+v, want %+v", l.Stats(), want)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := map[any]int{}
	for _, members := range readLines(t, data) {
		if caller := members["caller"]; members["trace_id"] != fmt.Sprint(next[caller]) {
			t.Fatalf("of writer %v came %v, not %d", caller, members["trace_id"], next[caller])
		}
		next[members["caller"]]++
	}
	for w := range writers {
		if n := next[fmt.Sprint(w)]; n != each {
			t.Errorf("writer %d: %d records", w, n)
		}
	}
}

// A call waits for a disk that hangs, but not long, and not each one.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, m := newDisk(t), &messages{}
		d.blocked = make(chan struct{})
		l := d.start(t, m.logger())
		l.Write(numbered(-1))
		synctest.Wait() // the writer hangs with this one
		queued := fill(l)

		begin := time.Now()
		var waiting sync.WaitGroup
		for range 20 {
			waiting.Go(func() { l.Write(testRecord) })
		}
		waiting.Wait()
		if waited := time.Since(begin); waited != patience {
			t.Errorf("calls waited %s, want %s", waited, patience)
		}
		begin = time.Now()
		for range 1000 {
			l.Write(testRecord)
		}
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("others waited %s more", waited)
		}
		if want := (Stats{Lost: 1020}); l.Stats() != want {
			t.Errorf("%+v, want %+v", l.Stats(), want)
		}
		if got := m.levels(); got != "level=ERROR" {
			t.Errorf("messages: %q", got)
		}

		close(d.blocked)
		synctest.Wait()
		l.Write(numbered(queued))
		synctest.Wait()
		lines := d.lines(t)
		if len(lines) != queued+3 || lines[0]["trace_id"] != "-1" {
			t.Fatalf("%d lines, want %d", len(lines), queued+3)
		}
		for i := range queued {
			if lines[i+1]["trace_id"] != fmt.Sprint(i) {
				t.Fatalf("line %d is %v", i+1, lines[i+1])
			}
		}
		if lines[queued+1]["lost"] != 1020.0 || lines[queued+2]["trace_id"] != fmt.Sprint(queued) {
			t.Errorf("the end is %v", lines[queued+1:])
		}
		if want := (Stats{Written: uint64(queued) + 2, Lost: 1020}); l.Stats() != want {
			t.Errorf("%+v, want %+v", l.Stats(), want)
		}
		if got := m.levels(); got != "level=ERROR level=INFO" {
			t.Errorf("messages: %q", got)
		}

		d.blocked = make(chan struct{}) // and once more
		l.Write(testRecord)
		synctest.Wait()
		fill(l)
		begin = time.Now()
		l.Write(testRecord)
		if waited := time.Since(begin); waited != patience {
			t.Errorf("later a call waited %s, want %s", waited, patience)
		}
		close(d.blocked)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A call that waits goes on as soon as there is room.
func TestRoomInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.blocked = make(chan struct{})
		l := d.start(t, discard())
		l.Write(testRecord)
		synctest.Wait()
		n := fill(l)
		begin := time.Now()
		go func() {
			<-time.After(patience / 2)
			close(d.blocked)
		}()
		l.Write(testRecord)
		if waited := time.Since(begin); waited != patience/2 {
			t.Errorf("waited %s", waited)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if want := (Stats{Written: uint64(n) + 2}); l.Stats() != want || len(d.lines(t)) != n+2 {
			t.Errorf("%+v, want %+v, and %d lines", l.Stats(), want, len(d.lines(t)))
		}
	})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// When the disk is full, what waits is written later, within a line too.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, m := newDisk(t), &messages{}
		d.space = 100 // not even a line
		l := d.start(t, m.logger())
		for i := range 100 {
			l.Write(numbered(i))
			synctest.Wait()
		}
		d.change(func() {
			if d.writes != 1 {
				t.Errorf("%d attempts at once", d.writes)
			}
			d.space = 100 // still not
		})
		<-time.After(10 * retryInterval)
		synctest.Wait()
		d.change(func() {
			if d.writes != 11 {
				t.Errorf("%d attempts in 10 intervals", d.writes)
			}
			d.space = 1 << 30
		})
		if l.Stats() != (Stats{}) {
			t.Errorf("%+v", l.Stats())
		}
		<-time.After(retryInterval)
		synctest.Wait()
		if want := (Stats{Written: 100}); l.Stats() != want {
			t.Errorf("%+v, want %+v", l.Stats(), want)
		}
		if got := m.levels(); got != "level=ERROR level=INFO" {
			t.Errorf("messages: %q", got)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for i, line := range d.lines(t) {
			if line["trace_id"] != fmt.Sprint(i) {
				t.Fatalf("line %d is %v", i, line)
			}
		}
	})
}

// Nothing but the line about losses is left when the disk becomes full.
func TestFullDiskAtLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.blocked = make(chan struct{})
		l := d.start(t, discard())
		l.Write(testRecord)
		synctest.Wait()
		fill(l)
		l.Write(testRecord)
		d.change(func() { d.space = len(line(testRecord)) + l.waiting() + 10 })
		close(d.blocked)
		synctest.Wait()
		d.change(func() { d.space = 1 << 20 })
		<-time.After(retryInterval)
		synctest.Wait()
		lines := d.lines(t)
		if lines[len(lines)-1]["lost"] != 1.0 || l.Stats() != (Stats{Written: uint64(len(lines)) - 1, Lost: 1}) {
			t.Errorf("%+v of %d lines, the last is %v", l.Stats(), len(lines), lines[len(lines)-1])
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.space = 500 // a line and a half
		l := d.start(t, discard())
		for range 10 {
			l.Write(testRecord)
			synctest.Wait()
		}
		d.change(func() { d.space = 0 })
		begin := time.Now()
		err := l.Close()
		if err == nil || !strings.Contains(err.Error(), "9 records are lost") {
			t.Error(err)
		}
		if time.Since(begin) != 0 {
			t.Error("it waits")
		}
		if s := l.Stats(); s.Written+s.Lost != 10 || s.Written == 0 || s.Lost == 0 {
			t.Errorf("%+v", s)
		}
		if again := l.Close(); again == nil || again.Error() != err.Error() {
			t.Error(again)
		}
		l.Write(testRecord)
		if s := l.Stats(); s.Written+s.Lost != 11 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCloseOnHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		d.blocked = make(chan struct{})
		l := d.start(t, discard())
		l.Write(testRecord)
		begin := time.Now()
		if err := l.Close(); err == nil || time.Since(begin) != closePatience {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		close(d.blocked)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Each record is in the file or counted as lost, whoever closes the log meanwhile.
func TestCloseUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l, err := Open(path, nil)
	mustOpen(t, l, err)
	const writers, each = 20, 500
	var running sync.WaitGroup
	half := make(chan struct{}, writers)
	for range writers {
		running.Go(func() {
			for i := range each {
				if i == each/2 {
					half <- struct{}{}
				}
				l.Write(numbered(i))
			}
		})
	}
	<-half
	for range 2 {
		running.Go(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := l.Stats()
	if n := len(readLines(t, data)); uint64(n) != s.Written || s.Written+s.Lost != writers*each || s.Written < each/2 {
		t.Errorf("%d lines, %+v", n, s)
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, inParallel := range map[string]bool{"one": false, "parallel": true} {
		b.Run(name, func(b *testing.B) {
			l, err := Open(filepath.Join(b.TempDir(), "audit"), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			if inParallel {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						l.Write(testRecord)
					}
				})
			} else {
				for b.Loop() {
					l.Write(testRecord)
				}
			}
			b.StopTimer()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(l.Stats().Lost), "lost")
		})
	}
}

// Whatever is lost, a log on a disk that is really full ends.
func TestDevFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("the system has no /dev/full")
	}
	m := &messages{}
	l, err := start(filepath.Join(t.TempDir(), "audit"), m.logger(), func(string) (file, error) {
		return os.OpenFile("/dev/full", os.O_RDWR|os.O_APPEND, 0)
	})
	mustOpen(t, l, err)
	for i := range 100 {
		l.Write(numbered(i))
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "100 records are lost") {
		t.Error(err)
	}
	if want := (Stats{Lost: 100}); l.Stats() != want {
		t.Errorf("%+v, want %+v", l.Stats(), want)
	}
	if got := m.levels(); got != "level=ERROR" {
		t.Errorf("messages: %q", got)
	}
}

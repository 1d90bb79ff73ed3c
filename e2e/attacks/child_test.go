package attacks

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
)

// command is the server's command, built once for all tests.
var command struct {
	once sync.Once
	dir  string
	err  error
}

func buildServer(tb testing.TB) string {
	tb.Helper()
	command.once.Do(func() {
		if command.dir, command.err = os.MkdirTemp("", "attacks"); command.err != nil { //nolint:usetesting // outlives the test that comes first
			return
		}
		// Without the race detector: its shadow would be measured too.
		build := exec.Command("go", "build", "-o", filepath.Join(command.dir, "server"), "../../cmd/server") //nolint:noctx // ends by itself
		if output, err := build.CombinedOutput(); err != nil {
			command.err = fmt.Errorf("%w: %s", err, output)
		}
	})
	if command.err != nil {
		tb.Fatal(command.err)
	}
	return filepath.Join(command.dir, "server")
}

// A child is a facade in a process of its own, so that what it takes is told
// from what its attackers take.
type child struct {
	*recorder
	facade

	client *http.Client // for the admin page
}

// startChild starts the server as its operator would, in front of a recorder, and
// stops it when the test ends: it must stop by itself.
func startChild(tb testing.TB, args ...string) *child {
	tb.Helper()
	r := newRecorder(tb)
	process := exec.Command(buildServer(tb), slices.Concat(harness.Ports(), baseArgs(tb, r.url()), []string{"--log-level=error"}, args)...) //nolint:noctx // stopped below
	process.Env = append(os.Environ(), "GOGC=25")                                                                                           // what is in use is to be told, not what is yet to be collected
	out, err := process.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	log := &tail{}
	process.Stderr = log
	if err := process.Start(); err != nil {
		tb.Fatal(err)
	}
	c := &child{recorder: r, client: &http.Client{Timeout: patience, Transport: &http.Transport{}}}
	tb.Cleanup(func() {
		c.client.CloseIdleConnections()
		_ = process.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		if err := process.Wait(); err != nil {
			tb.Errorf("the server did not stop by itself: %v\n%s", err, log)
		}
		if strings.Contains(log.String(), "panic") {
			tb.Errorf("the server panicked:\n%s", log)
		}
	})
	var banner strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		banner.WriteString(lines.Text() + "\n")
		if doors, ok := harness.Listening(banner.String()); ok {
			c.facade = facadeAt(doors)
			return c
		}
	}
	tb.Fatalf("the server said:\n%s%s", &banner, log)
	return nil
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 64 << 10
	if t.text = append(t.text, p...); len(t.text) > most {
		t.text = append([]byte(nil), t.text[len(t.text)-most:]...)
	}
	return len(p), nil
}

// String implements fmt.Stringer.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// usage is what a process takes.
type usage struct {
	heap       float64 // bytes in use, garbage not yet collected included
	resident   float64 // bytes, which the runtime gives back late
	goroutines int
}

var measure = regexp.MustCompile(`(?m)^(go_memstats_heap_inuse_bytes|process_resident_memory_bytes|go_goroutines) (\S+)$`)

func (c *child) usage(ctx context.Context) (usage, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/metrics", http.NoBody)
	if err != nil {
		return usage{}, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return usage{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return usage{}, err
	}
	var u usage
	for _, m := range measure.FindAllStringSubmatch(string(text), -1) {
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return u, err
		}
		switch m[1] {
		case "go_goroutines":
			u.goroutines = int(value)
		case "process_resident_memory_bytes":
			u.resident = value
		default:
			u.heap = value
		}
	}
	return u, nil
}

// during returns what the server takes before a deed and the most of it until
// the deed is done.
func (c *child) during(tb testing.TB, deed func()) (before, most usage) {
	tb.Helper()
	before, err := c.usage(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	most = before
	done := make(chan struct{})
	go func() {
		defer close(done)
		deed()
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-done:
			over = true // and one last look
		case <-tick.C:
		}
		now, err := c.usage(tb.Context())
		if err != nil {
			tb.Errorf("the admin page: %v", err)
			<-done
			return before, most
		}
		most = usage{max(most.heap, now.heap), max(most.resident, now.resident), max(most.goroutines, now.goroutines)}
	}
	return before, most
}

// settle waits until the server has no more goroutines than before an attack, but
// for those of connections that honest calls needed meanwhile: an attack that
// leaves any leaves thousands.
func (c *child) settle(tb testing.TB, before usage) {
	tb.Helper()
	const some = 100
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		now, err := c.usage(tb.Context())
		if err == nil && now.goroutines <= before.goroutines+some {
			tb.Logf("goroutines before %d, after %d", before.goroutines, now.goroutines)
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			tb.Errorf("goroutines before %d, %v after the attack %d (%v)", before.goroutines, patience, now.goroutines, err)
			return
		}
	}
}

// mib shows bytes.
func mib(bytes float64) string { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }

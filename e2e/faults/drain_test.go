package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var drain = scenario{
	name:  "SIGTERM",
	fault: "SIGTERM",
	load:  "1,000 calls per second over gRPC and REST, 40 streams open, a second of --shutdown-delay",
	must:  "/readyz says so before anything is refused; 0 calls and streams that were under way fail; gone within the drain limit",
}

const (
	shutdownDelay = time.Second
	drainLimit    = 10 * time.Second
)

func TestSIGTERM(t *testing.T) {
	testmode.Beside(t)
	r := drain.begin(t)
	up := startFake(t, behaviour{service: 200 * time.Millisecond, pages: form(8, 15)})
	f, process := startProcess(t, []string{up.url}, append(apart, fmt.Sprint("--shutdown-delay=", shutdownDelay), fmt.Sprint("--drain-timeout=", drainLimit))...)
	callers := f.callers(t, 8)
	calls := load{rate: form(200.0, 1000.0), length: time.Minute, call: func(ctx context.Context, n int) outcome {
		c, text := callers[n%len(callers)], peer(n)
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		switch n / len(callers) % 3 {
		case 0:
			return c.readREST(ctx, text, 0)
		case 1:
			return c.send(ctx, "", text)
		default:
			return c.read(ctx, text)
		}
	}}.begin(t.Context())
	warm := form(time.Second, 10*time.Second)
	calls.until(t.Context(), warm-streamsBegin-time.Second)
	streams := openStreams(t, callers, 5)
	calls.until(t.Context(), warm)

	watched := watchReadiness(t.Context(), f)
	told := time.Since(calls.started)
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	refusedWhileReady := watched() // returns when it is not ready any more
	known := time.Since(calls.started)
	pause(t.Context(), form(50*time.Millisecond, 250*time.Millisecond)) // until those who ask for it know
	calls.stop()
	records := calls.wait()
	failedStreams := streams()
	err := process.Wait()
	gone := time.Since(calls.started) - told

	// A generator that is late has begun a call later than it was due.
	underWay := where(records, func(c record) bool { return c.begin < told && c.end > told })
	between := where(records, func(c record) bool { return c.begin >= told })
	before := where(records, func(c record) bool { return c.end <= told })
	if n := len(where(before, broken)); n > 0 {
		r.sayf("%d of %d failed before the signal: %s", n, len(before), tally(reasons(before)))
	}
	r.figure("refused while ready", float64(refusedWhileReady), "", atMost(0))
	r.figure(fmt.Sprintf("of %d calls under way failed", len(underWay)), float64(len(where(underWay, broken))), "", atMost(0))
	r.figure("of 40 streams failed", float64(failedStreams), "", atMost(0))
	r.timed("gone after", gone.Seconds(), " s", atMost((shutdownDelay + drainLimit).Seconds()))
	r.sayf("not ready after %s ms", digits(milliseconds(known-told)))
	r.timed(fmt.Sprintf("of %d calls begun after the signal, within --shutdown-delay, failed", len(between)), float64(len(where(between, broken))), "", atMost(0))
	if err != nil {
		t.Errorf("the process ended with: %v", err)
	}
	t.Logf("under way: %v, between: %v", reasons(underWay), reasons(between))
	r.write()
}

// startProcess builds the server and runs it as its operator does.
func startProcess(tb testing.TB, endpoints []string, args ...string) (facade, *exec.Cmd) {
	tb.Helper()
	binary := filepath.Join(tb.TempDir(), "server")
	build := exec.CommandContext(tb.Context(), "go", "build", "-o", binary, "../../cmd/server")
	if text, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, text)
	}
	process := exec.CommandContext(context.Background(), binary, slices.Concat(harness.Ports(), harness.Upstream(tb, endpoints...), args)...)
	process.Env = os.Environ()
	stdout, err := process.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var log lastLines
	process.Stderr = &log
	if err := process.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait() // an error if the test has waited
		if tb.Failed() {
			tb.Logf("the end of its log:\n%s", log.text)
		}
	})
	var text strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		fmt.Fprintln(&text, lines.Text())
		if doors, ok := harness.Listening(text.String()); ok {
			return facade{doors}, process
		}
	}
	tb.Fatalf("the server did not start: %s%s", text.String(), log.text)
	return facade{}, nil
}

// lastLines keeps the end of what is written to it.
type lastLines struct{ text []byte }

func (l *lastLines) Write(p []byte) (int, error) {
	const most = 4 << 10
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-most):]
	return len(p), nil
}

// watchReadiness knocks at both doors. The function that it returns waits until
// /readyz says that the server is going, and tells how often a door was shut while
// it still said otherwise.
func watchReadiness(ctx context.Context, f facade) func() int {
	shut := make(chan int, 1)
	go func() {
		early := 0
		for {
			refused := knock(ctx, f.GRPC) || knock(ctx, strings.TrimPrefix(f.REST, "http://"))
			code, _ := fetch(ctx, f.Admin+"/readyz")
			switch {
			case code != http.StatusOK:
				shut <- early
				return
			case refused:
				early++
			}
			pause(ctx, time.Millisecond)
		}
	}()
	return func() int { return <-shut }
}

// knock reports whether nobody listens at an address.
func knock(ctx context.Context, address string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close()
	return false
}

// openStreams opens streams of all kinds, each of them n times for a caller. They
// last for seconds. The function that it returns waits for their ends and tells
// how many failed.
func openStreams(tb testing.TB, callers []*caller, n int) func() int {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	var open sync.WaitGroup
	var failed atomic.Int64
	for i := range callers {
		for j := range n {
			open.Go(func() {
				kinds := []func(context.Context, *caller) error{listAll, listAllREST, sendPieces}
				if err := kinds[j%len(kinds)](ctx, callers[i]); err != nil {
					failed.Add(1)
					tb.Logf("stream: %v", err)
				}
			})
		}
	}
	return func() int {
		open.Wait()
		cancel()
		return int(failed.Load())
	}
}

// listAll reads lists until the time is over in which the signal comes: the last
// of them is under way when it does.
func listAll(ctx context.Context, c *caller) error {
	for begin := time.Now(); ; {
		stream, err := c.conversations.StreamConversations(ctx, &imv1.ListConversationsRequest{AccountId: "alice", PageSize: 1})
		if err != nil {
			return err
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("list over gRPC: %w", err)
		}
		if time.Since(begin) > streamsBegin {
			return nil
		}
	}
}

// streamsBegin is how long new streams are opened.
var streamsBegin = form(time.Duration(0), 4*time.Second)

func listAllREST(ctx context.Context, c *caller) error {
	for begin := time.Now(); ; {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.restURL+"/v1/conversations:stream?account_id=alice&page_size=1", http.NoBody)
		if err != nil {
			return err
		}
		response, err := c.rest.Do(r)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if pages := strings.Count(string(text), "alice|1|peer"); err != nil || pages == 0 || strings.Contains(string(text), `"error"`) {
			return fmt.Errorf("list over REST: %w, %d pages, %.300s", err, pages, text)
		}
		if time.Since(begin) > streamsBegin {
			return nil
		}
	}
}

// sendPieces sends a message in pieces for longer than the server takes new calls.
func sendPieces(ctx context.Context, c *caller) error {
	stream, err := c.messages.SendStreamMessage(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&imv1.SendStreamMessageRequest{Start: &imv1.StreamMessageStart{ConversationId: "alice|1|bob"}, Text: "begin"})
	for begin := time.Now(); err == nil && time.Since(begin) < streamsBegin+form(2*time.Second, 3*time.Second); pause(ctx, 100*time.Millisecond) {
		err = stream.Send(&imv1.SendStreamMessageRequest{Text: "more"})
	}
	if err != nil {
		return fmt.Errorf("sending pieces: %w", err)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	finished := false
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) && finished {
			return nil
		}
		if err != nil {
			return fmt.Errorf("message in pieces, finished %t: %w", finished, err)
		}
		finished = reply.GetFinished()
	}
}

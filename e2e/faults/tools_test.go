package faults

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The suite is only as good as what it measures with.

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i))
	}
	for share, want := range map[float64]time.Duration{0: 1, 0.01: 1, 0.5: 50, 0.99: 99, 0.991: 100, 1: 100} {
		if have := percentile(hundred, share); have != want {
			t.Errorf("percentile %v is %d, want %d", share, have, want)
		}
	}
	if percentile(nil, 0.5) != 0 || percentile([]time.Duration{7}, 0.01) != 7 {
		t.Error("the percentile of none or one is wrong")
	}
}

func TestJain(t *testing.T) {
	t.Parallel()
	for want, amounts := range map[float64][]float64{
		1: {25, 25, 25, 25}, 0.25: {100, 0, 0, 0}, 0: {0, 0}, 0.5: {5, 5, 0, 0},
	} {
		if have := jain(amounts); have != want {
			t.Errorf("the index of %v is %v, want %v", amounts, have, want)
		}
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	var arrivals []arrival
	var times []time.Time
	for _, ms := range []int{0, 9, 10, 500, 999, 1000, 1009, 1400} {
		times = append(times, begin.Add(time.Duration(ms)*time.Millisecond))
		arrivals = append(arrivals, arrival{at: times[len(times)-1]})
	}
	if have := mostWithin(arrivals, time.Second); have != 5 { // 9 to 1000, and 10 to 1009
		t.Errorf("%d within a second, want 5", have)
	}
	if have := fullestSlot(times, 10*time.Millisecond); have != 2 {
		t.Errorf("%d in a slot, want 2", have)
	}
	if mostWithin(nil, time.Second) != 0 || fullestSlot(nil, time.Second) != 0 {
		t.Error("of no arrivals there are some")
	}
}

func TestLoadKeepsItsSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		records := load{rate: 100, length: time.Second, call: func(ctx context.Context, n int) outcome {
			if n == 10 {
				pause(ctx, 10*time.Second) // a slow call must not hold up the others
			}
			return outcome{}
		}}.begin(t.Context()).wait()
		if len(records) != 100 {
			t.Fatalf("%d calls, want 100", len(records))
		}
		for i, r := range records {
			if want := time.Duration(i) * 10 * time.Millisecond; r.n != i || r.begin != want || r.due != want {
				t.Errorf("call %d began at %v, want %v", i, r.begin, want)
			}
		}
		if took := records[10].took(); took != 10*time.Second {
			t.Errorf("the slow call took %v", took)
		}
		if n := len(within(records, 100*time.Millisecond, 200*time.Millisecond)); n != 10 {
			t.Errorf("%d calls in a tenth of the time", n)
		}
	})
}

func TestLedger(t *testing.T) {
	t.Parallel()
	l := newLedger()
	for range 2 {
		l.arrive(apiSend, "a")
	}
	first := l.commit("t1", true, "a")
	if l.commit("t1", true, "a") != first || l.entry("a") != (entry{arrivals: 2, commits: 1}) {
		t.Errorf("a trace id was executed twice: %+v", l.entry("a"))
	}
	if l.commit("t1", false, "a") == first || l.commit("t2", true, "a") == first || l.entry("a").commits != 3 {
		t.Errorf("what was executed thrice is not noted: %+v", l.entry("a"))
	}
	if n := len(l.came(apiSend, time.Time{}, time.Now().Add(time.Hour))); n != 2 {
		t.Errorf("%d arrivals, want 2", n)
	}
}

// ask makes one request of a fake or a proxy, on a connection of its own.
func ask(ctx context.Context, url, body string) (status int, answer string, err error) {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/im/v2/conversations/alice%7C1%7Cbob/messages", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("X-custom-traceid", "trace of "+body)
	r.GetBody = nil
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, string(text), err
}

func TestFake(t *testing.T) {
	t.Parallel()
	f := startFake(t, behaviour{})
	for i, c := range []struct {
		how    behaviour
		commit int
		want   string
	}{
		{behaviour{}, 1, `"text":"m0"`},
		{behaviour{gateway: 1}, 0, "502"},
		{behaviour{reset: 1}, 0, "no answer"},
		{behaviour{lost: 1}, 1, "no answer"},
		{behaviour{down: true}, 0, ""},
	} {
		f.become(c.how)
		name := fmt.Sprintf("m%d", i)
		status, have, err := ask(t.Context(), f.url, fmt.Sprintf(`{"message":{"text":%q}}`, name))
		if err != nil {
			have = "no answer"
		}
		if !strings.Contains(fmt.Sprint(status, have), c.want) {
			t.Errorf("%+v answers %d %s %v, want %s", c.how, status, have, err, c.want)
		}
		if e := f.ledger.entry(name); e != (entry{1, c.commit}) {
			t.Errorf("%+v: %+v, want %d commits", c.how, e, c.commit)
		}
	}
	f.become(behaviour{rate: 3})
	refused := 0
	for i := range 5 {
		_, have, err := ask(t.Context(), f.url, fmt.Sprintf(`{"message":{"text":"r%d"}}`, i))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(have, `"code":416`) {
			refused++
		}
	}
	if refused > 2 || refused == 0 && len(f.ledger.came(apiSend, time.Now().Add(-time.Second), time.Now())) >= 5 {
		t.Errorf("%d of 5 at 3 a second were refused", refused)
	}
	f.become(behaviour{workers: make(chan struct{}, 2), service: 50 * time.Millisecond})
	begin := time.Now()
	each(t, 6, 6, func(int) { _, _, _ = ask(t.Context(), f.url, `{"message":{"text":"w"}}`) })
	if took := time.Since(begin); took < 150*time.Millisecond {
		t.Errorf("6 requests of 50ms with 2 workers took %v", took)
	}
}

// TestProxy checks each mode by what a client of it sees, and by whether the
// request arrived.
func TestProxy(t *testing.T) {
	t.Parallel()
	for m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			f := startFake(t, behaviour{})
			p := startProxy(t, strings.TrimPrefix(f.url, "http://"))
			n := 20
			if m == cut {
				n = 200 // in the middle of the body
			}
			p.set(t, fault{mode: m, n: n, every: 5 * time.Millisecond, latency: 20 * time.Millisecond})
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			begin := time.Now()
			status, answer, err := ask(ctx, "http://"+p.address(), `{"message":{"text":"m"}}`)
			saw := describe(status, answer, err)
			want := map[mode]string{
				pass: "answer", trickle: "answer", swallow: "timeout", deaf: "timeout", badGateway: "502",
				resetBefore: "reset", resetAfter: "reset", cut: "reset", halfClose: "end", endless: "endless",
			}[m]
			if m == trickle && saw == "timeout" || m == endless && saw == "timeout" {
				saw = want // on a slow machine
			}
			if saw != want {
				t.Errorf("a client sees %s (%d %v), want %s", saw, status, err, want)
			}
			arrived := slices.Contains([]mode{pass, trickle, resetAfter, cut, halfClose}, m)
			if e := f.ledger.entry("m"); (e.arrivals == 1) != arrived {
				t.Errorf("%d requests arrived", e.arrivals)
			}
			if took := time.Since(begin); m == pass && took < 20*time.Millisecond {
				t.Errorf("the answer took %v in spite of the latency", took)
			}
			p.set(t, fault{})
			if _, answer, err := ask(t.Context(), "http://"+p.address(), `{"message":{"text":"m"}}`); err != nil || !strings.Contains(answer, `"code":200`) {
				t.Errorf("healed, the proxy answers %s, %v", answer, err)
			}
		})
	}
}

// describe names what a client sees.
func describe(status int, answer string, err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded):
		if status != 0 {
			return "endless"
		}
		return "timeout"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return "end"
	case err != nil:
		return err.Error()
	case status == http.StatusBadGateway:
		return "502"
	case len(answer) == 1<<20:
		return "endless"
	default:
		return "answer"
	}
}

// TestProxyCutsTLS cuts connections in the middle of the handshake, and in the
// middle of an answer.
func TestProxyCutsTLS(t *testing.T) {
	t.Parallel()
	f := startFakeTLS(t, behaviour{})
	p := startProxy(t, strings.TrimPrefix(f.url, "https://"))
	dial := func() (net.Conn, error) {
		return (&tls.Dialer{}).DialContext(t.Context(), "tcp", p.address())
	}
	p.set(t, fault{mode: cut, n: 40})
	if conn, err := dial(); err == nil {
		_ = conn.Close()
		t.Error("the handshake was not cut")
	}
	p.set(t, fault{})
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	p.set(t, fault{mode: cut, n: 40})
	if _, err := io.WriteString(conn, "GET /health/liveness.action HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1024)); err == nil {
		t.Errorf("%d bytes of a record that was cut were read", n)
	}
}

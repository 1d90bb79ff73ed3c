package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// The ways in which a host of the fleet can be.
type condition int

const (
	well     condition = iota
	holed              // what is sent to it is swallowed
	gateless           // a gateway without its application
	refusing           // connections are refused
	stuck              // its calls take for ever, but it passes probes
	unprobed           // it answers calls, but no probes
	paused             // nothing is answered before the next condition, probes last
)

// A fleet is a network in memory of hosts by name, on the clock of synctest.
type fleet struct {
	mu        sync.Mutex
	condition map[string]condition
	calls     map[string][]time.Time // when attempts arrived, without probes
	listeners map[string]*pipes
	turned    chan struct{} // closed at the next turn
}

func newFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	f := &fleet{condition: map[string]condition{}, calls: map[string][]time.Time{}, listeners: map[string]*pipes{}, turned: make(chan struct{})}
	for _, name := range names {
		var group sync.WaitGroup
		network := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(name, w, r) })}
		group.Go(func() { _ = server.Serve(network) })
		t.Cleanup(func() { _ = server.Close(); group.Wait() })
		f.listeners[name] = network
	}
	return f
}

func (f *fleet) serve(name string, w http.ResponseWriter, r *http.Request) {
	probe := strings.HasSuffix(r.URL.Path, "/health/liveness.action")
	f.mu.Lock()
	now, turned := f.condition[name], f.turned
	if !probe {
		f.calls[name] = append(f.calls[name], time.Now())
	}
	f.mu.Unlock()
	if now == paused {
		<-turned
		if probe {
			<-time.After(60 * time.Millisecond)
		}
	}
	switch {
	case now == holed, now == stuck && !probe, now == unprobed && probe:
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client is gone
		<-r.Context().Done()
	case now == refusing:
		cut(w)
	case now == gateless:
		w.WriteHeader(http.StatusBadGateway)
	case !probe:
		<-time.After(20 * time.Millisecond)
		answer(http.StatusOK, `{"code":200,"data":{"id":"`+name+`"}}`)(w, r)
	}
}

func (f *fleet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	name, _, _ := net.SplitHostPort(address)
	switch f.is(name) {
	case holed:
		return dialNothing(ctx, network, address)
	case refusing:
		return nil, net.ErrClosed
	default:
		return f.listeners[name].dial(ctx, network, address)
	}
}

func (f *fleet) is(name string) condition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.condition[name]
}

// turn changes the condition of the main host.
func (f *fleet) turn(c condition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.condition["main"] = c
	close(f.turned)
	f.turned = make(chan struct{})
}

// arrived returns how many attempts reached a host within a time before now.
func (f *fleet) arrived(name string, within time.Duration) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, at := range f.calls[name] {
		if time.Since(at) <= within {
			n++
		}
	}
	return n
}

// client returns a client of hosts of the fleet, in this order of preference.
func (f *fleet) client(t *testing.T, names ...string) client {
	t.Helper()
	c := newClient(t, "http://"+names[0], func(cfg *Config) {
		cfg.Dial = f.dial
		cfg.Endpoints = nil
		for _, name := range names {
			cfg.Endpoints = append(cfg.Endpoints, "http://"+name)
		}
	})
	c.attempts = maxAttempts
	return c
}

// A load is a steady rate of calls, each with a deadline.
type load struct {
	method   string
	rate     int // calls per second
	deadline time.Duration
	key      string
}

// run makes the calls of some time and returns how many of them failed that
// began after grace.
func (l load) run(t *testing.T, c client, length, grace time.Duration) (calls, failed int) {
	t.Helper()
	var group sync.WaitGroup
	var mu sync.Mutex
	begin := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(l.rate))
	defer tick.Stop()
	for time.Since(begin) < length {
		<-tick.C
		late := time.Since(begin) > grace
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), l.deadline)
			defer cancel()
			if l.key != "" {
				ctx = WithCallInfo(ctx, CallInfo{IdempotencyKey: l.key})
			}
			_, err := c.call(ctx, l.method)
			mu.Lock()
			defer mu.Unlock()
			if late {
				calls++
			}
			if late && err != nil {
				failed++
			}
		})
	}
	group.Wait()
	return calls, failed
}

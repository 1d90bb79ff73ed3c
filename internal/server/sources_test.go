package server

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// An address that owes a pause owes it still when it comes back, and is forgotten
// when it has none.
func TestForget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPerSource(nil, 1)
		first := l.enter("192.0.2.1")
		if pause := first.pause(time.Now(), 0, 2*resetsAtOnce); pause != resetsAtOnce*time.Second/resetsPerSecond {
			t.Errorf("a pause of %v", pause)
		}
		l.leave(first)
		l.leave(l.enter("192.0.2.2"))
		if again := l.enter("192.0.2.1"); again != first {
			t.Error("who comes back has paid by going")
		} else {
			l.leave(again)
		}
		<-time.After(2*resetsAtOnce*time.Second/resetsPerSecond + 1)
		l.enter("192.0.2.3")
		if len(l.sources) != 1 {
			t.Errorf("%d addresses are known", len(l.sources))
		}
	})
}

// One address cannot have all connections, and gets its part back.
func TestPerSource(t *testing.T) {
	t.Parallel()
	bound, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newPerSource(bound, 2)
	defer l.Close() //nolint:errcheck // the test is over
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp", bound.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	dial("127.0.0.1")
	first := <-accepted
	dial("127.0.0.1")
	<-accepted
	if n, err := dial("127.0.0.1").Read(make([]byte, 1)); err == nil {
		t.Errorf("a third connection read %d bytes", n)
	}
	dial("127.0.0.2")
	<-accepted
	_ = first.Close()
	_ = first.Close() // counts once
	dial("127.0.0.1")
	<-accepted
	if n, err := dial("127.0.0.1").Read(make([]byte, 1)); err == nil {
		t.Errorf("a third connection read %d bytes", n)
	}
	_ = l.Close()
	for range accepted {
	}
}

func TestSourceOf(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.7:5":                  "192.0.2.7",
		"[::ffff:192.0.2.7]:5":         "192.0.2.7",
		"[::1]:5":                      "::1",
		"[2001:db8:1:2:3:4:5:6]:5":     "2001:db8:1:2::/64",
		"[2001:db8:1:2::9%eth0]:65535": "2001:db8:1:2::/64",
		"pipe":                         "",
	} {
		if got := sourceOf(addr); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

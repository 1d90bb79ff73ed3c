package failover

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
)

// TestDiscoveryRounds tells in which order services are asked, and how often.
func TestDiscoveryRounds(t *testing.T) {
	t.Parallel()
	lbs := []string{"https://lbs1.test/a", "https://lbs2.test/a", "https://lbs3.test/a"}
	tests := []struct {
		name  string
		good  func(question) bool
		asked string // the numbers of the hosts
		slow  bool
	}{
		{"the first", func(question) bool { return true }, "1", false},
		{"the second", func(q question) bool { return q.host == "lbs2.test" }, "12", false},
		{"the last", func(q question) bool { return q.host == "lbs3.test" }, "123", false},
		{"in the second round", func(q question) bool { return q.n >= 3 }, "1231", false},
		{"in the last round", func(q question) bool { return q.n >= 8 }, "123123123", false},
		{"never", func(question) bool { return false }, "123123123", false},
		{"never, without a word", nil, "123123123", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, lbs...)
				if tt.good != nil {
					l.answer = func(q question) (int, string) {
						if tt.good(q) {
							return http.StatusOK, allocated("m", 30, "https://a.test")
						}
						return http.StatusBadGateway, ""
					}
				}
				err := l.discover(t.Context())
				got := ""
				for i, q := range l.asked {
					got += q.host[3:4]
					pause := time.Duration(0)
					if i > 0 {
						pause = q.at - l.asked[i-1].at
					}
					if tt.slow && i > 0 {
						pause -= questionTimeout
					}
					if between := i > 0 && i%3 == 0; !between && pause != 0 || between && (pause < roundPause/2 || pause > roundPause) {
						t.Errorf("question %d comes after %v", i, pause)
					}
				}
				if got != tt.asked {
					t.Errorf("asked %s, want %s", got, tt.asked)
				}
				if never := strings.HasPrefix(tt.name, "never"); never != (err != nil) {
					t.Errorf("error %v", err)
				} else if never && (!strings.Contains(err.Error(), "lbs1.test: ") || !strings.Contains(err.Error(), "lbs3.test: ") || strings.Count(err.Error(), "\n") != 2) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// TestDiscoveryDead checks that a service that is gone for hours costs two lines of
// log and no endpoint.
func TestDiscoveryDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		const from, to = 10 * time.Minute, 12 * time.Hour
		l.answer = func(q question) (int, string) {
			switch {
			case q.at < from || q.at > to:
				return http.StatusOK, allocated("m", 30, "https://a.test", "https://b.test")
			case q.n%2 == 0: // it is dead in two ways
				return http.StatusOK, "<html>"
			default:
				return http.StatusBadGateway, ""
			}
		}
		asked := l.runFor(t.Context(), to+10*time.Minute)
		if want := []string{"https://a.test https://b.test"}; !slices.Equal(l.updates, want) {
			t.Errorf("updates %q", l.updates)
		}
		log := l.logged.String()
		if strings.Count(log, "\n") != 3 || strings.Count(log, "level=WARN") != 1 || strings.Count(log, "endpoints again") != 1 {
			t.Errorf("log %s", log)
		}
		if hours := len(asked) / 12; hours < 150 || hours > 3*60 {
			t.Errorf("asked %d times an hour", hours)
		}
		waits := make(map[time.Duration]bool)
		for i := range asked[1:] {
			waits[asked[i+1].at-asked[i].at] = true
		}
		if len(waits) < 1000 {
			t.Errorf("%d different waits between questions", len(waits))
		}
	})
}

// TestDiscoveryFlapping checks that each change is told once, and no more.
func TestDiscoveryFlapping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.answer = always(allocated("m", 30, "https://a.test", "https://b.test"))
		l.alive = func(host string) bool {
			minute := int(time.Since(l.start) / discoveryInterval)
			return host == "b.test" && minute%10 != 9 || minute%4 < 2
		}
		l.runFor(t.Context(), time.Hour)
		if n := len(l.updates); n < 25 || n > 60 {
			t.Errorf("%d updates", n)
		}
		for i, update := range l.updates {
			if update == "" || i > 0 && update == l.updates[i-1] {
				t.Errorf("update %d is %q after %q", i, update, l.updates[i-1])
			}
		}
		log := l.logged.String()
		if n := strings.Count(log, "endpoints discovered"); n != len(l.updates) {
			t.Errorf("%d changes in the log, %d told", n, len(l.updates))
		}
		if n := strings.Count(log, "level=WARN"); n == 0 || n > 6 || n-strings.Count(log, "endpoints again") > 1 {
			t.Errorf("%d failures in the log", n)
		}
	})
}

// TestDiscoveryStops checks that the end of the context ends the run at once,
// whatever it is at, and that nothing is told then.
func TestDiscoveryStops(t *testing.T) {
	t.Parallel()
	good := always(allocated("m", 30, "https://a.test", "https://b.test"))
	tests := []struct {
		name    string
		answer  func(question) (int, string)
		alive   func(string) bool
		after   time.Duration
		updates int
	}{
		{"before the start", good, nil, 0, 0},
		{"while a service is silent", nil, nil, time.Second, 0},
		{"while probing", good, func(string) bool { return false }, checkTimeout / 2, 0},
		{"while half of the probes are out", good, func(host string) bool { return host == "b.test" }, checkTimeout / 2, 0},
		{"between two rounds", always(""), nil, roundPause / 4, 0},
		{"between two talks", good, nil, discoveryInterval / 2, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.answer, l.alive = tt.answer, tt.alive
				ctx, cancel := context.WithCancel(t.Context())
				if tt.after == 0 {
					cancel()
				}
				time.AfterFunc(tt.after, cancel)
				l.run(ctx)
				if took := time.Since(l.start); took != tt.after {
					t.Errorf("took %v", took)
				}
				if tt.after == 0 != (len(l.asked) == 0) || len(l.asked) > 1 || !l.closed {
					t.Errorf("asked %v, closed: %t", l.asked, l.closed)
				}
				if len(l.updates) != tt.updates || strings.Contains(l.logged.String(), "WARN") {
					t.Errorf("updates %q, log %s", l.updates, &l.logged)
				}
			})
		})
	}
}

// TestDiscoveryProbesTogether checks that probes take no longer than one does, and
// that an endpoint which needs a second is dead.
func TestDiscoveryProbesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.answer = always(allocated("m", 30, "https://a.test", "https://b.test", "https://c.test", "https://d.test"))
		l.alive = func(host string) bool { return host == "d.test" }
		if err := l.discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(l.start); took != time.Second || !slices.Equal(l.updates, []string{"https://d.test"}) {
			t.Errorf("took %v, updates %q", took, l.updates)
		}
	})
}

// TestDiscoveryHTTP checks that a service without TLS may name endpoints with and
// without.
func TestDiscoveryHTTP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "http://lbs1.test")
		l.answer = always(allocated("m", 30, "http://127.0.0.1:81", "https://b.test", "ftp://c.test"))
		if err := l.discover(t.Context()); err != nil || !slices.Equal(l.updates, []string{"http://127.0.0.1:81 https://b.test"}) {
			t.Errorf("updates %q, error %v", l.updates, err)
		}
	})
}

// TestDiscoveryRedirect checks that neither an answer nor a probe comes from
// elsewhere.
func TestDiscoveryRedirect(t *testing.T) {
	t.Parallel()
	var server *httptest.Server
	server = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved", "/dead" + livenessPath:
			http.Redirect(w, r, "/", http.StatusFound)
		default:
			_, _ = io.WriteString(w, allocated("m", 30, server.URL+"/dead", server.URL+"/alive"))
		}
	})
	moved := newTCPLab(t, server.URL+"/moved")
	if err := moved.ask(t.Context(), moved.services[0]); err == nil || err.Error() != "HTTP status 302" || moved.updates != nil {
		t.Errorf("updates %q, error %v", moved.updates, err)
	}
	l := newTCPLab(t, server.URL)
	if err := l.discover(t.Context()); err != nil || !slices.Equal(l.updates, []string{server.URL + "/alive"}) {
		t.Errorf("updates %q, error %v", l.updates, err)
	}
}

// TestDiscoveryLargeAnswers checks that no more is read than can be used, however
// it is packed, and that a body without an end is not waited for.
func TestDiscoveryLargeAnswers(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write(make([]byte, 1<<20))
	_ = zip.Close()
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/packed" {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed.Bytes())
			return
		}
		for r.Context().Err() == nil {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<10))
		}
	})
	for _, path := range []string{"/packed", "/endless"} {
		l := newTCPLab(t, server.URL+path)
		if err := l.ask(t.Context(), l.services[0]); err == nil || !strings.Contains(err.Error(), "larger than 65536 bytes") {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

// TestDiscoveryUnreachable checks that the log of a failure does not have the app
// key, which is in the query.
func TestDiscoveryUnreachable(t *testing.T) {
	t.Parallel()
	server := newServer(t, func(http.ResponseWriter, *http.Request) {})
	server.Close()
	l := newTCPLab(t, server.URL)
	err := l.ask(t.Context(), l.services[0])
	if err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "key") || strings.Contains(err.Error(), "sv=") {
		t.Errorf("error %v", err)
	}
}

// TestDiscoveryWithSandbox checks that an independent service is understood.
func TestDiscoveryWithSandbox(t *testing.T) {
	t.Parallel()
	imitation, err := sandbox.New(sandbox.Options{AppKey: "the&key"})
	if err != nil {
		t.Fatal(err)
	}
	var seen []http.Header
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header)
		imitation.ServeHTTP(w, r)
	})
	l := newTCPLab(t, server.URL+"/srv-sdk/allocate")
	for range 2 {
		if err := l.ask(t.Context(), l.services[0]); err != nil {
			t.Error(err)
		}
	}
	for _, header := range seen {
		if got := header.Get("User-Agent"); got != "yunxin-facade/1.2 3" {
			t.Errorf("user agent %q", got)
		}
	}
	a, err := l.fetch(t.Context(), l.services[0])
	if err != nil || !a.unchanged || !slices.Equal(l.updates, []string{server.URL}) {
		t.Errorf("unchanged %t, updates %q, error %v", a.unchanged, l.updates, err)
	}
}

func newServer(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

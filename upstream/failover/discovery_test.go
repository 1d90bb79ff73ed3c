package failover

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lbsLab is a network in memory, which keeps to the fake clock of synctest: the
// hosts lbs1.test to lbs3.test are discovery services, all others are endpoints.
type lbsLab struct {
	*discovery
	answer func(question) (status int, body string) // of the services; if nil they are silent
	alive  func(host string) bool                   // of the endpoints, the others are silent; all if nil

	mu      sync.Mutex
	start   time.Time
	asked   []question
	probes  []string
	updates []string
	logged  bytes.Buffer
	closed  bool // idle connections are
}

// A question is one that a discovery service was asked.
type question struct {
	host  string
	query url.Values
	at    time.Duration // since the start
	n     int           // how many came before
}

func newLab(t *testing.T, lbs ...string) *lbsLab {
	t.Helper()
	if lbs == nil {
		lbs = []string{"https://lbs1.test/srv-sdk/allocate"}
	}
	l := newTCPLab(t, lbs...)
	l.http.Transport = l
	return l
}

// newTCPLab makes a discovery that talks over TCP, as it does outside of tests.
func newTCPLab(t *testing.T, lbs ...string) *lbsLab {
	t.Helper()
	l := &lbsLab{start: time.Now()}
	var err error
	l.discovery, err = newDiscovery(discoveryConfig{
		services: lbs, appKey: "the&key", userAgent: "yunxin-facade/1.2 3",
		log: slog.New(slog.NewTextHandler(&l.logged, nil)),
		update: func(endpoints []string) {
			l.updates = append(l.updates, strings.Join(endpoints, " "))
			clear(endpoints) // they are the receiver's own
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.http.CloseIdleConnections)
	return l
}

// RoundTrip answers a request at once, or not before its context ends.
func (l *lbsLab) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, name := range []string{"Appkey", "AppKey", "Nonce", "CurTime", "CheckSum"} {
		if r.Header[name] != nil {
			panic("a signature for " + r.URL.Host)
		}
	}
	w := httptest.NewRecorder()
	switch {
	case strings.HasPrefix(r.URL.Host, "lbs"):
		l.mu.Lock()
		q := question{r.URL.Host, r.URL.Query(), time.Since(l.start), len(l.asked)}
		l.asked = append(l.asked, q)
		l.mu.Unlock()
		if l.answer != nil {
			status, body := l.answer(q)
			w.WriteHeader(status)
			_, _ = w.WriteString(body)
			return w.Result(), nil
		}
	case strings.HasSuffix(r.URL.Path, "/health/liveness.action"):
		l.mu.Lock()
		l.probes = append(l.probes, r.URL.String())
		l.mu.Unlock()
		if l.alive == nil || l.alive(r.URL.Host) {
			return w.Result(), nil
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		return w.Result(), nil
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func (l *lbsLab) CloseIdleConnections() { l.closed = true }

// runFor runs discovery for a time, and returns what was asked in it.
func (l *lbsLab) runFor(ctx context.Context, d time.Duration) []question {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	before := len(l.asked)
	l.run(ctx)
	return l.asked[before:]
}

// allocated is the answer of a service.
func allocated(md5 string, ttl int, endpoints ...string) string {
	for i, endpoint := range endpoints {
		endpoints[i] = strconv.Quote(endpoint)
	}
	return fmt.Sprintf(`{"code":200,"data":{"default.endpoint":%s,"backup.endpoints":[%s],"ttl":%d,"md5":%q}}`,
		endpoints[0], strings.Join(endpoints[1:], ","), ttl, md5)
}

// always is a service that says one thing.
func always(body string) func(question) (int, string) {
	return func(question) (int, string) { return http.StatusOK, body }
}

const unchanged = `{"code":304}`

// TestDiscovery tells what is asked, what is probed and what comes of it.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.answer = always(allocated("m", 30, "https://a.test/nimserver", "https://b.test/nimserver", "https://c.test/"))
		asked := l.runFor(t.Context(), discoveryInterval/2)
		if len(asked) != 1 || asked[0].at != 0 {
			t.Fatalf("asked %v", asked)
		}
		want := url.Values{"k": {"the&key"}, "sv": {"1.2 3"}, "biz": {"1"}, "p": {"go"}}
		if got := asked[0].query.Encode(); got != want.Encode() {
			t.Errorf("query %s", got)
		}
		slices.Sort(l.probes)
		if got := strings.Join(l.probes, " "); got != "https://a.test/nimserver/health/liveness.action"+
			" https://b.test/nimserver/health/liveness.action https://c.test/health/liveness.action" {
			t.Errorf("probed %s", got)
		}
		if !slices.Equal(l.updates, []string{"https://a.test/nimserver https://b.test/nimserver https://c.test"}) {
			t.Errorf("updates %q", l.updates)
		}
		if log := l.logged.String(); strings.Count(log, "\n") != 1 || strings.Contains(log, "key") {
			t.Errorf("log %s", log)
		}
	})
}

// TestDiscoveryAnswers tells which answers are taken, and what is taken of them.
func TestDiscoveryAnswers(t *testing.T) {
	t.Parallel()
	const a, b, c = "https://a.test", "https://b.test", "https://c.test"
	many := make([]string, 10000)
	for i := range many {
		many[i] = fmt.Sprintf("https://h%d", i)
	}
	tests := []struct {
		name, body, dead, want string
	}{
		{"default alone", allocated("m", 30, a), "", a},
		{"no more than must be", `{"code":200,"data":{"default.endpoint":"https://a.test"}}`, "", a},
		{"code as text", `{"code":"200","data":{"default.endpoint":"https://a.test","ttl":"60"}}`, "", a},
		{"null members", `{"code":200,"data":{"default.endpoint":"https://a.test","backup.endpoints":null,"ttl":null,"md5":null}}`, "", a},
		{"more members", `{"code":200,"msg":"ok","data":{"default.endpoint":"https://a.test","new":[{}]}}`, "", a},
		{"no default", `{"code":200,"data":{"backup.endpoints":["https://b.test","https://c.test"]}}`, "", b + " " + c},
		{"named twice", allocated("m", 30, a, a+"/", b, a, b), "", a + " " + b},
		{"dead default", allocated("m", 30, a, b, c), "a.test", b + " " + c},
		{"dead backup", allocated("m", 30, a, b, c), "b.test", a + " " + c},
		{"default and first backup dead", allocated("m", 30, a, b, c), "a.test b.test", c},
		{"all dead", allocated("m", 30, a, b), "a.test b.test", ""},
		{"unchanged, but nothing is known", unchanged, "", ""},
		{"refused", `{"code":414,"data":{"default.endpoint":"https://a.test"}}`, "", ""},
		{"no code", `{"data":{"default.endpoint":"https://a.test"}}`, "", ""},
		{"no data", `{"code":200}`, "", ""},
		{"nothing named", `{"code":200,"data":{"ttl":30}}`, "", ""},
		{"empty", "", "", ""},
		{"page of a proxy", "<html>", "", ""},
		{"two answers", allocated("m", 30, a) + allocated("m", 30, b), "", ""},

		{"http behind https", allocated("m", 30, "http://a.test", b), "", b},
		{"http alone", allocated("m", 30, "http://a.test"), "", ""},
		{"other schemes", allocated("m", 30, "ftp://a.test", "file:///etc/passwd", "javascript:0", "unix:/run/x", "//a.test", "a.test", b), "", b},
		{"scheme in capitals", allocated("m", 30, "HTTP://a.test", "HTTPS://b.test"), "", b},
		{"user", allocated("m", 30, "https://u:p@a.test", "https://u@a.test", b), "", b},
		{"query and fragment", allocated("m", 30, "https://a.test?x", "https://a.test?", "https://a.test#x", b), "", b},
		{"control characters", allocated("m", 30, "https://a.test/\r\nHost:x", b), "", b},
		{"very long", allocated("m", 30, a+"/"+strings.Repeat("x", maxDiscoveredText), b), "", b},
		{"ten thousand", allocated("m", 30, slices.Clone(many[:4000])...), "", strings.Join(many[:maxDiscovered], " ")},
		{"all of ten thousand", allocated("m", 30, slices.Clone(many)...), "", ""},
		{"the first of them dead", allocated("m", 30, slices.Clone(many[:4000])...), "h0 h1 h2 h3 h4 h5 h6 h7", ""},
		{"just small enough", strings.Repeat(" ", maxDiscoveryAnswer-len(allocated("m", 30, a))) + allocated("m", 30, a), "", a},
		{"too large", strings.Repeat(" ", maxDiscoveryAnswer-len(allocated("m", 30, a))+1) + allocated("m", 30, a), "", ""},

		{"default of another type", `{"code":200,"data":{"default.endpoint":["https://a.test"]}}`, "", ""},
		{"backups of another type", `{"code":200,"data":{"default.endpoint":"https://a.test","backup.endpoints":"https://b.test"}}`, "", ""},
		{"a backup of another type", `{"code":200,"data":{"default.endpoint":"https://a.test","backup.endpoints":[5]}}`, "", ""},
		{"ttl of another type", `{"code":200,"data":{"default.endpoint":"https://a.test","ttl":{}}}`, "", ""},
		{"md5 of another type", `{"code":200,"data":{"default.endpoint":"https://a.test","md5":5}}`, "", ""},
		{"code of another type", `{"code":[200],"data":{"default.endpoint":"https://a.test"}}`, "", ""},
		{"code with a fraction", `{"code":200.5,"data":{"default.endpoint":"https://a.test"}}`, "", ""},
		{"data of another type", `{"code":200,"data":[]}`, "", ""},
		{"list", `[200]`, "", ""},
		{"deep", strings.Repeat("[", maxDiscoveryAnswer), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.answer = always(tt.body)
				l.alive = func(host string) bool { return !slices.Contains(strings.Fields(tt.dead), host) }
				l.runFor(t.Context(), discoveryInterval/2)
				if got := strings.Join(l.updates, ", "); got != tt.want {
					t.Errorf("updates %s, want %s", got, tt.want)
				}
				if failed := strings.Contains(l.logged.String(), "level=WARN"); failed != (tt.want == "") {
					t.Errorf("log %s", &l.logged)
				}
				if n := len(l.probes); n > discoveryRounds*maxDiscovered {
					t.Errorf("%d probes", n)
				}
				if n := l.logged.Len(); n > 1000 {
					t.Errorf("%d bytes of log", n)
				}
			})
		})
	}
}

// TestDiscoveryStatus checks that no other HTTP status than 200 has an answer, and
// that an answer's words do not get into the log.
func TestDiscoveryStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []int{201, 204, 301, 304, 403, 404, 500, 502} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			l.answer = func(question) (int, string) { return status, allocated("words", 30, "https://words.test") }
			l.runFor(t.Context(), discoveryInterval/2)
			log := l.logged.String()
			if len(l.updates) != 0 || !strings.Contains(log, fmt.Sprint("lbs1.test: HTTP status ", status)) || strings.Contains(log, "words") {
				t.Errorf("updates %q, log %s", l.updates, log)
			}
		})
	}
}

// TestDiscoveryTTL tells when the second question comes.
func TestDiscoveryTTL(t *testing.T) {
	t.Parallel()
	for ttl, want := range map[string]time.Duration{
		"30": time.Minute, "1": time.Minute, "60": time.Minute,
		"61": 61 * time.Second, "3600": time.Hour, `"90"`: 90 * time.Second, "86400": 24 * time.Hour,
		"0": time.Minute, "-5": time.Minute, "86401": time.Minute, "9223372036854775807": time.Minute,
		"99999999999999999999": time.Minute, "90.5": time.Minute, "1e4": time.Minute, "null": time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			l.answer = always(`{"code":200,"data":{"default.endpoint":"https://a.test","ttl":` + ttl + `}}`)
			asked := l.runFor(t.Context(), want+1)
			if len(asked) != 2 || asked[1].at != want {
				t.Errorf("ttl %s: asked %v", ttl, asked)
			}
		})
	}
}

// TestDiscoveryFailedTTL checks that a failed talk is tried again soon, whatever the
// ttl of the answer before was.
func TestDiscoveryFailedTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.answer = func(q question) (int, string) {
			if q.n > 0 && q.n <= discoveryRounds {
				return http.StatusBadGateway, ""
			}
			return http.StatusOK, allocated("m", 3600, "https://a.test")
		}
		asked := l.runFor(t.Context(), time.Hour+2*time.Minute)
		if n := len(asked); n != discoveryRounds+2 || asked[n-1].at-asked[n-2].at != time.Minute {
			t.Errorf("asked %v", asked)
		}
	})
}

// TestDiscoveryUnchanged tells how the digest goes to and fro, that the ttl of an
// answer holds as long as the answer, and that no digest makes the questions long.
func TestDiscoveryUnchanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.answer = func(q question) (int, string) {
			switch q.n {
			case 0:
				return http.StatusOK, allocated("m&1", 90, "https://a.test")
			case 3:
				return http.StatusOK, allocated("m2", 30, "https://b.test")
			case 5:
				return http.StatusOK, allocated(strings.Repeat("m", maxDiscoveredText+1), 30, "https://b.test")
			case 6:
				return http.StatusOK, allocated("m3", 30, "https://b.test")
			default:
				return http.StatusOK, unchanged
			}
		}
		var got []string
		for _, q := range l.runFor(t.Context(), 9*time.Minute) {
			got = append(got, fmt.Sprintf("%v %s", q.at, q.query.Get("md5")))
		}
		if want := []string{"0s ", "1m30s m&1", "3m0s m&1", "4m30s m&1", "5m30s m2", "6m30s m2", "7m30s ", "8m30s m3"}; !slices.Equal(got, want) {
			t.Errorf("asked %q, want %q", got, want)
		}
		if want := []string{"https://a.test", "https://b.test"}; !slices.Equal(l.updates, want) {
			t.Errorf("updates %q", l.updates)
		}
		if strings.Contains(l.logged.String(), "WARN") || len(l.probes) != 4 {
			t.Errorf("%d probes, log %s", len(l.probes), &l.logged)
		}
	})
}

// TestDiscoveryLeftOut checks that an endpoint that did not live comes back: no
// digest is sent meanwhile, not even an older one, so nothing is called unchanged.
func TestDiscoveryLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.answer = func(q question) (int, string) {
			answer := allocated("m1", 30, "https://b.test")
			if q.n > 0 {
				answer = allocated("m2", 30, "https://a.test", "http://never.test", "https://b.test")
			}
			if md5 := q.query.Get("md5"); md5 != "" && strings.Contains(answer, md5) {
				answer = unchanged
			}
			return http.StatusOK, answer
		}
		l.alive = func(host string) bool { return host == "b.test" || time.Since(l.start) > 3*time.Minute }
		var digests []string
		for _, q := range l.runFor(t.Context(), 7*time.Minute) {
			digests = append(digests, q.query.Get("md5"))
		}
		if want := []string{"https://b.test", "https://a.test https://b.test"}; !slices.Equal(l.updates, want) {
			t.Errorf("updates %q", l.updates)
		}
		if want := []string{"", "m1", "", "", "m2", "m2", "m2"}; !slices.Equal(digests, want) {
			t.Errorf("digests %q", digests)
		}
	})
}

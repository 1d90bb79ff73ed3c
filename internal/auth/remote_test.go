package auth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A keyServer is a network in memory on which every URL has the same keys. It
// keeps to the clock of synctest.
type keyServer struct {
	mu     sync.Mutex
	start  time.Time
	answer func(*http.Request) (*http.Response, error)
	asked  []time.Duration // since the start
	logged bytes.Buffer
}

func newKeyServer(body []byte) *keyServer {
	s := &keyServer{start: time.Now()}
	s.serve(body)
	return s
}

func (s *keyServer) serve(body []byte) {
	s.do(func(*http.Request) (*http.Response, error) { return reply(http.StatusOK, bytes.NewReader(body)), nil })
}

func (s *keyServer) do(answer func(*http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func reply(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(body), Header: http.Header{"Location": {"https://evil.example/keys"}}}
}

// RoundTrip implements http.RoundTripper.
func (s *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	answer := s.answer
	s.asked = append(s.asked, time.Since(s.start))
	s.mu.Unlock()
	return answer(r)
}

// times returns when the server was asked, in seconds.
func (s *keyServer) times() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seconds []int
	for _, d := range s.asked {
		seconds = append(seconds, int(d/time.Second))
	}
	return seconds
}

func (s *keyServer) log() *slog.Logger { return slog.New(slog.NewTextHandler(&s.logged, nil)) }

func remoteDirectory(t testing.TB, urls ...string) *Directory {
	t.Helper()
	text := "callers:\n- {name: billing, scopes: [], apps: [main], jwt: [{issuer: https://idp.example, subject: svc-billing}]}\njwt:"
	for i, url := range urls {
		issuer := testIssuer
		if i > 0 {
			issuer = otherIssuer
		}
		text += "\n- {issuer: '" + issuer + "', audience: yunxin-facade, algorithms: [RS256, EdDSA], jwks_url: '" + url + "'}"
	}
	d, err := parse([]byte(text), testKnown, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const keyURL = "https://idp.example/keys"

// A remoteLab is an Authenticator whose issuer has a URL.
type remoteLab struct {
	*keyServer
	*Authenticator
}

func newRemoteLab(t *testing.T, s *keyServer) *remoteLab {
	t.Helper()
	return &remoteLab{keyServer: s, Authenticator: newTest(t, remoteDirectory(t, keyURL), Options{transport: s, Log: s.log()})}
}

// try reports whether a token that is signed with a key is good.
func (l *remoteLab) try(ctx context.Context, t *testing.T, id string) bool {
	t.Helper()
	f := goodToken()
	f.header["kid"], f.key = id, signers()["rsa"]
	if id == "rsa2" {
		f.key = signers()[id]
	}
	caller, err := l.Authenticate(ctx, Credentials{Authorization: []string{bearer + f.sign(t)}})
	want := BadCredential
	for _, v := range l.state.Load().verifiers {
		if !v.keys.known() {
			want = Unverified // until there are keys, nobody can tell
		}
	}
	if kind := kindIn(err); err != nil && kind != want || (caller == nil) == (err == nil) {
		t.Errorf("%v, %v", caller, err)
	}
	return err == nil
}

func (l *remoteLab) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (l *remoteLab) expectTimes(t *testing.T, want ...int) {
	t.Helper()
	got := l.times()
	if len(got) != len(want) {
		t.Fatalf("asked at %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("asked at %v, want %v", got, want)
		}
	}
}

func rsaOnly(t testing.TB) []byte  { t.Helper(); return setOf(t, jwkOf(t, "rsa")) }
func rsa2Only(t testing.TB) []byte { t.Helper(); return setOf(t, jwkOf(t, "rsa2")) }

func TestKeysAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRemoteLab(t, newKeyServer(rsaOnly(t)))
		if !l.try(t.Context(), t, "rsa") {
			t.Error("refused")
		}
		l.wait(11 * time.Minute)
		l.expectTimes(t, 0, 300, 600)
		l.serve(rsa2Only(t))
		l.wait(5 * time.Minute)
		if l.try(t.Context(), t, "rsa") {
			t.Error("a key that was taken back is good")
		}
	})
}

// The first tokens may come before the keys are there.
func TestFirstFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newKeyServer(nil)
		s.do(func(*http.Request) (*http.Response, error) {
			<-time.After(time.Second)
			return reply(http.StatusOK, bytes.NewReader(rsaOnly(t))), nil
		})
		l := newRemoteLab(t, s)
		if !l.try(t.Context(), t, "rsa") || time.Since(s.start) != time.Second {
			t.Errorf("after %s", time.Since(s.start))
		}
		l.wait(4 * time.Minute)
		l.expectTimes(t, 0)
	})
}

// A key that its issuer has just begun to use is there at once.
func TestUnknownKeyIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRemoteLab(t, newKeyServer(rsaOnly(t)))
		l.wait(100 * time.Second)
		l.serve(rsa2Only(t))
		if !l.try(t.Context(), t, "rsa2") || l.try(t.Context(), t, "rsa") {
			t.Error("the keys were not fetched")
		}
		l.expectTimes(t, 0, 100)
	})
}

func TestUnknownKeysAreFetchedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRemoteLab(t, newKeyServer(rsaOnly(t)))
		begin := time.Now()
		for range 600 {
			if l.try(t.Context(), t, "made-up") {
				t.Error("taken")
			}
			l.wait(100 * time.Millisecond)
		}
		if !l.try(t.Context(), t, "rsa") {
			t.Error("a good token was refused")
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("it took %s", took)
		}
		l.expectTimes(t, 0, 30, 60)
	})
}

// Whoever makes up keys must not keep calls waiting.
func TestWaitForKeysIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRemoteLab(t, newKeyServer(rsaOnly(t)))
		l.wait(time.Minute)
		l.do(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		begin := time.Now()
		var took [maxWaiting + 10]time.Duration
		var calls sync.WaitGroup
		for i := range took {
			calls.Go(func() {
				if l.try(t.Context(), t, "made-up") {
					t.Error("taken")
				}
				took[i] = time.Since(begin)
			})
		}
		synctest.Wait()
		if l.try(t.Context(), t, "made-up") || !l.try(t.Context(), t, "rsa") || time.Since(begin) > 0 {
			t.Error("calls wait that cannot or need not")
		}
		calls.Wait()
		waited := 0
		for _, d := range took {
			switch d {
			case keyWait:
				waited++
			case 0:
			default:
				t.Errorf("waited %s", d)
			}
		}
		if waited != maxWaiting {
			t.Errorf("%d calls waited", waited)
		}
		begin = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if l.try(ctx, t, "made-up") || time.Since(begin) != time.Second {
			t.Errorf("waited %s", time.Since(begin))
		}
	})
}

// Whatever happens to the URL, the keys that are there stay.
func TestKeysStay(t *testing.T) {
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){
		"unreachable": func(*http.Request) (*http.Response, error) { return nil, errors.New("unreachable") },
		"silent": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"slow body": func(r *http.Request) (*http.Response, error) {
			return reply(http.StatusOK, readerFunc(func([]byte) (int, error) {
				<-r.Context().Done()
				return 0, r.Context().Err()
			})), nil
		},
		"endless body": func(*http.Request) (*http.Response, error) {
			return reply(http.StatusOK, readerFunc(func(p []byte) (int, error) { return copy(p, " "), nil })), nil
		},
		"not found": func(*http.Request) (*http.Response, error) {
			return reply(http.StatusNotFound, bytes.NewReader(rsa2Only(t))), nil
		},
		"redirect": func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "evil.example" {
				return reply(http.StatusOK, bytes.NewReader(rsa2Only(t))), nil
			}
			return reply(http.StatusFound, http.NoBody), nil
		},
		"nonsense": func(*http.Request) (*http.Response, error) {
			return reply(http.StatusOK, strings.NewReader("<html>")), nil
		},
		"no keys": func(*http.Request) (*http.Response, error) {
			return reply(http.StatusOK, strings.NewReader(`{"keys":[]}`)), nil
		},
		"private": func(*http.Request) (*http.Response, error) {
			return reply(http.StatusOK, bytes.NewReader(setOf(t, jwkOf(t, "rsa2"), with(jwkOf(t, "ed"), "d", "AA")))), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newRemoteLab(t, newKeyServer(rsaOnly(t)))
				l.wait(time.Minute)
				l.do(answer)
				l.wait(10 * time.Minute)
				if !l.try(t.Context(), t, "rsa") || l.try(t.Context(), t, "rsa2") {
					t.Error("the keys have changed")
				}
				if n := len(l.times()); n < 10 || n > 15 {
					t.Errorf("asked %d times", n)
				}
				l.serve(rsa2Only(t))
				l.wait(time.Minute)
				if !l.try(t.Context(), t, "rsa2") {
					t.Error("the URL is not asked any more")
				}
				l.Close()
				log := l.logged.String()
				if strings.Count(log, "cannot be fetched") != 1 || strings.Count(log, "fetched again") != 1 || !strings.Contains(log, keyURL) {
					t.Error(log)
				}
			})
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Keys stay as long as a URL is in use, and no longer are they asked for.
func TestUseOfURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRemoteLab(t, newKeyServer(rsaOnly(t)))
		l.wait(time.Second)
		l.do(func(*http.Request) (*http.Response, error) { return nil, errors.New("unreachable") })
		l.Use(remoteDirectory(t, keyURL, keyURL)) // two issuers with one URL
		if !l.try(t.Context(), t, "rsa") {
			t.Error("the keys are lost")
		}
		l.expectTimes(t, 0)
		l.Use(remoteDirectory(t, "https://idp.example/others"))
		l.wait(time.Second)
		l.expectTimes(t, 0, 1)
		if l.try(t.Context(), t, "rsa") {
			t.Error("the keys of another URL are good")
		}
		l.Use(testDirectory(t))
		l.wait(time.Hour)
		l.expectTimes(t, 0, 1)
		l.serve(rsa2Only(t))
		l.Use(remoteDirectory(t, keyURL))
		if !l.try(t.Context(), t, "rsa2") {
			t.Error("refused")
		}
		l.Close()
		asked := len(l.times())
		if !l.try(t.Context(), t, "rsa2") {
			t.Error("refused after the end")
		}
		l.wait(time.Hour)
		if n := len(l.times()); n != asked {
			t.Errorf("asked %d times after the end", n-asked)
		}
	})
}

// The end does not wait for who does not answer.
func TestCloseWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newKeyServer(nil)
		s.do(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		a := New(remoteDirectory(t, keyURL), Options{transport: s, Log: s.log()})
		synctest.Wait()
		begin := time.Now()
		a.Close()
		if took := time.Since(begin); took != 0 || s.logged.Len() > 0 {
			t.Errorf("it took %s, and logged %s", took, s.logged.String())
		}
	})
}

func TestFetchOverTCP(t *testing.T) {
	body := rsaOnly(t)
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		good    bool
	}{
		"good": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }, true},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
				return
			}
			_, _ = w.Write(body)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			a := newTest(t, remoteDirectory(t, server.URL+"/keys"), Options{})
			_, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{bearer + goodToken().sign(t)}})
			if (err == nil) != c.good {
				t.Error(errors.Unwrap(err))
			}
		})
	}
}

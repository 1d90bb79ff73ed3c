package upstream

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

const newSecret, thirdSecret = "new-secret", "third-secret"

// A verifier is an upstream that checks signatures.
type verifier struct {
	refusal string // its answer to a bad signature
	answer  string // and to a good one; success if empty

	mu      sync.Mutex
	known   []string // secrets
	ahead   time.Duration
	seen    []string // the secret of each request
	traces  []string
	refused int
}

func (v *verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w.Header().Set("Date", testNow.Add(v.ahead).UTC().Format(http.TimeFormat))
	signer := ""
	for _, secret := range []string{testSecret, newSecret, thirdSecret} {
		sum := sha1.Sum([]byte(secret + r.Header.Get("Nonce") + r.Header.Get("CurTime")))
		if r.Header.Get("CheckSum") == hex.EncodeToString(sum[:]) {
			signer = secret
		}
	}
	v.seen = append(v.seen, signer)
	v.traces = append(v.traces, r.Header.Get("X-custom-traceid"))
	switch {
	case !slices.Contains(v.known, signer):
		v.refused++
		_, _ = w.Write([]byte(v.refusal))
	case v.answer != "":
		_, _ = w.Write([]byte(v.answer))
	default:
		_, _ = w.Write([]byte(`{"code":200,"data":{"id":"done"}}`))
	}
}

// learn changes what the upstream knows.
func (v *verifier) learn(secrets ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known = secrets
}

// reply changes the answer to what is signed well.
func (v *verifier) reply(answer string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer = answer
}

// take returns the secrets of the requests since it was last asked.
func (v *verifier) take() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer func() { v.seen, v.traces = nil, nil }()
	return strings.Join(v.seen, " ")
}

func (v *verifier) refusals() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refused
}

const badSignature, badParameter = `{"code":403,"msg":"signature"}`, `{"code":414,"msg":"parameter"}`

// TestSecretUnderLoad replaces the secret in every order while calls of all
// classes are made. None fails, and no more attempts are refused than are in
// progress when something changes.
func TestSecretUnderLoad(t *testing.T) {
	t.Parallel()
	ours := func(c client, _ *verifier) { c.SetSecret(newSecret) }
	theirs := func(secrets ...string) func(client, *verifier) {
		return func(_ client, v *verifier) { v.learn(secrets...) }
	}
	for name, steps := range map[string][]func(client, *verifier){
		"file first":            {ours, theirs(testSecret, newSecret), theirs(newSecret)},
		"file first, no bridge": {ours, theirs(newSecret)},
		"console first":         {theirs(testSecret, newSecret), ours, theirs(newSecret)},
		"taken back":            {ours, func(c client, _ *verifier) { c.SetSecret(testSecret) }},
	} {
		for _, refusal := range []string{badSignature, `{"code":414}`} {
			t.Run(name+refusal, func(t *testing.T) {
				t.Parallel()
				v := &verifier{refusal: refusal, known: []string{testSecret}}
				c := newClient(t, newServer(t, v.ServeHTTP).URL)
				const workers = 8
				l := newLoader(t, c, workers)
				for _, step := range steps {
					l.pass()
					step(c, v)
				}
				l.pass()
				before := v.refusals()
				l.pass()
				l.end()
				if after := v.refusals(); after != before {
					t.Errorf("%d more refusals though nothing changed", after-before)
				}
				if n := v.refusals(); n > workers*len(steps) {
					t.Errorf("%d refusals in %d calls", n, l.total())
				}
			})
		}
	}
}

// A loader makes calls without a pause.
type loader struct {
	done  []atomic.Int64 // by worker
	over  atomic.Bool
	group sync.WaitGroup
	moved chan struct{}
}

func newLoader(t *testing.T, c client, workers int) *loader {
	t.Helper()
	l := &loader{done: make([]atomic.Int64, workers), moved: make(chan struct{}, 1)}
	t.Cleanup(l.end)
	for i := range workers {
		l.group.Go(func() {
			for n := i; !l.over.Load(); n++ {
				method := []string{readThing, setThing, writeThing, removeThing}[n%4]
				if _, err := c.call(t.Context(), method); err != nil {
					t.Errorf("%s: %v", method, err)
				}
				l.done[i].Add(1)
				select {
				case l.moved <- struct{}{}:
				default:
				}
			}
		})
	}
	return l
}

// pass waits until all calls that are in progress have ended, and some more.
func (l *loader) pass() {
	goal := make([]int64, len(l.done))
	for i := range l.done {
		goal[i] = l.done[i].Load() + 3
	}
	for i := range l.done {
		for l.done[i].Load() < goal[i] {
			<-l.moved
		}
	}
}

func (l *loader) end() { l.over.Store(true); l.group.Wait() }

func (l *loader) total() (n int64) {
	for i := range l.done {
		n += l.done[i].Load()
	}
	return n
}

// TestSecretGrace tells how long the previous secret helps, and that one attempt
// at most is lost to each change.
func TestSecretGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &verifier{refusal: badSignature, known: []string{testSecret}}
		c := newPipeClient(t, v.ServeHTTP)
		call := func(want string) {
			t.Helper()
			_, err := c.call(t.Context(), writeThing)
			if got := v.take(); got != want || (err == nil) != slices.Contains(v.known, want[strings.LastIndexByte(want, ' ')+1:]) {
				t.Errorf("after %s: signed with %s, want %s: %v", time.Since(testStart), got, want, err)
			}
		}
		c.SetSecret(testSecret)
		call(testSecret)
		c.SetSecret(newSecret)
		call(newSecret + " " + testSecret)
		call(testSecret)
		<-time.After(10*time.Minute - 2)
		c.SetSecret(newSecret) // does not begin again
		call(testSecret)
		<-time.After(2)
		call(newSecret)
		v.learn(newSecret)
		c.SetSecret(thirdSecret)
		call(thirdSecret + " " + newSecret)
		v.learn(thirdSecret)
		call(newSecret + " " + thirdSecret)
		call(thirdSecret)
		c.SetSecret("")
		call(thirdSecret)
	})
}

// testStart is when tests in synthetic time begin.
var testStart = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// TestSecretRepetition tells what a repetition is and takes: the same operation,
// a token of the quota, nothing of the budget, and no time beyond.
func TestSecretRepetition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &verifier{refusal: badSignature, known: []string{testSecret}}
		c := newPipeClient(t, v.ServeHTTP, limited(1))
		c.attempts = maxAttempts
		c.SetSecret(newSecret)
		c.budget.saved = 0
		begin := time.Now()
		if _, err := c.call(WithCallInfo(t.Context(), CallInfo{TraceID: "trace"}), writeThing); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a token of one in a second was waited for %s", took)
		}
		if len(v.traces) != 2 || v.traces[0] != "trace" || v.traces[1] != "trace" {
			t.Errorf("trace ids %q", v.traces)
		}
		if c.budget.saved != budgetShare {
			t.Errorf("%v attempts are left", c.budget.saved)
		}
		v.take()
		v.answer = "cut"
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if e := c.fail(ctx, t, writeThing); e.Reason != apierror.Cancelled || v.take() != "" {
			t.Error(e)
		}
	})
}

// TestSecretIsNotToBlame checks that no other answer moves calls to the other
// secret, and whose answer the caller hears.
func TestSecretIsNotToBlame(t *testing.T) {
	t.Parallel()
	both := newSecret + " " + testSecret
	for name, tt := range map[string]struct {
		known  []string
		proven string // the secret of a call before
		answer string
		ahead  time.Duration
		want   string // the secrets of the call
		code   int64
	}{
		"bad parameter, both good":     {[]string{testSecret, newSecret}, newSecret, badParameter, 0, both, 414},
		"bad parameter, new one good":  {[]string{newSecret}, newSecret, badParameter, 0, both, 414},
		"bad parameter, nobody knows":  {[]string{testSecret}, "", badParameter, 0, both, 414},
		"forbidden":                    {[]string{newSecret}, newSecret, `{"code":403}`, 0, both, 403},
		"not there":                    {[]string{newSecret}, newSecret, `{"code":404}`, 0, newSecret, 404},
		"rate limit":                   {[]string{newSecret}, newSecret, `{"code":416}`, 0, newSecret, 416},
		"rate limit of the repetition": {[]string{testSecret}, "", `{"code":416}`, 0, both, 416},
		"neither known":                {nil, "", "", 0, both, 403},
		"clock":                        {nil, "", "", time.Hour, newSecret, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &verifier{refusal: badSignature, known: tt.known, ahead: tt.ahead}
			c := newClient(t, newServer(t, v.ServeHTTP).URL)
			c.SetSecret(newSecret)
			if tt.proven != "" {
				if _, err := c.call(t.Context(), setThing); err != nil || v.take() != tt.proven {
					t.Fatal(err)
				}
			}
			v.reply(tt.answer)
			e := c.fail(t.Context(), t, writeThing)
			if got := v.take(); got != tt.want || e.UpstreamCode != tt.code {
				t.Errorf("signed with %s: %v", got, e)
			}
			v.learn(testSecret, newSecret)
			v.reply("")
			v.ahead = 0
			if _, err := c.call(t.Context(), removeThing); err != nil || v.take() != newSecret {
				t.Errorf("the other secret is first: %v", err)
			}
		})
	}
}

// TestSecretDuringCall checks that a call which began under the old secret is not
// lost, even if the new one came after its attempt.
func TestSecretDuringCall(t *testing.T) {
	t.Parallel()
	v := &verifier{refusal: badSignature, known: []string{newSecret}}
	var c client
	var once sync.Once
	c = newClient(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { c.SetSecret(newSecret) })
		v.ServeHTTP(w, r)
	}).URL)
	if _, err := c.call(t.Context(), writeThing); err != nil || v.take() != testSecret+" "+newSecret {
		t.Error(err)
	}
}

// TestSecretIsNotTold checks that neither secret shows up in logs and errors.
func TestSecretIsNotTold(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	v := &verifier{refusal: badSignature, known: []string{testSecret}}
	c := newClient(t, newServer(t, v.ServeHTTP).URL, func(cfg *Config) {
		cfg.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c.SetSecret(newSecret)
	_, err := c.call(t.Context(), writeThing)
	v.learn()
	told := fmt.Sprintf("%v %+v", err, c.fail(t.Context(), t, writeThing))
	if told += logged.String(); strings.Contains(told, testSecret) || strings.Contains(told, newSecret) {
		t.Error(told)
	}
	if strings.Count(logged.String(), "tried first from now on") != 1 || !strings.Contains(logged.String(), "new_one=false") {
		t.Errorf("logged %s", logged.String())
	}
}

package attacks

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

// TestSecretsSwapped swaps secrets and certificates under traffic, and puts broken
// files in their place in between. No call and no stream fails for it, each is in
// force soon, and none of them, nor what the calls say, is in anything that the
// server lets out.
func TestSecretsSwapped(t *testing.T) {
	testmode.Beside(t)
	v := newVault(t)
	turns := v.turns()
	began := time.Now()
	slowest := map[string]time.Duration{}
	swaps := 0
	traffic := v.under(t, func() {
		due := time.NewTicker(scale(700*time.Millisecond, 5*time.Second))
		defer due.Stop()
		for !t.Failed() && (swaps < len(turns) || time.Since(began) < scale(6*time.Second, 2*time.Minute)) {
			<-due.C
			turn := turns[swaps%len(turns)]
			v.spoil(t, turn)
			v.provoke(t)
			took := turn.swap()
			if full() && took > inForce {
				t.Errorf("%s: in force after %v", turn.name, took)
			}
			slowest[turn.name] = max(slowest[turn.name], took)
			swaps++
		}
	})
	length := time.Since(began)
	v.stop()
	t.Logf("%v, %d swaps and as many broken files", length.Round(time.Millisecond), swaps)
	for _, name := range slices.Sorted(maps.Keys(slowest)) {
		t.Logf("in force at the latest after %v: %s", slowest[name].Round(time.Millisecond), name)
	}
	traffic.judge(t)
	v.talks.judge(t)
	v.judge(t, traffic.calls-traffic.failed)
}

// spoil puts what cannot be used in the place of what is next to be swapped: it
// stays in force, and the log says so.
func (v *vault) spoil(tb testing.TB, turn turn) {
	tb.Helper()
	info, err := os.Stat(v.log)
	if err != nil {
		tb.Fatal(err)
	}
	turn.spoil()
	v.await(tb, "the log of "+turn.name, func() error {
		text, err := os.ReadFile(v.log)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text[info.Size():])) {
			if strings.Contains(line, "what was read before stays in force") && strings.Contains(line, turn.file) {
				return nil
			}
		}
		return errors.New("it says nothing of a broken file")
	})
	if err := turn.good(); err != nil {
		tb.Errorf("%s: a broken file is in force: %v", turn.name, err)
	}
}

// provoke makes calls that are refused, for errors tell more than replies.
func (v *vault) provoke(tb testing.TB) {
	tb.Helper()
	key, token := v.key.now.value, v.issuers[0].token.now.value
	g, r := v.doors[0], v.doors[1]
	rest := func(target, body string, pairs ...string) error {
		return r.rest(tb, target, body, pairs...)
	}
	for what, err := range map[string]error{
		"another key":      g.grpc(tb, "alice|1|bob", "x-api-key", key[:len(key)-9]+"AAAAAAAAA"),
		"key twice":        g.grpc(tb, "alice|1|bob", "x-api-key", key, "authorization", "Bearer "+key),
		"key as an app":    g.grpc(tb, "alice|1|bob", "x-api-key", key, "x-yunxin-app", key),
		"bad id":           g.grpc(tb, "nonsense", "x-api-key", key),
		"key as a scheme":  rest(messages, "{}", "Authorization", key),
		"half a token":     rest(messages, "{}", "Authorization", "Bearer "+token[:len(token)-9]),
		"broken JSON":      rest(messages, `{"message":{"content":{"text":"`+v.marker, "Authorization", "Bearer "+token),
		"text in a list":   rest(messages, `{"message":{"content":{"text":["`+v.marker+`"]}}}`, "Authorization", "Bearer "+token),
		"a broken escape":  rest(messages, `{"message":{"content":{"text":"`+v.marker+`\x"}}}`, "Authorization", "Bearer "+token),
		"text twice":       rest(messages, `{"message":{"content":{"text":"`+v.marker+`","text":"`+v.marker+`"}}}`, "Authorization", "Bearer "+token),
		"text too long":    rest(messages, `{"message":{"content":{"text":"`+strings.Repeat(v.marker, 2000)+`"}}}`, "Authorization", "Bearer "+token),
		"key in the query": rest(messages+"?access_token="+key, "", "X-Api-Key", key+"A"),
	} {
		if err == nil {
			tb.Errorf("%s: not refused", what)
		}
	}
}

// judge looks for secrets in all that the server has let out.
func (v *vault) judge(t *testing.T, calls int) {
	t.Helper()
	planted := []byte("x" + v.key.now.value)
	for form, text := range map[string]string{
		"plain": string(planted), "hex": hex.EncodeToString(planted), "base64": base64.StdEncoding.EncodeToString(planted),
		"token": v.issuers[0].token.now.value, "text": `{"text":"` + v.marker + `"}`,
	} {
		if found, _, err := v.search.scan(strings.NewReader(strings.Repeat("-", 1<<20) + text)); err != nil || len(found) == 0 {
			t.Fatalf("the search does not find what was planted: %s (%v)", form, err)
		}
	}
	for _, output := range []struct {
		path  string
		lines int // at the least, or it is not the whole output
	}{
		{v.out, 1}, {v.log, calls}, {v.audit, calls}, {v.metrics, 100}, {v.replies, calls},
	} {
		file, err := os.Open(output.path)
		if err != nil {
			t.Fatal(err)
		}
		lines := &lineCount{}
		found, size, err := v.search.scan(io.TeeReader(file, lines))
		_ = file.Close()
		if err != nil || lines.n < output.lines {
			t.Errorf("%s has %d lines, want %d at least (%v)", filepath.Base(output.path), lines.n, output.lines, err)
		}
		for _, hit := range found[:min(len(found), 5)] {
			t.Errorf("%s: %s", filepath.Base(output.path), hit)
		}
		t.Logf("%s: %d bytes, %d lines, %d hits", filepath.Base(output.path), size, lines.n, len(found))
	}
	v.upstream.mu.Lock()
	defer v.upstream.mu.Unlock()
	if v.upstream.arrived < calls {
		t.Errorf("%d of %d calls arrived upstream", v.upstream.arrived, calls)
	}
	for name, app := range v.upstream.apps {
		t.Logf("AppKey %s: signed with the secret before %d, refused %d", name, app.byFormer, app.refused)
	}
}

// A lineCount counts lines.
type lineCount struct{ n int }

// Write implements io.Writer.
func (c *lineCount) Write(p []byte) (int, error) {
	c.n += strings.Count(string(p), "\n")
	return len(p), nil
}

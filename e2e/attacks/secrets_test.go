package attacks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A vault is a server in a process of its own, with all of its secrets and the
// callers who have credentials.
type vault struct {
	facade

	tb        testing.TB
	search    *search
	upstream  *signedUpstream
	authority *authority
	marker    string // in all texts of messages

	secrets      [2]store // of the apps
	callers, tls *volume
	issuer       folder
	key, token   shift[string]
	keyLine      string         // of the key, in the callers file
	publicKey    map[string]any // of the token, in the file of the issuer
	serial       string         // of the server's certificate

	doors       []*door
	replying    *sink
	close, stop func() // what calls the server; the server too

	out, log, audit, metrics, replies string // files
}

// TestSecretsSwapped swaps secrets and certificates under traffic, and puts broken
// files in their place in between. No call fails for it, each is in force soon, and
// none of them, nor what the calls say, is in anything that the server lets out.
func TestSecretsSwapped(t *testing.T) {
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
	v.judge(t, traffic.calls-traffic.failed)
}

// traffic is what became of the calls.
type traffic struct {
	mu            sync.Mutex
	calls, failed int
	took          []time.Duration
	late          time.Duration // that a call began at most
}

// add counts a call, and tells whether it failed and is to be shown.
func (c *traffic) add(late, took time.Duration, err error) (show bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.late, c.took = c.calls+1, max(c.late, late), append(c.took, took)
	if err == nil {
		return false
	}
	const shown = 5
	c.failed++
	return c.failed <= shown
}

func (c *traffic) judge(t *testing.T) {
	t.Helper()
	slices.Sort(c.took)
	t.Logf("%d calls, %d failed; p99 %v, begun at most %v late", c.calls, c.failed, p99(c.took), c.late)
}

// under calls at a steady rate, whatever becomes of the calls, until a deed is
// done.
func (v *vault) under(tb testing.TB, deed func()) *traffic {
	tb.Helper()
	done := make(chan struct{})
	c := &traffic{}
	var all sync.WaitGroup
	all.Go(func() { v.load(tb, done, &all, c) })
	defer all.Wait()
	defer close(done)
	deed()
	return c
}

// load begins calls until the deed is done, and counts how all of them end. In the
// short form a machine that stands still must not make an overload of them.
func (v *vault) load(tb testing.TB, done <-chan struct{}, all *sync.WaitGroup, c *traffic) {
	tb.Helper()
	room := make(chan struct{}, scale(8, 1000)) // the server takes a few more
	timer := time.NewTimer(0)
	defer timer.Stop()
	every := time.Second / scale[time.Duration](100, 500)
	begin := time.Now()
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(n) * every)
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-done:
			return
		}
		if full() && len(room) == cap(room) {
			tb.Errorf("call %d: %d others are not answered", n, len(room))
			return
		}
		select {
		case room <- struct{}{}: // without a wait, unless the machine stands still in the short form
		case <-done:
			return
		}
		all.Go(func() {
			late, started := time.Since(due), time.Now()
			err := v.doors[n%len(v.doors)].call(tb)
			<-room
			if c.add(late, time.Since(started), err) {
				tb.Errorf("call %d at %v: %v", n, time.Since(begin), err)
			}
		})
	}
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
	key, token := v.key.now.value, v.token.now.value
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
		"token": v.token.now.value, "text": `{"text":"` + v.marker + `"}`,
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

// A turn is something to be swapped.
type turn struct {
	name  string
	file  string               // that the log names
	spoil func()               // puts a broken one
	good  func() error         // whether the one before is in force
	swap  func() time.Duration // puts another one, and tells after what time it was in force
}

func (v *vault) turns() []turn {
	return []turn{
		v.secretTurn(0), v.keyTurn(), v.tokenTurn(), v.certificateTurn(), v.secretTurn(1),
	}
}

const certified = "spiffe://example/certified"

var apps = [2]string{"one", "two"}

func newVault(tb testing.TB) *vault {
	tb.Helper()
	dir := tb.TempDir()
	v := &vault{tb: tb, search: &search{}, marker: "words of " + rand.Text(), issuer: folder(tb.TempDir()), callers: newVolume(tb), tls: newVolume(tb)}
	v.out, v.log, v.audit = filepath.Join(dir, "stdout"), filepath.Join(dir, "stderr"), filepath.Join(dir, "audit")
	v.metrics, v.replies = filepath.Join(dir, "metrics"), filepath.Join(dir, "replies")
	v.search.addForms("text of a message", []byte(v.marker))
	v.authority, v.upstream = newAuthority(tb, v.search), newSignedUpstream(tb, v.search, v.marker)
	v.secrets = [2]store{folder(tb.TempDir()), newVolume(tb)}
	list := "apps:\n"
	for i, app := range apps {
		v.putSecret(tb, i)
		list += fmt.Sprintf("  - {name: %s, app_key: key-of-%s, app_secret_file: %q, endpoints: [%q], plan: unlimited}\n",
			app, app, v.secrets[i].path("secret"), v.upstream.URL+prefix)
	}
	folder(dir).put(tb, map[string]string{"apps.yaml": list})
	token, public := v.newToken(tb)
	v.token.replace(token)
	v.putIssuer(tb, public)
	v.publicKey = public
	key, line := v.newKey(tb)
	v.key.replace(key)
	v.putCallers(tb, line)
	v.keyLine = line
	v.putCertificate(tb)
	v.start(tb, "--apps-file="+filepath.Join(dir, "apps.yaml"), "--callers-file="+v.callers.path("callers.yaml"), "--audit-file="+v.audit,
		"--tls-cert-file="+v.tls.path("tls.crt"), "--tls-key-file="+v.tls.path("tls.key"), "--client-ca-file="+v.tls.path("ca.crt"))
	v.replying = newSink(tb, v.replies)
	v.open(tb)
	return v
}

func (v *vault) putSecret(tb testing.TB, i int) {
	tb.Helper()
	secret := rand.Text()
	v.search.addForms("an AppSecret", []byte(secret))
	v.upstream.replace("key-of-"+apps[i], secret)
	v.secrets[i].put(tb, map[string]string{"secret": secret + "\n"})
}

// newKey makes an API key and its line in the callers file.
func (v *vault) newKey(tb testing.TB) (key, line string) {
	tb.Helper()
	var id [4]byte
	var secret [32]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(secret[:])
	text := base64.RawURLEncoding.EncodeToString(secret[:])
	key = "yxf_" + hex.EncodeToString(id[:]) + "_" + text
	v.search.addForms("an API key", []byte(key))
	v.search.addForms("the secret part of an API key", []byte(text))
	v.search.addForms("the secret of an API key", secret[:])
	sum := sha256.Sum256([]byte(key))
	return key, fmt.Sprintf("{id: %x, sha256: %x}", id, sum)
}

func (v *vault) putCallers(tb testing.TB, lines ...string) {
	tb.Helper()
	v.callers.put(tb, map[string]string{"callers.yaml": fmt.Sprintf(`
callers:
  - {name: keys, keys: [%s], scopes: ["*"], apps: [one]}
  - {name: tokens, jwt: [{issuer: idp, subject: tokens}], scopes: ["*"], apps: [two]}
  - {name: certificates, certificates: [%q], scopes: ["*"], apps: [one, two]}
jwt:
  - {issuer: idp, audience: yunxin-facade, algorithms: [ES256], jwks_file: %q}
`, strings.Join(lines, ", "), certified, v.issuer.path("jwks.json"))})
}

// newToken makes a token and the key of its issuer.
func (v *vault) newToken(tb testing.TB) (token string, public map[string]any) {
	tb.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	point, err := own.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{
		Issuer: "idp", Subject: "tokens", Audience: jwt.ClaimStrings{"yunxin-facade"}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	})
	id := rand.Text()
	t.Header["kid"] = id
	if token, err = t.SignedString(own); err != nil {
		tb.Fatal(err)
	}
	signature := token[strings.LastIndexByte(token, '.')+1:]
	v.search.addForms("the signature of a token", []byte(signature))
	bare, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		tb.Fatal(err)
	}
	v.search.addForms("the bytes of a token's signature", bare)
	half, text := len(point)/2, base64.RawURLEncoding.EncodeToString
	return token, map[string]any{"kty": "EC", "kid": id, "crv": "P-256", "x": text(point[1 : 1+half]), "y": text(point[1+half:])}
}

func (v *vault) putIssuer(tb testing.TB, public ...map[string]any) {
	tb.Helper()
	text, err := json.Marshal(map[string]any{"keys": public})
	if err != nil {
		tb.Fatal(err)
	}
	v.issuer.put(tb, map[string]string{"jwks.json": string(text)})
}

func (v *vault) putCertificate(tb testing.TB) {
	tb.Helper()
	cert, key := v.authority.host(tb)
	block, _ := pem.Decode([]byte(cert))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	v.serial = leaf.SerialNumber.String()
	v.tls.put(tb, map[string]string{"tls.crt": cert, "tls.key": key, "ca.crt": v.authority.pem})
}

// secretTurn swaps an AppSecret, here and at the upstream.
func (v *vault) secretTurn(i int) turn {
	tb, files, app := v.tb, v.secrets[i], apps[i]
	good := func() error { return v.doors[2].grpc(tb, probing+"|1|bob", "x-yunxin-app", app) }
	return turn{
		"the AppSecret of app " + app, files.path("secret"),
		func() { files.put(tb, map[string]string{"secret": "\n"}) },
		good,
		func() time.Duration {
			v.putSecret(tb, i)
			took := v.await(tb, "the AppSecret", good)
			v.upstream.retire("key-of-" + app)
			return took
		},
	}
}

// keyTurn gives callers another API key, and takes the one before when nobody
// uses it any more.
func (v *vault) keyTurn() turn {
	tb := v.tb
	with := func(key string) func() error {
		return func() error { return v.doors[0].grpc(tb, "alice|1|bob", "x-api-key", key) }
	}
	return turn{
		"an API key", v.callers.path("callers.yaml"),
		func() { // the key itself, in a form that the errors of YAML repeat
			v.callers.put(tb, map[string]string{"callers.yaml": "callers:\n  - {name: keys, keys: [*" + v.key.now.value + "]}"})
		},
		func() error { return with(v.key.now.value)() },
		func() time.Duration {
			key, line := v.newKey(tb)
			v.putCallers(tb, v.keyLine, line)
			added := v.await(tb, "the key", with(key))
			former, over := v.key.replace(key)
			over()
			v.putCallers(tb, line)
			v.keyLine = line
			return max(added, v.await(tb, "the end of the key before", lockedOut(with(former))))
		},
	}
}

// tokenTurn does the same with the keys of the issuer of tokens.
func (v *vault) tokenTurn() turn {
	tb := v.tb
	with := func(token string) func() error {
		return func() error {
			return v.doors[1].rest(tb, messages, v.body(), "Authorization", "Bearer "+token)
		}
	}
	return turn{
		"the key of an issuer", v.issuer.path("jwks.json"),
		func() { v.issuer.put(tb, map[string]string{"jwks.json": `{"keys":[{"kty":"EC",`}) },
		func() error { return with(v.token.now.value)() },
		func() time.Duration {
			token, public := v.newToken(tb)
			v.putIssuer(tb, v.publicKey, public)
			added := v.await(tb, "the key of the issuer", with(token))
			former, over := v.token.replace(token)
			over()
			v.putIssuer(tb, public)
			v.publicKey = public
			return max(added, v.await(tb, "the end of the issuer's key before", lockedOut(with(former))))
		},
	}
}

// lockedOut wants a call to be refused for its credential.
func lockedOut(call func() error) func() error {
	return func() error {
		err := call()
		if status.Code(err) == codes.Unauthenticated || err != nil && strings.HasPrefix(err.Error(), "HTTP 401") {
			return nil
		}
		if err == nil {
			err = errors.New("let in")
		}
		return err
	}
}

// certificateTurn gives the server another certificate, which new connections of
// either door see.
func (v *vault) certificateTurn() turn {
	tb := v.tb
	shown := func() error {
		for _, addr := range []string{v.grpc, v.rest} {
			now, err := v.shown(tb, addr)
			if err != nil {
				return err
			}
			if now != v.serial {
				return fmt.Errorf("%s shows %s", addr, now)
			}
		}
		return nil
	}
	return turn{
		"the server's certificate", v.tls.path("tls.crt"),
		func() {
			cert, key := v.authority.host(tb)
			v.tls.put(tb, map[string]string{"tls.crt": cert[:len(cert)/2], "tls.key": key[:len(key)*2/3]})
		},
		shown,
		func() time.Duration {
			v.putCertificate(tb)
			return v.await(tb, "the certificate", shown)
		},
	}
}

// await waits until something is so, and returns after what time it was.
func (v *vault) await(tb testing.TB, what string, so func() error) time.Duration {
	tb.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := so()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			tb.Errorf("%s: not in %v: %v", what, patience, err)
			return patience
		}
		<-tick.C
	}
}

// shown returns the serial number of the certificate at an address.
func (v *vault) shown(tb testing.TB, addr string) (string, error) {
	tb.Helper()
	settings := v.authority.trust()
	settings.NextProtos = []string{"h2", "http/1.1"}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: settings}).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return "", fmt.Errorf("a connection of type %T", conn)
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

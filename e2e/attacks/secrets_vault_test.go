package attacks

import (
	"context"
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
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
	"github.com/yunxin-facade/yunxin-facade/internal/testca"
)

// A vault is a server in a process of its own, with all of its secrets and the
// callers who have credentials.
type vault struct {
	facade

	tb        testing.TB
	search    *search
	upstream  *signedUpstream
	authority *testca.Authority // of the server
	clients   *testca.Authority // of callers
	marker    string            // in all texts of messages

	secrets      [2]store // of the apps
	callers, tls *volume
	key          shift[string]
	keyLines     []string                        // of the callers file
	issuers      [2]*issuer                      // with a file, and with a URL
	certificate  atomic.Pointer[tls.Certificate] // that callers show
	serial       string                          // of the server's certificate

	doors       doors
	talks       *talks
	replying    *sink
	close, stop func() // what calls the server; the server too

	out, log, audit, metrics, replies string // files
}

const certifiedURI = "spiffe://example/certified"

var apps = [2]string{"one", "two"}

func newVault(tb testing.TB) *vault {
	tb.Helper()
	dir := tb.TempDir()
	v := &vault{tb: tb, search: &search{}, marker: "words of " + rand.Text(), callers: newVolume(tb), tls: newVolume(tb)}
	v.out, v.log, v.audit = filepath.Join(dir, "stdout"), filepath.Join(dir, "stderr"), filepath.Join(dir, "audit")
	v.metrics, v.replies = filepath.Join(dir, "metrics"), filepath.Join(dir, "replies")
	v.search.addForms("text of a message", []byte(v.marker))
	v.authority, v.clients, v.upstream = newAuthority(tb, v.search), newAuthority(tb, v.search), newSignedUpstream(tb, v.search, v.marker)
	v.secrets = [2]store{folder(tb.TempDir()), newVolume(tb)}
	list := "apps:\n"
	for i, app := range apps {
		v.putSecret(tb, i)
		list += fmt.Sprintf("  - {name: %s, app_key: key-of-%s, app_secret_file: %q, endpoints: [%q], plan: unlimited}\n",
			app, app, v.secrets[i].path("secret"), v.upstream.URL+prefix)
	}
	folder(dir).put(tb, map[string]string{"apps.yaml": list})
	key, line := v.newKey(tb)
	v.key.replace(key)
	v.issuers = [2]*issuer{newIssuer(tb, "file", false), newIssuer(tb, "url", true)}
	for _, i := range v.issuers {
		token, public := v.newToken(tb, i)
		i.token.replace(token)
		i.public = public
		i.publish(tb, public)
	}
	v.putCallers(tb, line)
	v.tls.put(tb, map[string]string{"ca.crt": v.clients.PEM})
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

func (v *vault) putCallers(tb testing.TB, keys ...string) {
	tb.Helper()
	v.keyLines = keys
	file, url := v.issuers[0], v.issuers[1]
	v.callers.put(tb, map[string]string{"callers.yaml": fmt.Sprintf(`
callers:
  - {name: keys, keys: [%s], scopes: ["*"], apps: [one]}
  - {name: tokens, jwt: [{issuer: file, subject: tokens}, {issuer: url, subject: tokens}], scopes: ["*"], apps: [two]}
  - {name: certificates, certificates: [%q], scopes: ["*"], apps: [one, two]}
jwt:
  - {issuer: file, audience: yunxin-facade, algorithms: [ES256], jwks_file: %q}
  - {issuer: url, audience: yunxin-facade, algorithms: [ES256], jwks_url: %q}
`, strings.Join(keys, ", "), certifiedURI, file.path("jwks.json"), url.url())})
}

// newToken makes a token and the key of its issuer.
func (v *vault) newToken(tb testing.TB, i *issuer) (token string, public map[string]any) {
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
		Issuer: i.name, Subject: "tokens", Audience: jwt.ClaimStrings{"yunxin-facade"}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
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

// An issuer makes tokens. Their public keys are in a file, or at a URL.
type issuer struct {
	folder

	name   string
	token  shift[string]
	public map[string]any // key of the token

	server *httptest.Server // nil with a file
	keys   atomic.Pointer[[]byte]
	moved  int // times that the keys got another URL
}

func newIssuer(tb testing.TB, name string, remote bool) *issuer {
	tb.Helper()
	i := &issuer{folder: folder(tb.TempDir()), name: name}
	if remote {
		i.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*i.keys.Load()) }))
		tb.Cleanup(i.server.Close)
	}
	return i
}

func (i *issuer) url() string { return fmt.Sprintf("%s/%d", i.server.URL, i.moved) }

func (i *issuer) publish(tb testing.TB, public ...map[string]any) {
	tb.Helper()
	text, err := json.Marshal(map[string]any{"keys": public})
	if err != nil {
		tb.Fatal(err)
	}
	if i.server != nil {
		i.keys.Store(&text)
		return
	}
	i.put(tb, map[string]string{"jwks.json": string(text)})
}

func (v *vault) putCertificate(tb testing.TB) {
	tb.Helper()
	cert, key := v.authority.Host(tb)
	block, _ := pem.Decode([]byte(cert))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	v.serial = leaf.SerialNumber.String()
	v.tls.put(tb, map[string]string{"tls.crt": cert, "tls.key": key})
}

// start starts the server, which the test stops.
func (v *vault) start(tb testing.TB, args ...string) {
	tb.Helper()
	args = append([]string{
		"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
		"--log-level=debug", "--log-format=json", "--no-share-reads", "--drain-timeout=2s",
	}, args...)
	process := exec.Command(buildServer(tb), args...) //nolint:noctx // stopped below
	out, err := os.Create(v.out)
	if err != nil {
		tb.Fatal(err)
	}
	log, err := os.Create(v.log)
	if err != nil {
		tb.Fatal(err)
	}
	process.Stdout, process.Stderr = out, log
	if err := process.Start(); err != nil {
		tb.Fatal(err)
	}
	v.close = func() {}
	v.stop = sync.OnceFunc(func() {
		v.close()
		_ = process.Process.Signal(syscall.SIGTERM)
		err := process.Wait()
		if err = errors.Join(err, out.Close(), log.Close()); err != nil {
			tb.Errorf("the server did not stop by itself: %v", err)
		}
	})
	tb.Cleanup(v.stop)
	v.await(tb, "the banner", func() error {
		banner, err := os.ReadFile(v.out)
		doors, ok := harness.Listening(string(banner))
		if err != nil || !ok {
			return fmt.Errorf("no addresses in %q: %w", banner, err)
		}
		v.facade = facadeAt(doors)
		return nil
	})
}

// open opens the doors: gRPC and REST, with a key or a token and with certificates.
func (v *vault) open(tb testing.TB) {
	tb.Helper()
	certificate := v.clients.Client(tb, certifiedURI)
	v.certificate.Store(&certificate)
	plain, certified := v.authority.Trust(), v.authority.Trust()
	certified.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return v.certificate.Load(), nil }
	const bearer = "Bearer "
	v.doors = doors{
		{settings: plain, header: "x-api-key", credential: &v.key},
		{settings: plain, header: "authorization", scheme: bearer, credential: &v.issuers[0].token, isREST: true},
		{settings: certified},
		{settings: certified, isREST: true},
		{settings: plain, header: "authorization", scheme: bearer, credential: &v.issuers[1].token},
	}
	for _, d := range v.doors {
		d.vault = v
		d.calls.replace(struct{}{})
		d.reopen(tb)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { v.watchMetrics(ctx, tb) })
	v.talks = v.talk(tb)
	v.close = func() {
		v.talks.end()
		cancel()
		watching.Wait()
		v.doors.shut()
	}
}

// watchMetrics keeps what the admin page shows, every second.
func (v *vault) watchMetrics(ctx context.Context, tb testing.TB) {
	tb.Helper()
	pages := newSink(tb, v.metrics)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		request, _ := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, "http://"+v.admin+"/metrics", http.NoBody)
		response, err := client.Do(request)
		if err == nil {
			var dump []byte
			dump, err = httputil.DumpResponse(response, true)
			_ = response.Body.Close()
			pages.keep(dump)
		}
		if err != nil {
			tb.Errorf("the metrics: %v", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

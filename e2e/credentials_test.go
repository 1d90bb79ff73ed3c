package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
)

// headers are what a caller sends with each call, on either door.
type headers map[string]string

// as returns the service as it is to a caller who sends these headers.
func (f *facade) as(tb testing.TB, h headers) *facade {
	tb.Helper()
	with := func(ctx context.Context) context.Context { return metadata.NewOutgoingContext(ctx, metadata.New(h)) }
	conn, err := grpc.NewClient(f.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return invoke(with(ctx), method, req, reply, c, o...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, c *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(with(ctx), desc, c, method, o...)
		}))
	if err != nil {
		tb.Fatal(err)
	}
	other := &facade{grpcAddr: f.grpcAddr, restURL: f.restURL, conn: conn, client: &http.Client{Transport: sender{f.client.Transport, h}}}
	tb.Cleanup(func() { _ = conn.Close() })
	return other
}

// sender adds headers to REST calls.
type sender struct {
	http.RoundTripper

	headers headers
}

func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range s.headers {
		r.Header.Set(name, value)
	}
	return s.RoundTripper.RoundTrip(r)
}

// An issuer signs tokens.
type issuer struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

const issuerName, audience = "https://idp.example", "yunxin-facade"

func newIssuer(tb testing.TB) issuer {
	tb.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return issuer{r, e}
}

func (i issuer) jwks() map[string]any {
	text := base64.RawURLEncoding.EncodeToString
	point, _ := i.ec.PublicKey.Bytes() // of a curve that has such bytes
	half := len(point) / 2
	return map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "r", "n": text(i.rsa.N.Bytes()), "e": text(big.NewInt(int64(i.rsa.E)).Bytes())},
		{"kty": "EC", "kid": "e", "crv": "P-256", "x": text(point[1 : 1+half]), "y": text(point[1+half:])},
	}}
}

// token signs a token for a subject.
func (i issuer) token(tb testing.TB, method jwt.SigningMethod, kid string, key any, subject, audience string, expires time.Time) headers {
	tb.Helper()
	t := jwt.NewWithClaims(method, jwt.RegisteredClaims{
		Issuer: issuerName, Subject: subject, Audience: jwt.ClaimStrings{audience}, ExpiresAt: jwt.NewNumericDate(expires),
	})
	t.Header["kid"] = kid
	signed, err := t.SignedString(key)
	if err != nil {
		tb.Fatal(err)
	}
	return headers{"authorization": "Bearer " + signed}
}

// newKey makes an API key, and its line in the callers file.
func newKey(tb testing.TB, id, expires string) (key, line string) {
	tb.Helper()
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	key = "yxf_" + id + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(key))
	return key, fmt.Sprintf("keys: [{id: %s, sha256: %s, expires: %s}]", id, hex.EncodeToString(sum[:]), expires)
}

// twoCallers returns the keys of two callers, and the argument for a server that
// knows them; each may do what its line says.
func twoCallers(tb testing.TB, first, second string) (keys [2]string, arg string) {
	tb.Helper()
	file := "callers:\n"
	for i, rights := range []string{first, second} {
		key, line := newKey(tb, fmt.Sprintf("0000000%d", i+1), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		file += fmt.Sprintf("  - {name: caller%d, %s, %s}\n", i+1, line, rights)
		keys[i] = key
	}
	return keys, "--callers-file=" + writeFile(tb, "callers.yaml", file)
}

func writeFile(tb testing.TB, name, content string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// credentials are what callers show, by what is the matter with it.
type credentials struct {
	good map[string]headers
	bad  map[string]struct {
		headers
		want wantError
	}
}

// guarded starts the service for two apps of one upstream, with callers.
func guarded(t *testing.T) (*rig, credentials) {
	t.Helper()
	i := newIssuer(t)
	keys, err := json.Marshal(i.jwks())
	if err != nil {
		t.Fatal(err)
	}
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	good, goodLine := newKey(t, "00000001", later.UTC().Format(time.RFC3339))
	old, oldLine := newKey(t, "00000002", before.UTC().Format(time.RFC3339))
	other, otherLine := newKey(t, "00000003", later.UTC().Format(time.RFC3339))
	bound, boundLine := newKey(t, "00000004", later.UTC().Format(time.RFC3339))
	stranger, _ := newKey(t, "00000005", "")
	forged := good[:len(good)-1] + map[bool]string{true: "A", false: "E"}[strings.HasSuffix(good, "E")]
	callers := writeFile(t, "callers.yaml", fmt.Sprintf(`
callers:
  - {name: good, %s, jwt: [{issuer: %q, subject: good}], scopes: ["*"], apps: [one]}
  - {name: old, %s, scopes: ["*"], apps: [one]}
  - {name: other, %s, scopes: [], apps: [one]}
  - {name: bound, %s, scopes: ["*"], apps: [one], accounts: [nobody-else]}
jwt:
  - {issuer: %q, audience: %s, algorithms: [RS256], jwks_file: %q}
`, goodLine, issuerName, oldLine, otherLine, boundLine, issuerName, audience, writeFile(t, "jwks.json", string(keys))))
	r := newRecorder(t)
	secret := writeFile(t, "secret", harness.AppSecret)
	apps := writeFile(t, "apps.yaml", fmt.Sprintf(`
apps:
  - {name: one, app_key: %s, app_secret_file: %q, endpoints: [%q], plan: unlimited}
  - {name: two, app_key: %s-two, app_secret_file: %q, endpoints: [%q], plan: unlimited}
`, harness.AppKey, secret, r.URL+prefix, harness.AppKey, secret, r.URL+prefix))
	public := base64.StdEncoding.EncodeToString(i.rsa.N.Bytes())
	refused := func(code, reason string) wantError { return wantError{Code: code, Reason: reason} }
	missing := refused("UNAUTHENTICATED", "CREDENTIAL_MISSING")
	invalid := refused("UNAUTHENTICATED", "CREDENTIAL_INVALID")
	expired := refused("UNAUTHENTICATED", "CREDENTIAL_EXPIRED")
	c := credentials{
		good: map[string]headers{
			"key as a bearer": {"authorization": "Bearer " + good},
			"key":             {"x-api-key": good},
			"token":           i.token(t, jwt.SigningMethodRS256, "r", i.rsa, "good", audience, later),
			"key, own app":    {"x-api-key": good, "x-yunxin-app": "one"},
		},
		bad: map[string]struct {
			headers
			want wantError
		}{
			"none":                    {headers{}, missing},
			"unknown key":             {headers{"x-api-key": stranger}, invalid},
			"forged key":              {headers{"x-api-key": forged}, invalid},
			"expired key":             {headers{"x-api-key": old}, expired},
			"two at once":             {headers{"x-api-key": good, "authorization": "Bearer " + good}, invalid},
			"expired token":           {i.token(t, jwt.SigningMethodRS256, "r", i.rsa, "good", audience, before), expired},
			"other audience":          {i.token(t, jwt.SigningMethodRS256, "r", i.rsa, "good", "another", later), invalid},
			"other subject":           {i.token(t, jwt.SigningMethodRS256, "r", i.rsa, "nobody", audience, later), invalid},
			"other algorithm":         {i.token(t, jwt.SigningMethodES256, "e", i.ec, "good", audience, later), invalid},
			"algorithm of the same":   {i.token(t, jwt.SigningMethodPS256, "r", i.rsa, "good", audience, later), invalid},
			"public key as a secret":  {i.token(t, jwt.SigningMethodHS256, "r", []byte(public), "good", audience, later), invalid},
			"no algorithm":            {i.token(t, jwt.SigningMethodNone, "r", jwt.UnsafeAllowNoneSignatureType, "good", audience, later), invalid},
			"other app":               {headers{"x-api-key": good, "x-yunxin-app": "two"}, refused("PERMISSION_DENIED", "APP_DENIED")},
			"no such app":             {headers{"x-api-key": good, "x-yunxin-app": "three"}, refused("PERMISSION_DENIED", "APP_DENIED")},
			"other scope":             {headers{"x-api-key": other}, refused("PERMISSION_DENIED", "SCOPE_DENIED")},
			"other account":           {headers{"x-api-key": bound}, refused("PERMISSION_DENIED", "ACCOUNT_DENIED")},
			"claims to be somebody":   {headers{"x-yunxin-caller": "good", "x-rest-caller": "good"}, missing},
			"credential of a browser": {headers{"cookie": "x-api-key=" + good}, missing},
		},
	}
	return &rig{recorder: r, facade: startFacade(t, "--apps-file="+apps, "--callers-file="+callers)}, c
}

// TestCredentials calls every RPC with every credential over both doors: only the
// right ones get through, and whoever does not has sent nothing to the upstream.
func TestCredentials(t *testing.T) {
	r, c := guarded(t)
	vectors := loadVectors(t)
	for name, h := range c.good {
		caller := &rig{recorder: r.recorder, facade: r.as(t, h)}
		for _, v := range vectors {
			for _, door := range doorNames {
				t.Run(name+"/"+v.RPC+"/"+door, func(t *testing.T) { v.check(t, caller, door, "v2") })
			}
		}
	}
	for name, h := range c.bad {
		caller := &rig{recorder: r.recorder, facade: r.as(t, h.headers)}
		for _, v := range vectors {
			for _, door := range doorNames {
				t.Run(name+"/"+v.RPC+"/"+door, func(t *testing.T) {
					caller.answerInTurn(nil)
					o := v.call(t, caller, door)
					want := h.want
					if o.status != nil {
						want.Fields = o.fields() // ACCOUNT_DENIED names one
					}
					if o.status == nil {
						t.Fatalf("let in: %v", o)
					}
					if err := want.verify(o); err != nil {
						t.Error(err)
					}
					if sent := caller.take(); len(sent) != 0 {
						t.Errorf("the upstream got %d requests", len(sent))
					}
				})
			}
		}
	}
}

package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// testNow is when the tests of this package happen.
var testNow = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

const (
	testIssuer  = "https://idp.example"
	otherIssuer = "https://other.example"
)

// A forger makes tokens of any kind. It starts from one that is good.
type forger struct {
	header, claims map[string]any
	key            any    // that golang-jwt takes, or nil for no signature
	alg            string // that is signed with; that of the header if empty
	rawHeader      string // instead of header
	rawClaims      string // instead of claims
}

func goodToken() *forger {
	return &forger{
		header: map[string]any{"alg": "RS256", "kid": "rsa", "typ": "JWT"},
		claims: map[string]any{"iss": testIssuer, "sub": "svc-billing", "aud": "yunxin-facade", "exp": testNow.Unix() + 60},
		key:    signers()["rsa"],
	}
}

func (f *forger) sign(t testing.TB) string {
	t.Helper()
	part := func(raw string, members map[string]any) string {
		if raw == "" {
			data, err := json.Marshal(members)
			if err != nil {
				t.Fatal(err)
			}
			raw = string(data)
		}
		return b64([]byte(raw))
	}
	text := part(f.rawHeader, f.header) + "." + part(f.rawClaims, f.claims)
	if f.key == nil {
		return text + "."
	}
	if f.alg == "" {
		f.alg = fmt.Sprint(f.header["alg"])
	}
	signature, err := jwt.GetSigningMethod(f.alg).Sign(text, f.key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(signature)
}

// testDirectory has two issuers. They know a caller each by the same subject, and
// have different keys by the same id; the other one takes ES256 only.
func testDirectory(t testing.TB) *Directory {
	t.Helper()
	files := map[string][]byte{
		"idp":   testSet(t),
		"other": setOf(t, with(jwkOf(t, "rsa2"), "kid", "rsa"), jwkOf(t, "ec256")),
	}
	d, err := parse([]byte(`
callers:
- name: billing
  scopes: ["*"]
  apps: [main]
  jwt: [{issuer: https://idp.example, subject: svc-billing}]
  certificates: [spiffe://example/billing, billing.internal]
- {name: other, scopes: [], apps: [main], jwt: [{issuer: https://other.example, subject: svc-billing}], certificates: [other.internal]}
- name: late
  scopes: []
  apps: [main]
  jwt: [{issuer: https://idp.example, subject: svc-late}]
  certificates: [late.internal]
  expires: 2026-12-01T12:00:00Z
jwt:
- {issuer: https://idp.example, audience: yunxin-facade, algorithms: [RS256, PS256, ES256, ES384, ES512, EdDSA], jwks_file: idp}
- {issuer: https://other.example, audience: other-audience, algorithms: [ES256], jwks_file: other}
`), testKnown, func(path string, _ int64) ([]byte, error) { return files[path], nil })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newTest(t testing.TB, d *Directory, o Options) *Authenticator {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return testNow }
	}
	a := New(d, o)
	t.Cleanup(a.Close)
	return a
}

// kindIn returns the kind of an error, and 0 for none.
func kindIn(err error) Kind {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return -1
}

func TestTokens(t *testing.T) {
	a := newTest(t, testDirectory(t), Options{})
	now := testNow.Unix()
	for name, c := range map[string]struct {
		change func(*forger)
		want   Kind
	}{
		"good":         {func(*forger) {}, 0},
		"no typ":       {func(f *forger) { delete(f.header, "typ") }, 0},
		"other claims": {func(f *forger) { f.claims["jti"], f.claims["scope"] = 5, "*" }, 0},
		"PS256":        {func(f *forger) { f.header["alg"] = "PS256" }, 0},
		"PS256 of ps":  {func(f *forger) { f.header["alg"], f.header["kid"], f.key = "PS256", "ps", signers()["ps"] }, 0},
		"ES256":        {func(f *forger) { f.header["alg"], f.header["kid"], f.key = "ES256", "ec256", signers()["ec256"] }, 0},
		"ES384":        {func(f *forger) { f.header["alg"], f.header["kid"], f.key = "ES384", "ec384", signers()["ec384"] }, 0},
		"ES512":        {func(f *forger) { f.header["alg"], f.header["kid"], f.key = "ES512", "ec521", signers()["ec521"] }, 0},
		"EdDSA":        {func(f *forger) { f.header["alg"], f.header["kid"], f.key = "EdDSA", "ed", signers()["ed"] }, 0},

		"forged":             {func(f *forger) { f.key = signers()["rsa2"] }, BadCredential},
		"none":               {func(f *forger) { f.header["alg"], f.key = "none", jwt.UnsafeAllowNoneSignatureType }, BadCredential},
		"none, no signature": {func(f *forger) { f.header["alg"], f.key = "none", nil }, BadCredential},
		"None":               {func(f *forger) { f.header["alg"], f.key = "None", nil }, BadCredential},
		"no signature":       {func(f *forger) { f.key = nil }, BadCredential},
		"HS256 with PEM":     {func(f *forger) { f.header["alg"], f.key = "HS256", publicPEM(t, "rsa") }, BadCredential},
		"HS256 with DER":     {func(f *forger) { f.header["alg"], f.key = "HS256", publicDER(t, "rsa") }, BadCredential},
		"HS512 with x":       {func(f *forger) { f.header["alg"], f.header["kid"], f.key = "HS512", "ed", []byte(edKey(t)) }, BadCredential},
		"HS256 said RS256":   {func(f *forger) { f.alg, f.key = "HS256", publicPEM(t, "rsa") }, BadCredential},
		"RS384 not accepted": {func(f *forger) { f.header["alg"] = "RS384" }, BadCredential},
		"RS256 with ps":      {func(f *forger) { f.header["kid"], f.key = "ps", signers()["ps"] }, BadCredential},
		"RS256 with EC key":  {func(f *forger) { f.header["kid"] = "ec256" }, BadCredential},
		"ES256 with RSA key": {func(f *forger) { f.header["alg"], f.key = "ES256", signers()["ec256"] }, BadCredential},
		"ES256 with P-384": {func(f *forger) {
			f.header["alg"], f.header["kid"], f.key, f.alg = "ES256", "ec384", signers()["ec384"], "ES384"
		}, BadCredential},
		"EdDSA with EC key": {func(f *forger) { f.header["alg"], f.header["kid"], f.key = "EdDSA", "ec256", signers()["ed"] }, BadCredential},

		"no kid":           {func(f *forger) { delete(f.header, "kid") }, BadCredential},
		"empty kid":        {func(f *forger) { f.header["kid"] = "" }, BadCredential},
		"unknown kid":      {func(f *forger) { f.header["kid"] = "rsa2" }, BadCredential},
		"kid as number":    {func(f *forger) { f.header["kid"] = 1 }, BadCredential},
		"kid as list":      {func(f *forger) { f.header["kid"] = []string{"rsa"} }, BadCredential},
		"kid as path":      {func(f *forger) { f.header["kid"], f.key = "/dev/null", []byte{}; f.header["alg"] = "HS256" }, BadCredential},
		"key inside":       {func(f *forger) { f.header["jwk"], f.key = jwkOf(t, "rsa2"), signers()["rsa2"] }, BadCredential},
		"key elsewhere":    {func(f *forger) { f.header["jku"], f.key = "https://evil.example", signers()["rsa2"] }, BadCredential},
		"crit":             {func(f *forger) { f.header["crit"] = []string{"exp"} }, BadCredential},
		"b64":              {func(f *forger) { f.header["crit"], f.header["b64"] = []string{"b64"}, false }, BadCredential},
		"crit null":        {func(f *forger) { f.header["crit"] = nil }, BadCredential},
		"no alg":           {func(f *forger) { delete(f.header, "alg"); f.alg = "RS256" }, BadCredential},
		"alg as number":    {func(f *forger) { f.header["alg"] = 256; f.alg = "RS256" }, BadCredential},
		"header as list":   {func(f *forger) { f.rawHeader = "[]" }, BadCredential},
		"header as null":   {func(f *forger) { f.rawHeader = "null" }, BadCredential},
		"header not JSON":  {func(f *forger) { f.rawHeader = "{" }, BadCredential},
		"claims as list":   {func(f *forger) { f.rawClaims = "[]" }, BadCredential},
		"claims as null":   {func(f *forger) { f.rawClaims = "null" }, BadCredential},
		"claims not JSON":  {func(f *forger) { f.rawClaims = "{" }, BadCredential},
		"more than claims": {func(f *forger) { f.rawClaims = "{} {}" }, BadCredential},

		"other issuer, same kid": {func(f *forger) { f.claims["iss"] = otherIssuer }, BadCredential},
		"other issuer's key":     {func(f *forger) { f.key = signers()["rsa2"] }, BadCredential},
		"other issuer's own key": {func(f *forger) {
			f.claims["iss"], f.claims["aud"], f.key = otherIssuer, "other-audience", signers()["rsa2"]
		}, BadCredential},
		"unknown issuer":          {func(f *forger) { f.claims["iss"] = testIssuer + "/" }, BadCredential},
		"issuer in capitals":      {func(f *forger) { f.claims["iss"] = strings.ToUpper(testIssuer) }, BadCredential},
		"no issuer":               {func(f *forger) { delete(f.claims, "iss") }, BadCredential},
		"issuer null":             {func(f *forger) { f.claims["iss"] = nil }, BadCredential},
		"issuer as list":          {func(f *forger) { f.claims["iss"] = []string{testIssuer} }, BadCredential},
		"audience in a list":      {func(f *forger) { f.claims["aud"] = []string{"x", "yunxin-facade"} }, 0},
		"wrong audience":          {func(f *forger) { f.claims["aud"] = "yunxin" }, BadCredential},
		"other issuer's audience": {func(f *forger) { f.claims["aud"] = "other-audience" }, BadCredential},
		"wrong audiences":         {func(f *forger) { f.claims["aud"] = []string{"x", "yunxin-facade2"} }, BadCredential},
		"no audience":             {func(f *forger) { delete(f.claims, "aud") }, BadCredential},
		"empty audience":          {func(f *forger) { f.claims["aud"] = "" }, BadCredential},
		"no audiences":            {func(f *forger) { f.claims["aud"] = []string{} }, BadCredential},
		"audience null":           {func(f *forger) { f.claims["aud"] = nil }, BadCredential},
		"audience as number":      {func(f *forger) { f.claims["aud"] = 1 }, BadCredential},
		"audience in an object":   {func(f *forger) { f.claims["aud"] = map[string]any{"yunxin-facade": 1} }, BadCredential},
		"unknown subject":         {func(f *forger) { f.claims["sub"] = "svc-billing2" }, BadCredential},
		"no subject":              {func(f *forger) { delete(f.claims, "sub") }, BadCredential},
		"empty subject":           {func(f *forger) { f.claims["sub"] = "" }, BadCredential},
		"subject as number":       {func(f *forger) { f.claims["sub"] = 1 }, BadCredential},
		"caller expired":          {func(f *forger) { f.claims["sub"] = "svc-late" }, Expired},

		"last moment":        {func(f *forger) { f.claims["exp"] = now - 29 }, 0},
		"expired":            {func(f *forger) { f.claims["exp"] = now - 30 }, Expired},
		"expired long ago":   {func(f *forger) { f.claims["exp"] = 0 }, Expired},
		"expired, forged":    {func(f *forger) { f.claims["exp"], f.key = now-99, signers()["rsa2"] }, BadCredential},
		"expired, audience":  {func(f *forger) { f.claims["exp"], f.claims["aud"] = now-99, "x" }, BadCredential},
		"expired, nobody's":  {func(f *forger) { f.claims["exp"] = now - 99; delete(f.claims, "aud") }, BadCredential},
		"expired, not yet":   {func(f *forger) { f.claims["exp"], f.claims["nbf"] = now-99, now+99 }, BadCredential},
		"expired, early":     {func(f *forger) { f.claims["exp"], f.claims["iat"] = now-99, now+99 }, BadCredential},
		"expired, a caller":  {func(f *forger) { f.claims["exp"], f.claims["sub"] = now-99, "x" }, Expired},
		"no exp":             {func(f *forger) { delete(f.claims, "exp") }, BadCredential},
		"exp null":           {func(f *forger) { f.claims["exp"] = nil }, BadCredential},
		"exp as text":        {func(f *forger) { f.claims["exp"] = fmt.Sprint(now + 60) }, BadCredential},
		"exp as list":        {func(f *forger) { f.claims["exp"] = []int64{now + 60} }, BadCredential},
		"exp with decimals":  {func(f *forger) { f.claims["exp"] = float64(now) + 0.5 }, 0},
		"exp far":            {func(f *forger) { f.claims["exp"] = int64(lastDate) }, 0},
		"exp beyond dates":   {func(f *forger) { f.claims["exp"] = 1e30 }, BadCredential},
		"exp beyond numbers": {func(f *forger) { f.rawClaims = raw(f, `"exp":1e999`) }, BadCredential},
		"exp negative":       {func(f *forger) { f.claims["exp"] = -1 }, BadCredential},
		"nbf in the leeway":  {func(f *forger) { f.claims["nbf"] = now + 30 }, 0},
		"nbf later":          {func(f *forger) { f.claims["nbf"] = now + 31 }, BadCredential},
		"nbf beyond dates":   {func(f *forger) { f.claims["nbf"] = 1e30 }, BadCredential},
		"iat in the leeway":  {func(f *forger) { f.claims["iat"] = now + 30 }, 0},
		"iat later":          {func(f *forger) { f.claims["iat"] = now + 31 }, BadCredential},
		"iat as text":        {func(f *forger) { f.claims["iat"] = "now" }, BadCredential},

		// Members whose names only look alike are somebody's own.
		"SUB beside sub":   {func(f *forger) { f.claims["sub"] = "x"; f.rawClaims = raw(f, `"SUB":"svc-billing"`) }, BadCredential},
		"SUB behind sub":   {func(f *forger) { f.rawClaims = raw(f, `"SUB":"x"`) }, 0},
		"Exp beside exp":   {func(f *forger) { f.claims["exp"] = 5; f.rawClaims = raw(f, fmt.Sprintf(`"Exp":%d`, now+60)) }, Expired},
		"ISS alone":        {func(f *forger) { f.claims["ISS"] = testIssuer; delete(f.claims, "iss") }, BadCredential},
		"KID beside kid":   {func(f *forger) { f.header["kid"], f.header["KID"] = "x", "rsa" }, BadCredential},
		"ALG beside alg":   {func(f *forger) { f.header["ALG"] = "none" }, 0},
		"sub with a zero":  {func(f *forger) { f.claims["sub"] = "svc-billing\x00" }, BadCredential},
		"long but allowed": {func(f *forger) { f.claims["x"] = strings.Repeat("x", 5000) }, 0},
		"too long":         {func(f *forger) { f.claims["x"] = strings.Repeat("x", maxToken) }, BadCredential},
	} {
		t.Run(name, func(t *testing.T) {
			f := goodToken()
			c.change(f)
			caller, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{bearer + f.sign(t)}})
			if kindIn(err) != c.want || (err == nil) != (caller != nil) || caller != nil && caller.Name() != "billing" {
				t.Errorf("%v, %v (%v), want kind %d", caller, err, errors.Unwrap(err), c.want)
			}
		})
	}
}

// raw writes the claims with one more member at the end.
func raw(f *forger, member string) string {
	data, err := json.Marshal(f.claims)
	if err != nil {
		panic(err)
	}
	return strings.TrimSuffix(string(data), "}") + "," + member + "}"
}

func publicDER(t testing.TB, id string) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(signers()[id].Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func publicPEM(t testing.TB, id string) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER(t, id)})
}

func edKey(t testing.TB) ed25519.PublicKey {
	t.Helper()
	key, ok := signers()["ed"].Public().(ed25519.PublicKey)
	if !ok {
		t.Fatal("no Ed25519 key")
	}
	return key
}

// An issuer's tokens are for its own algorithms and callers.
func TestTokensOfOther(t *testing.T) {
	a := newTest(t, testDirectory(t), Options{})
	f := goodToken()
	f.header["alg"], f.header["kid"], f.key = "ES256", "ec256", signers()["ec256"]
	f.claims["iss"], f.claims["aud"] = otherIssuer, "other-audience"
	caller, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{bearer + f.sign(t)}})
	if err != nil || caller.Name() != "other" {
		t.Errorf("%v, %v", caller, err)
	}
}

// A signature counts as it was made, and in no other form.
func TestTokenForms(t *testing.T) {
	a := newTest(t, testDirectory(t), Options{})
	f := goodToken()
	f.header["alg"], f.header["kid"], f.key = "EdDSA", "ed", signers()["ed"]
	good := f.sign(t)
	parts := strings.Split(good, ".")
	last := good[len(good)-1]
	for name, text := range map[string]string{
		"empty":             "",
		"one part":          parts[0],
		"two parts":         parts[0] + "." + parts[1],
		"four parts":        good + ".",
		"five parts":        good + ".a.b",
		"empty parts":       "..",
		"padded":            good + "==",
		"space behind":      good + " ",
		"space before":      " " + good,
		"other last bits":   good[:len(good)-1] + string(last+1),
		"cut":               good[:len(good)-2],
		"swapped":           parts[1] + "." + parts[0] + "." + parts[2],
		"no signature":      parts[0] + "." + parts[1] + ".",
		"a letter more":     parts[0] + "." + parts[1] + "A." + parts[2],
		"standard alphabet": strings.ReplaceAll(strings.ReplaceAll(good, "-", "+"), "_", "/") + "+",
		"NUL":               good + "\x00",
		"list":              good + "," + good,
		"JSON":              `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	} {
		if caller, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{bearer + text}}); kindIn(err) != BadCredential || caller != nil {
			t.Errorf("%s: %v, %v", name, caller, err)
		}
	}
	if _, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{bearer + good}}); err != nil {
		t.Error(err)
	}
}

// Whoever has no credential must not make the server work.
func TestHostileTextCostsNothing(t *testing.T) {
	a := newTest(t, testDirectory(t), Options{})
	dots := strings.Repeat(".", 1<<20)
	for name, c := range map[string]Credentials{
		"dots":           {Authorization: []string{bearer + dots}},
		"dots as key":    {APIKey: []string{dots}},
		"no scheme":      {Authorization: []string{dots}},
		"few dots":       {Authorization: []string{bearer + dots[:maxToken]}},
		"letters":        {Authorization: []string{bearer + strings.Repeat("a", 1<<20)}},
		"a key, long":    {Authorization: []string{bearer + keyPrefix + strings.Repeat("a", 1<<20)}},
		"a key, in time": {Authorization: []string{bearer + keyPrefix + strings.Repeat("a", 1<<10)}},
		"wrong key":      {APIKey: []string{"yxf_01234567_" + secretOf}},
		"nothing":        {},
	} {
		ctx := t.Context()
		allocations := testing.AllocsPerRun(100, func() {
			if _, err := a.Authenticate(ctx, c); err == nil {
				t.Error("taken")
			}
		})
		if allocations > 1 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}

func FuzzToken(f *testing.F) {
	a := newTest(f, testDirectory(f), Options{})
	good := goodToken()
	good.header["alg"], good.header["kid"], good.key = "EdDSA", "ed", signers()["ed"]
	token := good.sign(f)
	for _, seed := range []string{token, "..", "e30.e30.", "bnVsbA.bnVsbA.", strings.Repeat(".", 99), b64([]byte(`{"alg":"none"}`)) + ".e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		caller, err := a.Authenticate(context.Background(), Credentials{Authorization: []string{bearer + text}})
		// Keys are new each time, so that nothing but this token can be good.
		if (caller != nil) != (text == token) || kindIn(err) == -1 {
			t.Errorf("%q: %v, %v", text, caller, err)
		}
	})
}

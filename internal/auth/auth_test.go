package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// certificate makes one that was issued for these names, as TLS would hand it over.
func certificate(t testing.TB, names ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "billing.internal"},
		NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour),
	}
	for _, name := range names {
		if text, ok := strings.CutPrefix(name, "uri "); ok {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key := signers()["ec256"]
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestCertificates(t *testing.T) {
	a := newTest(t, testDirectory(t), Options{})
	changed := func(change func(*x509.Certificate)) *x509.Certificate {
		leaf := certificate(t, "billing.internal")
		change(leaf)
		return leaf
	}
	for name, c := range map[string]struct {
		leaf *x509.Certificate
		want Kind
	}{
		"URI":                  {certificate(t, "uri spiffe://example/billing"), 0},
		"DNS":                  {certificate(t, "billing.internal"), 0},
		"both":                 {certificate(t, "uri spiffe://example/billing", "billing.internal"), 0},
		"second":               {certificate(t, "uri spiffe://x/y", "x.internal", "billing.internal"), 0},
		"none":                 {certificate(t), BadCredential},
		"common name only":     {certificate(t, "x.internal"), BadCredential},
		"URI and another DNS":  {certificate(t, "uri spiffe://example/billing", "other.internal"), BadCredential},
		"two DNS":              {certificate(t, "billing.internal", "other.internal"), BadCredential},
		"two DNS and another":  {certificate(t, "other.internal", "billing.internal", "billing.internal"), BadCredential},
		"URI as DNS":           {certificate(t, "spiffe://example/billing"), BadCredential},
		"DNS as URI":           {certificate(t, "uri billing.internal"), BadCredential},
		"capitals":             {certificate(t, "Billing.internal"), BadCredential},
		"dot behind":           {changed(func(c *x509.Certificate) { c.DNSNames = []string{"billing.internal."} }), BadCredential},
		"wildcard":             {certificate(t, "*.internal"), BadCredential},
		"prefix":               {certificate(t, "uri spiffe://example/billing/x"), BadCredential},
		"query":                {certificate(t, "uri spiffe://example/billing?x"), BadCredential},
		"case of the host":     {certificate(t, "uri spiffe://Example/billing"), BadCredential},
		"e-mail":               {changed(func(c *x509.Certificate) { c.DNSNames, c.EmailAddresses = nil, []string{"billing.internal"} }), BadCredential},
		"caller expired":       {certificate(t, "late.internal"), Expired},
		"expired":              {changed(func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) }), Expired},
		"expires now":          {changed(func(c *x509.Certificate) { c.NotAfter = testNow }), 0},
		"not yet":              {changed(func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Second) }), BadCredential},
		"expired, of a nobody": {changed(func(c *x509.Certificate) { c.NotAfter, c.DNSNames = testNow.Add(-time.Second), nil }), Expired},
	} {
		caller, err := a.Authenticate(t.Context(), Credentials{Certificate: c.leaf})
		if kindIn(err) != c.want || (err == nil) != (caller != nil) || caller != nil && caller.Name() != "billing" {
			t.Errorf("%s: %v, %v (%v)", name, caller, err, errors.Unwrap(err))
		}
	}
}

// keyed adds API keys to a directory for tests: yxf_0000000<n>_ of each caller.
func keyed(t testing.TB) (d *Directory, keys map[string]string) {
	t.Helper()
	d, keys = testDirectory(t), map[string]string{}
	for i, name := range []string{"billing", "other", "late"} {
		id := fmt.Sprintf("0000000%d", i)
		keys[name] = keyPrefix + id + "_" + secretOf
		d.keys[id] = apiKey{caller: d.names[name], sum: sha256.Sum256([]byte(keys[name]))}
	}
	return d, keys
}

func TestAuthenticate(t *testing.T) {
	d, keys := keyed(t)
	a := newTest(t, d, Options{})
	key, token := keys["billing"], goodToken().sign(t)
	leaf, other, stranger, both := certificate(t, "billing.internal"), certificate(t, "other.internal"), certificate(t, "x"), certificate(t, "billing.internal", "other.internal")
	list := func(texts ...string) []string { return texts }
	for name, c := range map[string]struct {
		credentials Credentials
		want        error // nil for the caller billing
	}{
		"nothing":                     {Credentials{}, errNone},
		"empty lists":                 {Credentials{Authorization: list(), APIKey: list()}, errNone},
		"key":                         {Credentials{APIKey: list(key)}, nil},
		"key as bearer":               {Credentials{Authorization: list("Bearer " + key)}, nil},
		"token":                       {Credentials{Authorization: list("Bearer " + token)}, nil},
		"small bearer":                {Credentials{Authorization: list("bearer " + token)}, nil},
		"capital bearer":              {Credentials{Authorization: list("BEARER " + key)}, nil},
		"late key":                    {Credentials{APIKey: list(keys["late"])}, errCallerExpired},
		"empty key":                   {Credentials{APIKey: list("")}, errKeyForm},
		"empty authorization":         {Credentials{Authorization: list("")}, errNoBearer},
		"bearer only":                 {Credentials{Authorization: list("Bearer")}, errNoBearer},
		"bearer of nothing":           {Credentials{Authorization: list("Bearer ")}, errTokenForm},
		"key without bearer":          {Credentials{Authorization: list(key)}, errNoBearer},
		"token without bearer":        {Credentials{Authorization: list(token)}, errNoBearer},
		"two spaces":                  {Credentials{Authorization: list("Bearer  " + key)}, errTokenForm},
		"tab":                         {Credentials{Authorization: list("Bearer\t" + key)}, errNoBearer},
		"basic":                       {Credentials{Authorization: list("Basic " + key)}, errNoBearer},
		"token as key":                {Credentials{APIKey: list(token)}, errKeyForm},
		"bearer in x-api-key":         {Credentials{APIKey: list("Bearer " + key)}, errKeyForm},
		"key twice":                   {Credentials{APIKey: list(key, key)}, errSeveral},
		"key and empty key":           {Credentials{APIKey: list(key, "")}, errSeveral},
		"bearer twice":                {Credentials{Authorization: list("Bearer "+key, "Bearer "+key)}, errSeveral},
		"key and token":               {Credentials{APIKey: list(key), Authorization: list("Bearer " + token)}, errSeveral},
		"key and empty authorization": {Credentials{APIKey: list(key), Authorization: list("")}, errSeveral},

		"certificate":                     {Credentials{Certificate: leaf}, nil},
		"certificate of nobody":           {Credentials{Certificate: stranger}, errStranger},
		"certificate and key":             {Credentials{Certificate: leaf, APIKey: list(key)}, nil},
		"certificate and token":           {Credentials{Certificate: leaf, Authorization: list("Bearer " + token)}, nil},
		"stranger and key":                {Credentials{Certificate: stranger, APIKey: list(key)}, nil},
		"other's certificate and key":     {Credentials{Certificate: other, APIKey: list(key)}, errContradiction},
		"other's certificate and token":   {Credentials{Certificate: other, Authorization: list("Bearer " + token)}, errContradiction},
		"certificate of both and key":     {Credentials{Certificate: both, APIKey: list(key)}, errAmbiguous},
		"certificate and a bad key":       {Credentials{Certificate: leaf, APIKey: list("x")}, errKeyForm},
		"certificate and an empty bearer": {Credentials{Certificate: leaf, Authorization: list("")}, errNoBearer},
		"certificate and two keys":        {Credentials{Certificate: leaf, APIKey: list(key, key)}, errSeveral},
	} {
		caller, err := a.Authenticate(t.Context(), c.credentials)
		if err != c.want || (err == nil) != (caller != nil) || caller != nil && caller.Name() != "billing" { //nolint:errorlint // the very same
			t.Errorf("%s: %v, %v (%v), want %v", name, caller, err, errors.Unwrap(err), errors.Unwrap(c.want))
		}
	}
}

// The text of an error is for whoever tries: it must not tell a wrong secret from
// an unknown key.
func TestErrorsTellTheKindOnly(t *testing.T) {
	texts := map[Kind]string{NoCredential: "a credential is needed", BadCredential: "the credential is not valid", Expired: "the credential has expired"}
	for _, err := range []error{errNone, errSeveral, errKeyUnknown, errKeyWrong, errKeyExpired, errTokenForm, errStranger, errAmbiguous} {
		e, ok := errors.AsType[*Error](err)
		if !ok || err.Error() != texts[e.Kind] || errors.Unwrap(err) == nil || strings.Contains(err.Error(), errors.Unwrap(err).Error()) {
			t.Errorf("%v (%v)", err, errors.Unwrap(err))
		}
	}
}

// Causes go to the log: no part of a credential may.
func TestCausesHideCredentials(t *testing.T) {
	a := newTest(t, testDirectory(t), Options{})
	f := goodToken()
	f.claims["aud"] = "sensitive-audience"
	f.header["secret"] = "sensitive-header"
	token := f.sign(t)
	parts := strings.Split(token, ".")
	for _, text := range []string{token, token[:len(token)-9], parts[0] + "." + parts[1] + "%." + parts[2], b64([]byte("sensitive")) + ".e30.e30"} {
		_, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{bearer + text}})
		cause := fmt.Sprint(errors.Unwrap(err))
		for _, part := range append(strings.Split(text, "."), "sensitive") {
			if strings.Contains(cause, part) {
				t.Errorf("the cause shows %q: %s", part, cause)
			}
		}
	}
}

func TestUse(t *testing.T) {
	d, keys := keyed(t)
	a := newTest(t, d, Options{})
	credentials := Credentials{APIKey: []string{keys["billing"]}}
	before, err := a.Authenticate(t.Context(), credentials)
	if err != nil {
		t.Fatal(err)
	}
	next, _ := keyed(t)
	a.Use(next)
	after, err := a.Authenticate(t.Context(), credentials)
	if err != nil || after == before || after.Name() != before.Name() {
		t.Errorf("%v, %v", after, err)
	}
	a.Use(testDirectory(t)) // without keys
	if _, err := a.Authenticate(t.Context(), credentials); kindIn(err) != BadCredential {
		t.Error(err)
	}
	a.Close()
	a.Use(next)
	if _, err := a.Authenticate(t.Context(), credentials); kindIn(err) != BadCredential {
		t.Error("a directory was put to use after the end")
	}
	a.Close()
}

// Without a clock of its own, an Authenticator goes by the system's.
func TestSystemClock(t *testing.T) {
	a := New(testDirectory(t), Options{})
	defer a.Close()
	f := goodToken()
	f.claims["exp"] = time.Now().Add(time.Minute).Unix()
	if _, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{bearer + f.sign(t)}}); err != nil {
		t.Error(err)
	}
}

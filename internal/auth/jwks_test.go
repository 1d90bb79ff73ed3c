package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
)

// signers are private keys by the ids they have in the set of tests.
var signers = sync.OnceValue(func() map[string]crypto.Signer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{
		"rsa":   must(rsa.GenerateKey(rand.Reader, 2048)),
		"rsa2":  must(rsa.GenerateKey(rand.Reader, 2048)),
		"ps":    must(rsa.GenerateKey(rand.Reader, 2048)),
		"ec256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ec384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"ec521": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"ed":    must(ed, err),
	}
})

var b64 = base64.RawURLEncoding.EncodeToString

// jwkOf writes the public half of a key.
func jwkOf(t testing.TB, id string) map[string]any {
	t.Helper()
	switch k := signers()[id].Public().(type) {
	case *rsa.PublicKey:
		return map[string]any{"kid": id, "kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := (len(point) - 1) / 2
		return map[string]any{"kid": id, "kty": "EC", "crv": k.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		return map[string]any{"kid": id, "kty": "OKP", "crv": "Ed25519", "x": b64(k)}
	}
	t.Fatal("no such key")
	return nil
}

func with(key map[string]any, members ...any) map[string]any {
	key = maps.Clone(key)
	for i := 0; i < len(members); i += 2 {
		if name := fmt.Sprint(members[i]); members[i+1] == nil {
			delete(key, name)
		} else {
			key[name] = members[i+1]
		}
	}
	return key
}

func setOf(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// testSet has a key for each kind of algorithm; that of ps is for one only.
func testSet(t testing.TB) []byte {
	t.Helper()
	return setOf(t, jwkOf(t, "rsa"), jwkOf(t, "ec256"), jwkOf(t, "ec384"), jwkOf(t, "ec521"), jwkOf(t, "ed"), with(jwkOf(t, "ps"), "alg", "PS256"))
}

func TestJWKS(t *testing.T) {
	keys, err := parseJWKS(testSet(t))
	if err != nil {
		t.Fatal(err)
	}
	fits := map[string][]string{
		"rsa": {"PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}, "ps": {"PS256"},
		"ec256": {"ES256"}, "ec384": {"ES384"}, "ec521": {"ES512"}, "ed": {"EdDSA"},
	}
	for id, want := range fits {
		public, ok := signers()[id].Public().(interface{ Equal(k crypto.PublicKey) bool })
		var got []string
		for alg := range algorithms {
			if key := keys.find(id, alg); key != nil {
				got = append(got, alg)
				if !ok || !public.Equal(key) {
					t.Errorf("%s is another key", id)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s fits %v, want %v", id, got, want)
		}
		for _, alg := range []string{"", "none", "HS256", "ES256K", "RS1", "RSA"} {
			if keys.find(id, alg) != nil {
				t.Errorf("%s fits %q", id, alg)
			}
		}
	}
	if keys.find("", "RS256") != nil || keys.find("RSA", "RS256") != nil {
		t.Error("found what is not there")
	}
}

// Keys for something else, and of kinds that nobody knows yet, do no harm.
func TestJWKSLeavesOut(t *testing.T) {
	rsaKey, ec := jwkOf(t, "rsa"), jwkOf(t, "ec256")
	other := with(rsaKey, "kid", "other")
	keys, err := parseJWKS(setOf(t,
		with(other, "use", "enc"), with(other, "key_ops", []string{"encrypt"}), with(other, "key_ops", []string{}),
		with(other, "alg", "RSA-OAEP"), with(other, "alg", "RS1"), with(other, "alg", "HS256"), with(other, "alg", "ES256"),
		with(other, "kid", nil), with(other, "kid", ""), with(other, "kty", nil), with(other, "kty", "rsa"), with(other, "kty", "AKP"),
		with(ec, "kid", "other", "crv", "secp256k1"), with(ec, "kid", "other", "crv", "P-224"), with(ec, "kid", "other", "crv", nil),
		with(ec, "kid", "other", "kty", "OKP"), map[string]any{"kid": "other", "kty": "OKP", "crv": "X25519", "x": "AA"}, map[string]any{},
		with(rsaKey, "use", "sig", "key_ops", []string{"sign", "verify"}, "x5c", []string{"x"}, "crv", "P-256"),
		with(ec, "kid", "rsa"),
	))
	if err != nil || len(keys) != 2 || keys.find("rsa", "RS256") == nil || keys.find("rsa", "ES256") == nil {
		t.Errorf("%v, %v", keys, err)
	}
}

func TestJWKSRefuses(t *testing.T) {
	rsaKey, ec, ed := jwkOf(t, "rsa"), jwkOf(t, "ec256"), jwkOf(t, "ed")
	good := jwkOf(t, "rsa2")
	bits := func(n uint) string { return b64(new(big.Int).SetBit(big.NewInt(1), int(n-1), 1).Bytes()) }
	many := make([]map[string]any, maxKeys+1)
	for i := range many {
		many[i] = with(ed, "kid", fmt.Sprint(i))
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":              {nil, "not a JSON Web Key Set"},
		"no JSON":            {[]byte("keys"), "not a JSON Web Key Set"},
		"a list":             {[]byte("[]"), "not a JSON Web Key Set"},
		"a key":              {[]byte(`{"kty":"RSA"}`), "no key that a token"},
		"null":               {[]byte("null"), "no key that a token"},
		"keys as text":       {[]byte(`{"keys":"a"}`), "not a JSON Web Key Set"},
		"more behind":        {append(setOf(t, good), "{}"...), "not a JSON Web Key Set"},
		"deep":               {[]byte(`{"keys":` + strings.Repeat("[", 20_000)), "not a JSON Web Key Set"},
		"no keys":            {setOf(t), "no key that a token"},
		"nothing useful":     {setOf(t, with(good, "use", "enc")), "no key that a token"},
		"many":               {setOf(t, many...), "more than 64 keys"},
		"large":              {append(setOf(t, good), strings.Repeat(" ", maxJWKS)...), "larger than"},
		"private RSA":        {setOf(t, good, with(rsaKey, "d", "AQ")), "key 2 is not public"},
		"private EC":         {setOf(t, with(ec, "d", "AQ")), "key 1 is not public"},
		"private OKP":        {setOf(t, with(ed, "d", "")), "key 1 is not public"},
		"private, odd":       {setOf(t, with(ed, "d", []int{1})), "key 1 is not public"},
		"private, null":      {[]byte(`{"keys":[{"kid":"a","kty":"OKP","crv":"Ed25519","x":"AA","d":null}]}`), "key 1 is not public"},
		"private, left out":  {setOf(t, with(rsaKey, "d", "AQ", "use", "enc")), "key 1 is not public"},
		"prime":              {setOf(t, with(rsaKey, "p", "AQ")), "key 1 is not public"},
		"symmetric":          {setOf(t, map[string]any{"kty": "oct", "kid": "a", "k": "AQ"}), "key 1 is not public"},
		"same id":            {setOf(t, rsaKey, with(good, "kid", "rsa")), "key 2 has the id of another"},
		"small RSA":          {setOf(t, with(rsaKey, "n", bits(2047))), "an RSA key of 2047 bits"},
		"padded RSA":         {setOf(t, with(rsaKey, "n", b64(make([]byte, 300)))), "an RSA key of 0 bits"},
		"great RSA":          {setOf(t, with(rsaKey, "n", bits(8193))), "an RSA key of 8193 bits"},
		"even RSA":           {setOf(t, with(rsaKey, "n", b64(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes()))), "even"},
		"exponent 1":         {setOf(t, with(rsaKey, "e", "AQ")), "exponent"},
		"exponent 0":         {setOf(t, with(rsaKey, "e", "AA")), "exponent"},
		"even exponent":      {setOf(t, with(rsaKey, "e", b64([]byte{1, 0, 0}))), "exponent"},
		"exponent 2^31+1":    {setOf(t, with(rsaKey, "e", b64([]byte{0x80, 0, 0, 1}))), "exponent"},
		"exponent 2^64+3":    {setOf(t, with(rsaKey, "e", b64([]byte{1, 0, 0, 0, 0, 0, 0, 0, 3}))), "exponent"},
		"no modulus":         {setOf(t, with(rsaKey, "n", nil)), "a member is missing"},
		"no exponent":        {setOf(t, with(rsaKey, "e", nil)), "a member is missing"},
		"modulus as number":  {setOf(t, with(rsaKey, "n", 5)), "not a JSON Web Key Set"},
		"standard base64":    {setOf(t, with(rsaKey, "n", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xff", 257))))), "a member is missing"},
		"not on the curve":   {setOf(t, with(ec, "x", b64(make([]byte, 32)))), "key 1"},
		"infinity":           {setOf(t, with(ec, "x", b64(make([]byte, 32)), "y", b64(make([]byte, 32)))), "key 1"},
		"short coordinate":   {setOf(t, with(ec, "x", b64(make([]byte, 31)))), "a member is missing"},
		"long coordinate":    {setOf(t, with(ec, "x", b64(make([]byte, 33)))), "a member is missing"},
		"no y":               {setOf(t, with(ec, "y", nil)), "a member is missing"},
		"point of a 2nd":     {setOf(t, with(ec, "crv", "P-384")), "a member is missing"},
		"short Ed25519":      {setOf(t, with(ed, "x", "AA")), "a member is missing"},
		"long Ed25519":       {setOf(t, with(ed, "x", b64(make([]byte, 33)))), "a member is missing"},
		"good and broken":    {setOf(t, good, with(ed, "x", "AA")), "key 2"},
		"key as text":        {[]byte(`{"keys":["a"]}`), "not a JSON Web Key Set"},
		"kid as number":      {setOf(t, with(rsaKey, "kid", 1)), "not a JSON Web Key Set"},
		"not canonical":      {setOf(t, with(ed, "x", strings.Repeat("A", 42)+"B")), "a member is missing"},
		"broken at the end":  {setOf(t, with(ed, "x", strings.Repeat("A", 42)+"=")), "a member is missing"},
		"line break in base": {setOf(t, with(ed, "x", strings.Repeat("A", 42)+"\n")), "a member is missing"},
	} {
		keys, err := parseJWKS(c.data)
		if err == nil || keys != nil {
			t.Errorf("%s: taken", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func FuzzJWKS(f *testing.F) {
	f.Add(testSet(f))
	f.Add(setOf(f, with(jwkOf(f, "ed"), "d", "AA")))
	f.Add([]byte(`{"keys":[{"kid":"a","kty":"EC","crv":"P-256","x":"","y":null}]}`))
	f.Add([]byte(`{"keys":[{"kid":"a","kty":"RSA","n":"AQ","e":"AQAB","D":1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseJWKS(data)
		if (len(keys) == 0) == (err == nil) || len(keys) > maxKeys {
			t.Fatalf("%v, %v", keys, err)
		}
		for name, k := range keys {
			fits := 0
			for alg := range algorithms {
				switch key := keys.find(name.id, alg).(type) {
				case nil:
					continue
				case *rsa.PublicKey:
					if key.N.BitLen() < minRSABits || alg[1:2] != "S" || alg[:1] == "E" {
						t.Errorf("%v for %s", key, alg)
					}
				case *ecdsa.PublicKey:
					if _, err := key.Bytes(); err != nil {
						t.Error(err)
					}
				case ed25519.PublicKey:
					if len(key) != ed25519.PublicKeySize || alg != "EdDSA" {
						t.Errorf("%v for %s", key, alg)
					}
				}
				fits++
			}
			if fits == 0 {
				t.Errorf("%v fits nothing", k)
			}
		}
	})
}

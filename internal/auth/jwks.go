package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Limits of a set of keys.
const (
	maxJWKS     = 256 << 10 // bytes
	maxKeys     = 64
	minRSABits  = 2048
	maxRSABits  = 8192 // above that checking a forged token becomes dear
	maxExponent = 1<<31 - 1
)

// An algorithm is one that tokens may be signed with, and the keys that fit it.
// Only asymmetric ones are here: with a symmetric one, whoever can check tokens
// can make them.
type algorithm struct{ keyType, curve string }

var algorithms = map[string]algorithm{
	"RS256": {"RSA", ""}, "RS384": {"RSA", ""}, "RS512": {"RSA", ""},
	"PS256": {"RSA", ""}, "PS384": {"RSA", ""}, "PS512": {"RSA", ""},
	"ES256": {"EC", "P-256"}, "ES384": {"EC", "P-384"}, "ES512": {"EC", "P-521"},
	"EdDSA": {"OKP", "Ed25519"},
}

// A publicKey checks signatures of the algorithms it fits.
type publicKey struct {
	key any // as golang-jwt takes it
	algorithm

	only string // the one algorithm it is for; empty is all that fit
}

// A keyName is what keys are told apart by: RFC 7517 lets keys of different types
// share an id.
type keyName struct{ id, keyType string }

// A keySet holds the keys of an issuer.
type keySet map[keyName]publicKey

// find returns the key of an id that fits an algorithm, and nil if there is none.
func (s keySet) find(id, alg string) any {
	a := algorithms[alg]
	k, ok := s[keyName{id, a.keyType}]
	if !ok || k.algorithm != a || k.only != "" && k.only != alg {
		return nil
	}
	return k.key
}

// A jwk is a key as RFC 7517 writes it.
type jwk struct {
	Type       string   `json:"kty"`
	ID         string   `json:"kid"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	N          string   `json:"n"`
	E          string   `json:"e"`
	Curve      string   `json:"crv"`
	X          string   `json:"x"`
	Y          string   `json:"y"`

	// What only a private or a symmetric key has.
	D      json.RawMessage `json:"d"`
	P      json.RawMessage `json:"p"`
	Q      json.RawMessage `json:"q"`
	Secret json.RawMessage `json:"k"`
}

// parseJWKS reads a set of keys. Keys that are not for checking signatures of
// tokens, or that no token could name, are left out. A key that is broken, weak or
// private makes the whole set useless, so that somebody looks after it.
func parseJWKS(data []byte) (keySet, error) {
	if len(data) > maxJWKS {
		return nil, fmt.Errorf("larger than %d bytes", maxJWKS)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if json.Unmarshal(data, &set) != nil {
		return nil, errors.New("not a JSON Web Key Set") // the cause could quote a part of a private key
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	keys := keySet{}
	for i, k := range set.Keys {
		if len(k.D)+len(k.P)+len(k.Q)+len(k.Secret) > 0 {
			return nil, fmt.Errorf("key %d is not public: it is lost to who has seen this set", i+1)
		}
		if k.Type == "RSA" {
			k.Curve = "" // means nothing there
		}
		if !k.forSignatures() {
			continue
		}
		key, err := k.public()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		name := keyName{k.ID, k.Type}
		if _, twice := keys[name]; twice {
			return nil, fmt.Errorf("key %d has the id of another one", i+1)
		}
		keys[name] = publicKey{key: key, algorithm: algorithm{k.Type, k.Curve}, only: k.Algorithm}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key that a token could be signed with: it has to be of type RSA, EC or OKP, and to have an id (kid)")
	}
	return keys, nil
}

func (k *jwk) forSignatures() bool {
	if k.ID == "" || k.Use != "" && k.Use != "sig" || k.Operations != nil && !slices.Contains(k.Operations, "verify") {
		return false
	}
	for name, a := range algorithms {
		if a == (algorithm{k.Type, k.Curve}) && (k.Algorithm == "" || k.Algorithm == name) {
			return true
		}
	}
	return false
}

func (k *jwk) public() (any, error) {
	switch k.Type {
	case "RSA":
		return k.rsa()
	case "EC":
		return k.ec()
	default:
		x, err := number(k.X, ed25519.PublicKeySize)
		return ed25519.PublicKey(x), err
	}
}

func (k *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := number(k.N, 0)
	if err != nil {
		return nil, err
	}
	e, err := number(k.E, 0)
	if err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	switch bits := modulus.BitLen(); {
	case bits < minRSABits || bits > maxRSABits:
		return nil, fmt.Errorf("an RSA key of %d bits: it must have %d to %d", bits, minRSABits, maxRSABits)
	case modulus.Bit(0) == 0:
		return nil, errors.New("an even RSA modulus")
	case !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > maxExponent || exponent.Bit(0) == 0:
		return nil, errors.New("an RSA exponent that cannot be used")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func (k *jwk) ec() (*ecdsa.PublicKey, error) {
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Curve]
	size := (curve.Params().BitSize + 7) / 8
	x, err := number(k.X, size)
	if err != nil {
		return nil, err
	}
	y, err := number(k.Y, size)
	if err != nil {
		return nil, err
	}
	// It must be on the curve, which this checks.
	return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
}

// number decodes a member, which has so many bytes unless size is 0.
func number(text string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || size > 0 && len(b) != size {
		return nil, errors.New("a member is missing or has no proper form")
	}
	return b, nil
}

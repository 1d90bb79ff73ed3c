package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// A key is yxf_<id>_<secret>: the prefix lets scanners find lost keys, the id says
// which key it is and is no secret.
const (
	keyPrefix   = "yxf_"
	idLength    = 8  // hex digits
	secretBytes = 32 // written in base64url without padding
	idEnd       = len(keyPrefix) + idLength
)

var keyLength = idEnd + 1 + base64.RawURLEncoding.EncodedLen(secretBytes)

// A KeyEntry is what the callers file holds of a key. It does not reveal the key:
// whoever would guess one from its hash has 256 bits to guess.
type KeyEntry struct {
	ID     string // 8 hex digits
	SHA256 string // of the whole key, 64 hex digits
}

// String returns the entry as it is written in the callers file.
func (e KeyEntry) String() string { return "{id: " + e.ID + ", sha256: " + e.SHA256 + "}" }

// NewKey makes a key of what it reads from random, which must be crypto/rand.Reader
// outside of tests.
func NewKey(random io.Reader) (key string, entry KeyEntry, err error) {
	var id [idLength / 2]byte
	var secret [secretBytes]byte
	for _, part := range [][]byte{id[:], secret[:]} {
		if _, err := io.ReadFull(random, part); err != nil {
			return "", KeyEntry{}, fmt.Errorf("no randomness for a key: %w", err)
		}
	}
	entry = KeyEntry{ID: hex.EncodeToString(id[:])}
	key = keyPrefix + entry.ID + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(key))
	entry.SHA256 = hex.EncodeToString(sum[:])
	return key, entry, nil
}

// apiKey is a key of a caller.
type apiKey struct {
	caller  *Caller
	sum     [sha256.Size]byte
	expires time.Time
}

var (
	errKeyForm    = refusal(BadCredential, "not of the form of an API key")
	errKeyUnknown = refusal(BadCredential, "an API key with an unknown id")
	errKeyWrong   = refusal(BadCredential, "an API key with a known id and a wrong secret")
	errKeyExpired = refusal(Expired, "the API key has expired")
)

// byKey finds the caller of an API key. An unknown id costs as much as a wrong
// secret. That a key has expired is told only to who has the whole key.
func (d *Directory) byKey(text string, now time.Time) (*Caller, error) {
	id, ok := keyID(text)
	if !ok {
		return nil, errKeyForm
	}
	key, known := d.keys[id]
	sum := sha256.Sum256([]byte(text))
	same := subtle.ConstantTimeCompare(sum[:], key.sum[:]) == 1
	switch {
	case !known:
		return nil, errKeyUnknown
	case !same:
		return nil, errKeyWrong
	case past(key.expires, now):
		return nil, errKeyExpired
	}
	return key.caller, nil
}

// keyID returns the id of a text that has the form of a key.
func keyID(text string) (id string, ok bool) {
	if len(text) != keyLength || text[:len(keyPrefix)] != keyPrefix || text[idEnd] != '_' {
		return "", false
	}
	id = text[len(keyPrefix):idEnd]
	if !isID(id) {
		return "", false
	}
	var secret [secretBytes]byte
	n, err := base64.RawURLEncoding.Strict().Decode(secret[:], []byte(text[idEnd+1:]))
	return id, err == nil && n == secretBytes
}

// isID reports whether a text is an id of a key: 8 hex digits in lower case.
func isID(text string) bool {
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(text) == idLength
}

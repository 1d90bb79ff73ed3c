package credentials

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the upstream's signature is defined over SHA-1
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// Sign signs one attempt. The upstream accepts a signature for five minutes around
// CurTime and advises a fresh one for each request. The header keys are set as the
// vendor writes them; http.Header.Set would change their case.
func Sign(h http.Header, appKey, appSecret string, now time.Time) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	nonce := hex.EncodeToString(random[:])
	curTime := strconv.FormatInt(now.Unix(), 10)
	sum := sha1.Sum([]byte(appSecret + nonce + curTime)) //nolint:gosec // as above
	h["AppKey"] = []string{appKey}
	h["Nonce"] = []string{nonce}
	h["CurTime"] = []string{curTime}
	h["CheckSum"] = []string{hex.EncodeToString(sum[:])}
}

package upstream

import (
	"crypto/sha1" //nolint:gosec // the upstream's signature is defined over SHA-1
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// sign signs one attempt: the upstream accepts a signature for five minutes
// around CurTime, and advises a fresh one for each request. The keys are set as
// the vendor writes them; http.Header.Set would change their case.
func sign(h http.Header, appKey, appSecret string, now time.Time) {
	nonce := NewTraceID()
	curTime := strconv.FormatInt(now.Unix(), 10)
	sum := sha1.Sum([]byte(appSecret + nonce + curTime)) //nolint:gosec // as above
	h["AppKey"] = []string{appKey}
	h["Nonce"] = []string{nonce}
	h["CurTime"] = []string{curTime}
	h["CheckSum"] = []string{hex.EncodeToString(sum[:])}
}

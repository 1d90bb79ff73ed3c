package engine

import (
	"crypto/sha1" //nolint:gosec // the upstream's algorithm
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

const (
	maxNonce     = 128
	maxClockSkew = 5 * time.Minute
)

// checkSignature verifies the four headers every call carries. The body is no
// part of the signature, and a nonce may come twice: nothing documented
// refuses it.
func (e *Engine[C]) checkSignature(h http.Header) *Refusal {
	if h.Get("AppKey") != e.appKey {
		return CodeUnknownApp.Refuse()
	}
	nonce, curTime := h.Get("Nonce"), h.Get("CurTime")
	if len(nonce) < 1 || len(nonce) > maxNonce {
		return CodeForbidden.Refusef("Nonce must have 1 to %d characters", maxNonce)
	}
	// ParseUint takes digits only, no sign.
	seconds, err := strconv.ParseUint(curTime, 10, 62)
	if err != nil {
		return CodeForbidden.Refusef("CurTime must be decimal seconds")
	}
	if skew := e.clock.Now().Sub(time.Unix(int64(seconds), 0)); skew.Abs() > maxClockSkew {
		return CodeForbidden.Refusef("CurTime is more than %v off", maxClockSkew)
	}
	sum := sha1.Sum([]byte(e.appSecret + nonce + curTime)) //nolint:gosec // the upstream's algorithm
	want := hex.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(want), []byte(h.Get("CheckSum"))) != 1 {
		return CodeForbidden.Refusef("CheckSum does not match")
	}
	return nil
}

package engine

import (
	"crypto/md5" //nolint:gosec // the vendor's digest of an answer; it protects nothing
	"encoding/hex"
	"net/http"
	"net/url"
)

// allocatePath is where the vendor's scheduling service names the endpoints of an
// app. There it is a host of its own; here it is one with what it schedules.
const allocatePath = "/srv-sdk/allocate"

const (
	allocationTTL = 30 // seconds
)

// codeNotModified says that the client has this answer.
var codeNotModified = NewCode(304, "not modified")

type allocation struct {
	Default string   `json:"default.endpoint"`
	Backups []string `json:"backup.endpoints"`
	TTL     int      `json:"ttl"`
	MD5     string   `json:"md5"`
}

// allocate names the sandbox itself, by the name it was called by. The question is
// not signed.
func (e *Engine[C]) allocate(w http.ResponseWriter, r *http.Request) {
	answer, bad := e.allocation(r)
	if bad != nil {
		writeAnswer(w, http.StatusOK, encode(nil, bad))
		return
	}
	writeAnswer(w, http.StatusOK, encode(answer, nil))
}

func (e *Engine[C]) allocation(r *http.Request) (allocation, *Refusal) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		return allocation{}, BadParameter("query: %v", err)
	case query.Get("k") != e.appKey:
		return allocation{}, CodeUnknownApp.Refuse()
	case query.Get("biz") != "1":
		return allocation{}, BadParameter("biz must be 1, which is IM")
	case query.Get("sv") == "" || query.Get("p") == "":
		return allocation{}, BadParameter("sv and p must be given")
	case r.Host == "":
		return allocation{}, BadParameter("the header Host is missing")
	}
	self := url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		self.Scheme = "https"
	}
	sum := md5.Sum([]byte(self.String())) //nolint:gosec // as above
	answer := allocation{Default: self.String(), Backups: []string{}, TTL: allocationTTL, MD5: hex.EncodeToString(sum[:])}
	if query.Get("md5") == answer.MD5 {
		return allocation{}, codeNotModified.Refuse()
	}
	return answer, nil
}

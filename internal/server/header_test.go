package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
)

// Headers that are too much for a gRPC connection are refused in the words of the
// chain, and do not fail in between.
func TestHeadersThatDoNotFit(t *testing.T) {
	r := start(t, echoAPI())
	for name, values := range map[string][]string{
		"long":      {strings.Repeat("x", 20<<10)},
		"just long": {strings.Repeat("x", maxKeyLength+1)},
		"many":      {strings.Repeat("x", 256), strings.Repeat("y", 256), strings.Repeat("z", 20<<10)},
	} {
		for header, reason := range map[string]string{callinfo.KeyHeader: "INVALID_REQUEST", callinfo.AppHeader: "APP_DENIED"} {
			pairs := []string{}
			for _, value := range values {
				pairs = append(pairs, header, value)
			}
			status := http.StatusForbidden
			if len(values) > 1 || header == callinfo.KeyHeader {
				status, reason = http.StatusBadRequest, "INVALID_REQUEST"
			}
			t.Run(name+" "+header, func(t *testing.T) {
				r.do(t, http.MethodGet, aliceBob, http.NoBody, pairs...).failure(t, status, reason)
			})
		}
	}
	if a := r.do(t, http.MethodGet, aliceBob, http.NoBody, callinfo.KeyHeader, strings.Repeat("~", maxKeyLength)); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

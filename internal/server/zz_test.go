package server

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestZZ(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "callers"), "callers: []")
	r := start(t, realAPI, "--callers-file="+file)
	for i := range 3000 {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url(aliceBob+"/messages"), strings.NewReader(`{"message":{"content":{"text":"hi"}}}`))
		resp, err := r.http.Do(req)
		if err != nil {
			t.Error(i, err)
			continue
		}
		resp.Body.Close()
	}
}

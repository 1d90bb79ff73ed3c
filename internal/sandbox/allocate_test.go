package sandbox

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// TestAllocate tells what the scheduling service answers. The digests are those of
// md5sum.
func TestAllocate(t *testing.T) {
	const asked = "?k=sandbox&sv=1.0&biz=1&p=go"
	const self, digest = "http://yunxin.test:81", "b42c8f0605800c7b5311e9030936a705"
	for _, tt := range []struct {
		name, query string
		code        engine.Code
		says        string
	}{
		{"first", asked, engine.CodeOK, ""},
		{"from an SDK", "?k=sandbox&sv=1.2.0&md5=other&biz=1&p=java", engine.CodeOK, ""},
		{"known", asked + "&md5=" + digest, engine.NewCode(304, "not modified"), "not modified"},
		{"no query", "", engine.CodeUnknownApp, "app key"},
		{"other app", "?k=other&sv=1.0&biz=1&p=go", engine.CodeUnknownApp, "app key"},
		{"other business", "?k=sandbox&sv=1.0&biz=2&p=go", engine.CodeBadParameter, "biz"},
		{"no version", "?k=sandbox&biz=1&p=go", engine.CodeBadParameter, "sv"},
		{"no language", "?k=sandbox&sv=1.0&biz=1", engine.CodeBadParameter, "p must"},
		{"broken query", asked + "&x=%zz", engine.CodeBadParameter, "query"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, Options{})
			r := httptest.NewRequest(http.MethodGet, "http://yunxin.test:81"+"/srv-sdk/allocate"+tt.query, http.NoBody)
			got := c.send(r).code(tt.code)
			if tt.code != engine.CodeOK {
				got.says(tt.says)
				return
			}
			data, _ := got.body["data"].(map[string]any)
			if data["default.endpoint"] != self || data["md5"] != digest {
				t.Errorf("%s", got.raw)
			}
			backups, ok := data["backup.endpoints"].([]any)
			if !ok || len(backups) != 0 || len(data) != 4 {
				t.Errorf("%s", got.raw)
			}
			got.is("ttl", "30")
		})
	}
}

// TestAllocateElsewhere tells what is not the scheduling service's, and what it
// says over TLS and without a host.
func TestAllocateElsewhere(t *testing.T) {
	c := newClient(t, Options{AppKey: "mine"})
	const path = "/srv-sdk/allocate" + "?k=mine&sv=1.0&biz=1&p=go"
	if got := c.send(httptest.NewRequest(http.MethodPost, path, http.NoBody)); got.status != http.StatusNotFound {
		t.Errorf("POST: HTTP %d %s", got.status, got.raw)
	}
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.TLS = &tls.ConnectionState{}
	data, _ := c.send(r).ok().body["data"].(map[string]any)
	if data["default.endpoint"] != "https://example.com" {
		t.Errorf("over TLS: %v", data)
	}
	r = httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.Host = ""
	c.send(r).code(engine.CodeBadParameter).says("Host")
}

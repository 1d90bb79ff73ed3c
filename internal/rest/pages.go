package rest

import (
	"net/http"
	"strings"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	"github.com/yunxin-facade/yunxin-facade/gen/openapi"
)

const (
	docsPath     = "/docs/"
	documentPath = "/openapi.json"
)

// pagePolicy keeps the scripts of the page from calling other servers.
const pagePolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

func isPage(path string) bool {
	return path == "/" || path+"/" == docsPath || path == documentPath || strings.HasPrefix(path, docsPath)
}

func newPages() http.Handler {
	return v5emb.NewHandlerWithConfig(swgui.Config{
		Title:       "yunxin-facade",
		SwaggerJSON: documentPath,
		BasePath:    docsPath,
	})
}

// servePage serves the page of the API and the document behind it.
func (d *Door) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		d.refuseMethod(w, r, []string{http.MethodGet, http.MethodHead})
		return
	}
	switch path := r.URL.Path; {
	case path == documentPath:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openapi.Document)
	case strings.HasPrefix(path, docsPath):
		w.Header().Set("Content-Security-Policy", pagePolicy)
		d.pages.ServeHTTP(w, r)
	default:
		http.Redirect(w, r, docsPath, http.StatusFound)
	}
}

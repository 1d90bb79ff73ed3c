package upstream

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// FuzzPath checks that an id is exactly one segment, whatever it holds.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"a|1|b", "", ".", "..", "../x", "a/b", "?", "#x", "%2F", "%", "a b", "+", "中", "\xff\x00\n", "*", "//", `\`, ";,", "a:b@c"} {
		f.Add(seed)
	}
	paths := make(chan string, 2)
	server := newServer(f, func(w http.ResponseWriter, r *http.Request) {
		paths <- r.RequestURI
		answer(http.StatusOK, `{"code":200}`)(w, r)
	})
	c := newClient(f, server.URL+"/prefix")
	f.Fuzz(func(t *testing.T, id string) {
		request := c.Empty("Request")
		schematest.Set(request, "id", id)
		err := c.Invoke(t.Context(), readThing, request, c.Empty("Reply"))
		if id == "" || id == "." || id == ".." {
			e, ok := errors.AsType[*apierror.Error](err)
			if !ok || len(e.Violations) != 1 || e.Violations[0].Field != "id" {
				t.Fatalf("id %q: %v", id, err)
			}
			return
		}
		if err != nil {
			t.Fatalf("id %q: %v", id, err)
		}
		path := <-paths
		segment, ok := strings.CutPrefix(path, "/prefix/im/v2/things/")
		if got, err := url.PathUnescape(segment); !ok || err != nil || got != id || strings.ContainsAny(segment, "/?#") {
			t.Fatalf("id %q: path %q", id, path)
		}
	})
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs the command on free ports and returns the base URL of its REST API,
// as the banner names it, and all of the banner up to there.
func serve(t *testing.T, args ...string) string {
	t.Helper()
	out, stdout := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, append(args, "--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"), stdout, io.Discard)
		_ = stdout.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url := regexp.MustCompile(`http://\S+/v1/`).FindString(lines.Text()); url != "" {
			go io.Copy(io.Discard, out) //nolint:errcheck // the rest of the banner
			return url
		}
	}
	t.Fatal("no banner")
	return ""
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestSandbox(t *testing.T) {
	base := serve(t, "--sandbox")
	if code, body := get(t, base+"conversations?account_id=alice"); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
}

func TestEndpointWithPrefix(t *testing.T) {
	var path, key string
	yunxin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, key = r.URL.EscapedPath(), r.Header.Get("AppKey")
		_, _ = io.WriteString(w, `{"code":200,"msg":"success","data":{"conversation_id":"a|1|b"}}`)
	}))
	defer yunxin.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := serve(t, "--endpoint="+yunxin.URL+"/some/prefix", "--app-key=k", "--app-secret-file="+secret)
	if code, body := get(t, base+"conversations/a%7C1%7Cb"); code != http.StatusOK || !strings.Contains(body, `"a|1|b"`) {
		t.Errorf("%d %s", code, body)
	}
	if path != "/some/prefix/im/v2/conversations/a%7C1%7Cb" || key != "k" {
		t.Errorf("called %s with key %q", path, key)
	}
}

func TestTextOnlyAndErrors(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--version"}, &out, io.Discard); err != nil || out.Len() == 0 {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := run(t.Context(), nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "--sandbox") {
		t.Errorf("%v", err)
	}
}

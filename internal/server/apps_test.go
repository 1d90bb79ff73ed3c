package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// A world is the upstream of one app. Everything in it bears the app's name.
type world struct {
	name    string
	url     string
	calls   atomic.Int64
	strange atomic.Int64 // requests of another app, or with things of another world
	answer  atomic.Value // in the place of the world's own, if there is one
}

func newWorld(t testing.TB, name string) *world {
	t.Helper()
	accounts := `{"id":"alice"},{"id":"bob"}`
	for i := range conversations + 1 {
		accounts += fmt.Sprintf(`,{"id":"friend%d"}`, i)
	}
	box, err := sandbox.New(sandbox.Options{
		AppKey: "key-" + name, AppSecret: "secret-" + name, Seed: []byte(`{"accounts":[` + accounts + `]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{name: name}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("AppKey") == "" { // a probe
			return
		}
		body, _ := io.ReadAll(r.Body)
		all := r.URL.String() + string(body)
		w.calls.Add(1)
		if r.Header.Get("AppKey") != "key-"+name || strings.Count(all, "made-for-") != strings.Count(all, "made-for-"+name) {
			w.strange.Add(1)
		}
		if answer, _ := w.answer.Load().(string); answer != "" {
			_, _ = io.WriteString(rw, answer)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		box.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// startApps runs a server with an app for each world; more are lines of every
// app.
func startApps(t testing.TB, worlds []*world, more string, flags ...string) *running {
	t.Helper()
	dir := t.TempDir()
	file := "apps:\n"
	for _, w := range worlds {
		file += fmt.Sprintf("  - name: %s\n    app_key: key-%[1]s\n    app_secret_file: %s\n    endpoints: [%s]\n%s",
			w.name, write(t, filepath.Join(dir, w.name), "secret-"+w.name+"\n"), w.url, more)
	}
	flags = append([]string{"--sandbox=false", "--apps-file=" + write(t, filepath.Join(dir, "apps.yaml"), file)}, flags...)
	return start(t, newAPI(settings(t, flags...)), flags...)
}

// TestChooseApp tells whom the header names, on both doors.
func TestChooseApp(t *testing.T) {
	var seen string
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		seen = callinfo.From(ctx).App()
		return echo(ctx, req)
	}}
	worlds := []*world{newWorld(t, "one"), newWorld(t, "two")}
	r := startApps(t, worlds, "")
	r = start(t, h.api(), "--sandbox=false", "--apps-file="+r.cfg.AppsFile)
	for name, c := range map[string]struct {
		values []string
		want   string // the app, or the reason of a refusal
		status int
	}{
		"none":         {nil, "one", http.StatusOK},
		"first":        {[]string{"one"}, "one", http.StatusOK},
		"second":       {[]string{"two"}, "two", http.StatusOK},
		"no such":      {[]string{"three"}, "APP_DENIED", http.StatusForbidden},
		"upper case":   {[]string{"Two"}, "APP_DENIED", http.StatusForbidden},
		"two in one":   {[]string{"one,two"}, "APP_DENIED", http.StatusForbidden},
		"twice":        {[]string{"two", "two"}, "INVALID_REQUEST", http.StatusBadRequest},
		"two":          {[]string{"one", "two"}, "INVALID_REQUEST", http.StatusBadRequest},
		"empty":        {[]string{""}, "INVALID_REQUEST", http.StatusBadRequest},
		"empty, twice": {[]string{"", "two"}, "INVALID_REQUEST", http.StatusBadRequest},
	} {
		md := metadata.MD{}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(aliceBob), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range c.values {
			md.Append(callinfo.AppHeader, value)
			req.Header.Add(callinfo.AppHeader, value)
		}
		seen = ""
		if _, err = r.get(metadata.NewOutgoingContext(t.Context(), md), "a|1|b"); err != nil {
			seen, _ = reasonOf(t, err)
		}
		if seen != c.want {
			t.Errorf("%s, gRPC: %s, want %s", name, seen, c.want)
		}
		seen = ""
		response, err := r.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != c.status || seen != c.want && !strings.Contains(string(body), `"reason":"`+c.want+`"`) {
			t.Errorf("%s, REST: %s, %d %s, %v", name, seen, response.StatusCode, body, err)
		}
	}
	if lines := r.logs.with(t, `"app":"two"`); len(lines) != 2 {
		t.Errorf("%d lines name the second app", len(lines))
	}
}

// TestAppsOfCaller tells what the rights of a caller do to the choice.
func TestAppsOfCaller(t *testing.T) {
	conn := new(upstream.Conn)
	a := &apps{names: []string{"one", "two", "three"}, conns: map[string]*upstream.Conn{"one": conn, "two": conn, "three": conn}}
	onlyLater := func(name string) bool { return name != "one" }
	for _, c := range []struct {
		wish     string
		mayUse   func(string) bool
		fallback string
		want     string
	}{
		{"", nil, "", "one"},
		{"three", nil, "", "three"},
		{"", onlyLater, "two", "two"},
		{"three", onlyLater, "two", "three"},
		{"one", onlyLater, "two", ""},
		{"four", onlyLater, "two", ""},
		{"", onlyLater, "", ""},
		{"", nil, "gone", ""},
	} {
		got, err := a.pick(c.wish, c.fallback, c.mayUse)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
	if err := a.Invoke(t.Context(), "/m", nil, nil); err == nil || !strings.Contains(err.Error(), "no app") {
		t.Errorf("a call for no app: %v", err)
	}
}

// TestAppsAreApart checks that neither a quota nor an outage of one app is the
// other's, and whose metrics are whose.
func TestAppsAreApart(t *testing.T) {
	worlds := []*world{newWorld(t, "one"), newWorld(t, "two")}
	r := startApps(t, worlds, "    quotas: {GetMessage: 1/min, GetConversation: unlimited}\n    plan: unlimited\n", "--merge-reads=never", "--share-reads=false")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	get := func(app string) string {
		_, err := imv1.NewMessageServiceClient(r.conn).GetMessage(in(ctx, app), &imv1.GetMessageRequest{
			ConversationId: "alice|1|bob", MessageServerId: 1, MessageTime: timestamppb.New(time.UnixMilli(1)),
		})
		if err == nil {
			return ""
		}
		reason, _ := reasonOf(t, err)
		return reason
	}
	first := get("one")
	if again := get("one"); first == "QUOTA_EXCEEDED" || again != "QUOTA_EXCEEDED" {
		t.Errorf("quota of one: %s, then %s", first, again)
	}
	if reason := get("two"); reason != first {
		t.Errorf("quota of two: %s", reason)
	}
	worlds[0].answer.Store("not an envelope")
	for range 3 {
		if _, err := r.doIn(ctx, "one", http.MethodGet, aliceBob, ""); err == nil {
			t.Error("one answers")
		}
		if _, err := r.doIn(ctx, "two", http.MethodGet, aliceBob, ""); err != nil && !strings.Contains(err.Error(), "not exist") {
			t.Errorf("two: %v", err)
		}
	}
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "yunxin_facade_upstream_") {
			continue
		}
		for _, w := range worlds {
			found[family.GetName()+" "+w.name] = slices.ContainsFunc(family.GetMetric(), func(m *dto.Metric) bool {
				return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "app" && l.GetValue() == w.name })
			})
		}
	}
	if len(found) < 10 {
		t.Errorf("metrics %v", found)
	}
	for name, ok := range found {
		if !ok && name != "yunxin_facade_upstream_refusals_total two" {
			t.Errorf("no metric %s", name)
		}
	}
}

// TestSecretOfApp checks that a secret that is read again is that of its app.
func TestSecretOfApp(t *testing.T) {
	worlds := []*world{newWorld(t, "one"), newWorld(t, "two")}
	r := startApps(t, worlds, "", "--share-reads=false")
	calls := func(w *world) int64 {
		before := w.calls.Load()
		if _, err := r.doIn(t.Context(), w.name, http.MethodGet, "/v1/accounts/alice/unread_count", ""); err != nil {
			t.Error(err)
		}
		return w.calls.Load() - before
	}
	files := r.watched
	file := files[1].paths()[0]
	for _, step := range []struct {
		content  string
		one, two int64
		problem  string
	}{
		{"secret-two\n", 1, 1, ""},
		{"hunter2\n", 1, 2, ""}, // the upstream does not know it yet
		{"\n", 1, 1, "the secret of app two"},
	} {
		write(t, file, step.content)
		if err := files[1].load(); (err == nil) != (step.problem == "") || err != nil && !strings.Contains(err.Error(), step.problem) {
			t.Errorf("%q: %v", step.content, err)
		}
		if one, two := calls(worlds[0]), calls(worlds[1]); one != step.one || two != step.two {
			t.Errorf("%q: %d and %d requests", step.content, one, two)
		}
	}
	if len(files) != 2 || strings.Contains(r.logs.String(), "hunter2") {
		t.Errorf("%d files; logged %s", len(files), r.logs.String())
	}
}

// TestHeadersOutsideASCII checks that what metadata cannot carry is the caller's
// mistake, and not ours.
func TestHeadersOutsideASCII(t *testing.T) {
	h := &handlers{get: echo}
	r := start(t, h.api())
	for _, header := range []string{callinfo.AppHeader, callinfo.KeyHeader} {
		for _, value := range []string{"é", "\xff", "a\tb"} {
			r.do(t, http.MethodGet, aliceBob, http.NoBody, header, value).failure(t, http.StatusBadRequest, "INVALID_REQUEST")
		}
	}
}

// TestAppsOfCallersFile checks that a caller uses the apps that the callers file
// says, the first of them unless the call names another.
func TestAppsOfCallersFile(t *testing.T) {
	var seen string
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		seen = callinfo.From(ctx).App()
		return echo(ctx, req)
	}}
	worlds := []*world{newWorld(t, "one"), newWorld(t, "two"), newWorld(t, "three")}
	r := startApps(t, worlds, "")
	key, entry := newKey(t)
	callers := write(t, filepath.Join(t.TempDir(), "callers.yaml"), "callers:\n- name: crm\n  apps: [two, three]\n  accounts: ['*']\n  scopes: ['*']\n  keys:\n  - "+entry)
	r = start(t, h.api(), "--sandbox=false", "--apps-file="+r.cfg.AppsFile, "--callers-file="+callers)
	for wish, want := range map[string]string{"": "two", "two": "two", "three": "three", "one": "APP_DENIED", "four": "APP_DENIED"} {
		ctx := metadata.AppendToOutgoingContext(in(t.Context(), wish), callinfo.APIKeyHeader, key)
		seen = ""
		if _, err := r.get(ctx, "a|1|b"); err != nil {
			seen, _ = reasonOf(t, err)
		}
		if seen != want {
			t.Errorf("%q, gRPC: %s, want %s", wish, seen, want)
		}
		headers := []string{callinfo.APIKeyHeader, key}
		if wish != "" {
			headers = append(headers, callinfo.AppHeader, wish)
		}
		seen = ""
		if a := r.do(t, http.MethodGet, aliceBob, http.NoBody, headers...); seen != want && !strings.Contains(a.body, `"reason":"`+want+`"`) {
			t.Errorf("%q, REST: %s, %s, want %s", wish, seen, a.body, want)
		}
	}
}

package server

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/testca"
)

// Who is taken off the list is out at the next call, on connections that exist; and
// a list that is broken changes nothing.
func TestCallersFileSwap(t *testing.T) {
	first, firstEntry := newKey(t)
	second, secondEntry := newKey(t)
	list := func(name, entry string) string {
		return "callers: [{name: " + name + ", scopes: ['*'], keys: [" + entry + "]}]"
	}
	file := write(t, filepath.Join(t.TempDir(), "callers"), list("first", firstEntry))
	r := start(t, echoAPI(), "--callers-file="+file)
	code := func(key string) codes.Code {
		_, err := r.get(as(t.Context(), "x-api-key", key), "a|1|b")
		return status.Code(err)
	}
	if code(first) != codes.OK || code(second) != codes.Unauthenticated {
		t.Fatal("the list is not in force")
	}
	write(t, file, "callers: [{name: second, scopes: [nonsense]}]")
	r.awaitLog(t, "what was read before stays in force")
	if code(first) != codes.OK {
		t.Error("a broken list is in force")
	}
	write(t, file, list("second", secondEntry))
	await(t, "the second list", func() bool { return code(second) == codes.OK })
	if code(first) != codes.Unauthenticated {
		t.Error("who was taken off the list may still call")
	}
	if a := r.do(t, http.MethodGet, aliceBob, http.NoBody, "x-api-key", first); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("REST: %d", a.StatusCode)
	}
	if banner := r.Banner(); !strings.Contains(banner, file) {
		t.Errorf("the banner does not say who may call:\n%s", banner)
	}
}

func TestAppSecretSwap(t *testing.T) {
	var sum atomic.Pointer[string]
	yunxin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := r.Header.Get("Nonce") + r.Header.Get("CurTime") + " " + r.Header.Get("CheckSum")
		sum.Store(&text)
		_, _ = io.WriteString(w, `{"code":200,"msg":"success","data":{"conversation_id":"a|1|b"}}`)
	}))
	defer yunxin.Close()
	file := write(t, filepath.Join(t.TempDir(), "secret"), "old\n")
	cfg, err := config.Parse([]string{
		"--endpoint=" + yunxin.URL, "--app-key=k", "--app-secret-file=" + file, "--log-format=json",
		"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := launch(t, realAPI, nil, cfg)
	signedBy := func(secret string) bool {
		if _, err := r.get(t.Context(), "a|1|b"); err != nil {
			t.Fatal(err)
		}
		text, got, _ := strings.Cut(*sum.Load(), " ")
		want := sha1.Sum([]byte(secret + text))
		return got == hex.EncodeToString(want[:])
	}
	if !signedBy("old") {
		t.Fatal("the secret is not in force")
	}
	write(t, file, "\n")
	r.awaitLog(t, "what was read before stays in force")
	if !signedBy("old") {
		t.Error("an empty file is in force")
	}
	write(t, file, "new\n")
	await(t, "the new secret", func() bool { return signedBy("new") })
	if logs := r.logs.String(); strings.Contains(logs, `"new"`) || strings.Contains(logs, `"old"`) {
		t.Error("the log holds a secret")
	}
}

// record is a line of the audit file.
type record struct {
	Caller   string   `json:"caller"`
	App      string   `json:"app"`
	Method   string   `json:"method"`
	Accounts []string `json:"accounts"`
	Door     string   `json:"door"`
	Address  string   `json:"address"`
	Code     string   `json:"code"`
	Reason   string   `json:"reason"`
}

func readAudit(t *testing.T, path string) []record {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	var all []record
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var one record
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		all = append(all, one)
	}
	return all
}

// Every call of the API is written down, over both doors, however it ends.
func TestAudit(t *testing.T) {
	key, entry := newKey(t)
	f := newFiles(t, testca.New(t, nil))
	write(t, f.callers, "callers: [{name: bound, scopes: [conversations.read, messages.send], accounts: [alice], keys: ["+entry+"]}]")
	h := &handlers{get: echo, send: func(context.Context, *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) {
		return &imv1.SendMessageResponse{}, nil
	}}
	r := start(t, h.api(), "--callers-file="+f.callers, "--audit-file="+f.audit)
	_, _ = r.get(t.Context(), "alice|1|bob")
	_, _ = r.get(as(t.Context(), "x-api-key", key), "alice|1|bob")
	_, _ = r.get(as(t.Context(), "x-api-key", key), "bob|1|alice")
	r.do(t, http.MethodGet, aliceBob, http.NoBody)
	r.do(t, http.MethodGet, aliceBob, http.NoBody, "x-api-key", key)
	r.do(t, http.MethodPost, aliceBob+"/messages", strings.NewReader(`{"message":{"content":{"text":"hunter2"}}}`), "x-api-key", key)
	r.do(t, http.MethodPost, aliceBob+"/messages", strings.NewReader("{hunter2"), "x-api-key", key)
	r.do(t, http.MethodDelete, aliceBob, http.NoBody, "x-api-key", key)
	r.do(t, http.MethodGet, "/v1/nope", http.NoBody, "x-api-key", key) // is no call of the API
	r.do(t, http.MethodGet, "/docs/", http.NoBody)
	// Nor are these, but who tries keys tries them there too.
	for _, method := range []string{"/grpc.x/y", "/x.y/z", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} {
		_ = r.conn.Invoke(as(t.Context(), "x-api-key", "stolen"), method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	await(t, "the records", func() bool { return r.audit.Stats().Written == 11 })
	r.shows(t, `yunxin_facade_audit_records_total{outcome="written"} 11`, `yunxin_facade_audit_records_total{outcome="lost"} 0`)
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	const get, send, remove = "ConversationService/GetConversation", "MessageService/SendMessage", "ConversationService/DeleteConversation"
	want := []string{
		"grpc  " + get + " Unauthenticated CREDENTIAL_MISSING ",
		"grpc bound " + get + " OK  alice",
		"grpc bound " + get + " PermissionDenied ACCOUNT_DENIED bob",
		"rest  " + get + " Unauthenticated CREDENTIAL_MISSING ",
		"rest bound " + get + " OK  alice",
		"rest bound " + send + " OK  alice",
		"rest bound " + send + " InvalidArgument MALFORMED_BODY ",
		"rest bound " + remove + " PermissionDenied SCOPE_DENIED ",
		"grpc  /grpc.x/y Unauthenticated CREDENTIAL_INVALID ",
		"grpc  /x.y/z Unauthenticated CREDENTIAL_INVALID ",
		"grpc  /grpc.reflection.v1.ServerReflection/ServerReflectionInfo Unauthenticated CREDENTIAL_INVALID ",
	}
	got := []string{}
	for _, one := range readAudit(t, f.audit) {
		got = append(got, fmt.Sprint(one.Door, " ", one.Caller, " ", strings.TrimPrefix(one.Method, "/yunxin.im.v1."), " ", one.Code, " ", one.Reason, " ", strings.Join(one.Accounts, ",")))
		if one.Address != "127.0.0.1" || one.Code == "OK" && one.App != "default" {
			t.Errorf("%+v", one)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	data, err := os.ReadFile(f.audit)
	if err != nil || strings.Contains(string(data), "hunter2") || strings.Contains(string(data), key[:12]) {
		t.Errorf("the file holds what was said: %s, %v", data, err)
	}
}

func TestSecurityStartErrors(t *testing.T) {
	f := newFiles(t, testca.New(t, nil))
	bad := write(t, filepath.Join(t.TempDir(), "bad"), "callers: [{name: UPPER, scopes: [nope]}]")
	for want, flags := range map[string][]string{
		"there is no scope":         {"--callers-file=" + bad},
		"begins with a small":       {"--callers-file=" + bad}, // all problems at once
		"--callers-file: ":          {"--callers-file=/nowhere"},
		"--tls-cert-file: ":         {"--tls-cert-file=/nowhere", "--tls-key-file=" + f.key},
		"--client-ca-file: ":        append(f.tls(), "--client-ca-file=/nowhere", "--callers-file="+f.callers),
		"--audit-file: ":            {"--audit-file=/nowhere/x"},
		"and --tls-key-file " + bad: {"--tls-cert-file=" + f.cert, "--tls-key-file=" + bad},
	} {
		cfg := settings(t, flags...)
		if _, err := New(cfg, cfg.Logger(new(logs))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

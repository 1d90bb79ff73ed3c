package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
)

// callUnderTest is one call of the API, over both doors.
type callUnderTest struct {
	field  string // that names the account
	grpc   func(ctx context.Context, conn *grpc.ClientConn, account string) error
	method string // of HTTP
	path   string // with %s for the account
	body   string
}

// drain reads a stream to its end.
func drain[T any](stream grpc.ServerStreamingClient[T], err error) error {
	for err == nil {
		_, err = stream.Recv()
	}
	if err == io.EOF { //nolint:errorlint // as the stream returns it
		return nil
	}
	return err
}

var callsUnderTest = map[string]callUnderTest{
	"GetConversation": {
		field: "conversation_id",
		grpc: func(ctx context.Context, conn *grpc.ClientConn, account string) error {
			_, err := imv1.NewConversationServiceClient(conn).GetConversation(ctx, &imv1.GetConversationRequest{ConversationId: account + "|1|carol"})
			return err
		},
		method: http.MethodGet, path: "/v1/conversations/%s%%7C1%%7Ccarol",
	},
	"BatchGetConversations": {
		field: "conversation_ids",
		grpc: func(ctx context.Context, conn *grpc.ClientConn, account string) error {
			_, err := imv1.NewConversationServiceClient(conn).BatchGetConversations(ctx, &imv1.BatchGetConversationsRequest{
				ConversationIds: []string{"alice|1|bob", account + "|1|carol"},
			})
			return err
		},
		method: http.MethodPost, path: "/v1/conversations:batchGet",
		body: `{"conversation_ids":["alice|1|bob","%s|1|carol"]}`,
	},
	"SendMessage": {
		field: "conversation_id",
		grpc: func(ctx context.Context, conn *grpc.ClientConn, account string) error {
			_, err := imv1.NewMessageServiceClient(conn).SendMessage(ctx, &imv1.SendMessageRequest{
				ConversationId: account + "|1|carol",
				Message:        &imv1.NewMessage{Content: &imv1.MessageContent{Kind: &imv1.MessageContent_Text{Text: "hi"}}},
			})
			return err
		},
		method: http.MethodPost, path: "/v1/conversations/%s%%7C1%%7Ccarol/messages",
		body: `{"message":{"content":{"text":"hi"}}}`,
	},
	"StreamConversations": {
		field: "account_id",
		grpc: func(ctx context.Context, conn *grpc.ClientConn, account string) error {
			return drain(imv1.NewConversationServiceClient(conn).StreamConversations(ctx, &imv1.ListConversationsRequest{AccountId: account}))
		},
		method: http.MethodGet, path: "/v1/conversations:stream?account_id=%s",
	},
}

// rest makes the call over REST.
func (c callUnderTest) rest(t *testing.T, r *running, account string, headers ...string) answer {
	t.Helper()
	path, body := c.path, c.body
	if strings.Contains(path, "%s") {
		path = fmt.Sprintf(path, account)
	} else {
		body = fmt.Sprintf(body, account)
	}
	return r.do(t, c.method, path, strings.NewReader(body), headers...)
}

// Who shows what, and what becomes of it, is the same over both doors.
func TestAccess(t *testing.T) {
	key, entry := newKey(t)
	wrong, _ := newKey(t)
	old, oldEntry := newKey(t)
	idle, idleEntry := newKey(t)
	bound, boundEntry := newKey(t)
	forged := key[:len(key)-43] + wrong[len(wrong)-43:] // a known id, and another secret
	file := write(t, filepath.Join(t.TempDir(), "callers"), `callers:
- {name: all, scopes: ['*'], keys: [`+entry+`]}
- {name: gone, scopes: ['*'], expires: 2020-01-01T00:00:00Z, keys: [`+oldEntry+`]}
- {name: idle, scopes: [read_receipts.read], keys: [`+idleEntry+`]}
- {name: bound, scopes: ['*'], accounts: [alice], keys: [`+boundEntry+`]}
`)
	r := start(t, realAPI, "--callers-file="+file, "--log-level=debug")
	for _, account := range []string{"alice", "bob"} { // conversations that can be found
		if err := callsUnderTest["SendMessage"].grpc(as(t.Context(), "x-api-key", key), r.conn, account); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		headers []string
		account string
		reason  string
	}{
		"none":             {nil, "alice", "CREDENTIAL_MISSING"},
		"empty":            {[]string{"authorization", ""}, "alice", "CREDENTIAL_INVALID"},
		"wrong":            {[]string{"x-api-key", wrong}, "alice", "CREDENTIAL_INVALID"},
		"forged":           {[]string{"x-api-key", forged}, "alice", "CREDENTIAL_INVALID"},
		"basic":            {[]string{"authorization", "Basic " + key}, "alice", "CREDENTIAL_INVALID"},
		"two":              {[]string{"x-api-key", key, "authorization", "Bearer " + key}, "alice", "CREDENTIAL_INVALID"},
		"twice":            {[]string{"x-api-key", key, "x-api-key", key}, "alice", "CREDENTIAL_INVALID"},
		"twice, bearer":    {[]string{"authorization", "Bearer " + key, "authorization", "Bearer " + key}, "alice", "CREDENTIAL_INVALID"},
		"long":             {[]string{"authorization", "Bearer " + strings.Repeat("x", 12<<10)}, "alice", "CREDENTIAL_INVALID"},
		"expired":          {[]string{"x-api-key", old}, "alice", "CREDENTIAL_EXPIRED"},
		"other scope":      {[]string{"x-api-key", idle}, "alice", "SCOPE_DENIED"},
		"other account":    {[]string{"x-api-key", bound}, "bob", "ACCOUNT_DENIED"},
		"own account":      {[]string{"x-api-key", bound}, "alice", ""},
		"key":              {[]string{"x-api-key", key}, "bob", ""},
		"key, as a bearer": {[]string{"Authorization", "bearer " + key}, "bob", ""},
	} {
		for method, call := range callsUnderTest {
			t.Run(name+"/"+method, func(t *testing.T) {
				err := call.grpc(as(t.Context(), c.headers...), r.conn, c.account)
				a := call.rest(t, r, c.account, c.headers...)
				if c.reason == "" {
					if err != nil || a.StatusCode != http.StatusOK {
						t.Errorf("%v, %d %s", err, a.StatusCode, a.body)
					}
					return
				}
				r.denied(t, call, err, a, c.reason)
			})
		}
	}
	for _, secret := range []string{key, wrong, old, idle, bound, forged} {
		if strings.Contains(r.logs.String(), secret[len(secret)-43:]) {
			t.Error("the log holds a part of a key")
		}
	}
}

// denied makes sure that both doors refuse in the same words, and that the cause is
// in the log only.
func (r *running) denied(t *testing.T, call callUnderTest, err error, a answer, reason string) {
	t.Helper()
	want, code := http.StatusForbidden, codes.PermissionDenied
	if strings.HasPrefix(reason, "CREDENTIAL_") {
		want, code = http.StatusUnauthorized, codes.Unauthenticated
	}
	f := a.failure(t, want, reason)
	if got := a.Header.Values("WWW-Authenticate"); (want == http.StatusUnauthorized) != (fmt.Sprint(got) == "[Bearer]") {
		t.Errorf("WWW-Authenticate: %v", got)
	}
	if err == nil {
		t.Fatal("gRPC did it")
	}
	got, id := reasonOf(t, err)
	if got != reason || status.Code(err) != code || status.Convert(err).Message() != f.Message {
		t.Errorf("gRPC says %v, REST %s", err, a.body)
	}
	bad, _ := detail[*errdetails.BadRequest](status.Convert(err))
	fields := []string{}
	for _, v := range bad.GetFieldViolations() {
		fields = append(fields, v.GetField())
	}
	if fmt.Sprint(fields) != fmt.Sprint(f.fields()) || (reason == "ACCOUNT_DENIED") != (fmt.Sprint(fields) == "["+call.field+"]") {
		t.Errorf("fields %v over gRPC, %v over REST", fields, f.fields())
	}
	for door, id := range map[string]string{callinfo.GRPC: id, callinfo.REST: a.Header.Get("X-Trace-Id")} {
		lines := r.logs.with(t, id)
		if len(lines) != 1 || lines[0]["reason"] != reason || lines[0]["door"] != door || (want == http.StatusUnauthorized) != (lines[0]["cause"] != nil) {
			t.Errorf("logged %v", lines)
		}
	}
}

// What the gateway says of a call nobody else can say.
func TestForgedHeaders(t *testing.T) {
	key, entry := newKey(t)
	file := write(t, filepath.Join(t.TempDir(), "callers"), "callers: [{name: all, scopes: ['*'], keys: ["+entry+"]}]")
	g := newGate()
	r := start(t, g.api(), "--callers-file="+file)
	var id string
	g.get = func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		if info := callinfo.From(ctx); info.Door == callinfo.REST {
			id = info.TraceID
			if md, _ := metadata.FromIncomingContext(ctx); len(md) > 0 {
				t.Errorf("headers became metadata: %v", md)
			}
		}
		g.entered <- struct{}{}
		<-g.release
		return echo(ctx, req)
	}
	done := make(chan int, 1)
	go func() {
		done <- r.do(t, http.MethodGet, aliceBob, http.NoBody, "authorization", "Bearer "+key, "x-forwarded-host", "evil."+key).StatusCode
	}()
	<-g.entered // a call of somebody is on its way, and id is its trace id

	for _, prefix := range []string{"", "grpc-metadata-", "grpcgateway-", "x-"} {
		forged := []string{}
		for header, value := range map[string]string{
			callinfo.TraceHeader: id, "x-rest-caller": "all", "x-rest-timeout": "1m", "x-rest-credentials": key, "authorization-bin": key,
		} {
			forged = append(forged, prefix+header, value)
		}
		if prefix != "" {
			forged = append(forged, prefix+"authorization", "Bearer "+key, prefix+"x-api-key", key)
		}
		_, err := r.get(as(t.Context(), forged...), "a|1|b")
		if reason, _ := reasonOf(t, err); reason != "CREDENTIAL_MISSING" {
			t.Errorf("gRPC, %q: %v", prefix, err)
		}
		r.do(t, http.MethodGet, aliceBob, http.NoBody, forged...).failure(t, http.StatusUnauthorized, "CREDENTIAL_MISSING")
	}
	close(g.release)
	if code := <-done; code != http.StatusOK {
		t.Errorf("%d", code)
	}
}

// Without credentials nothing of a request is read, and only what is refused anyway
// comes first.
func TestUnauthenticatedCostsLittle(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "callers"), "callers: []")
	r := start(t, realAPI, "--callers-file="+file)
	never, feed := io.Pipe() // a body that does not come
	defer feed.Close()       //nolint:errcheck // a test's pipe
	r.do(t, http.MethodPost, aliceBob+"/messages", never).failure(t, http.StatusUnauthorized, "CREDENTIAL_MISSING")
	r.do(t, http.MethodPost, "/v1/conversations?bogus=1", strings.NewReader("{nonsense")).failure(t, http.StatusUnauthorized, "CREDENTIAL_MISSING")
	r.do(t, http.MethodGet, "/v1/nope", http.NoBody).failure(t, http.StatusNotFound, "ROUTE_NOT_FOUND")
	_, err := r.get(t.Context(), "nonsense")
	if reason, _ := reasonOf(t, err); reason != "CREDENTIAL_MISSING" {
		t.Errorf("%v", err)
	}
	// A door that is full refuses before it asks who is there.
	r.chain.admission.calls.Add(r.chain.admission.most)
	defer r.chain.admission.calls.Add(-r.chain.admission.most)
	if _, err = r.get(t.Context(), "a|1|b"); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	r.do(t, http.MethodGet, aliceBob, http.NoBody).failure(t, http.StatusServiceUnavailable, "OVERLOADED")
}

func TestInfrastructureAccess(t *testing.T) {
	key, entry := newKey(t)
	file := write(t, filepath.Join(t.TempDir(), "callers"), "callers: [{name: idle, scopes: [], accounts: [], keys: ["+entry+"]}]")
	r := start(t, realAPI, "--callers-file="+file)
	if _, err := grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	if a := r.do(t, http.MethodGet, "/docs/", http.NoBody); a.StatusCode != http.StatusOK {
		t.Errorf("%d", a.StatusCode)
	}
	reflect := func(ctx context.Context) error {
		stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		list := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
		_ = stream.Send(list) // why it fails, the answer tells
		_ = stream.CloseSend()
		return drain(stream, nil)
	}
	if err := reflect(as(t.Context(), "x-api-key", key)); err != nil {
		t.Error(err)
	}
	if err := reflect(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v", err)
	}
	for method, want := range map[string]codes.Code{
		"/yunxin.im.v1.MessageService/Nope": codes.Unimplemented, "/grpc.nope/Nope": codes.Unimplemented,
		"/yunxin.im.v1.ConversationService/GetConversation": codes.PermissionDenied,
	} {
		if err := r.conn.Invoke(t.Context(), method, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", method, err)
		}
		if err := r.conn.Invoke(as(t.Context(), "x-api-key", key), method, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != want {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestDocsOff(t *testing.T) {
	r := start(t, realAPI, "--no-docs")
	for _, path := range []string{"/", "/docs", "/docs/", "/openapi.json"} {
		r.do(t, http.MethodGet, path, http.NoBody).failure(t, http.StatusNotFound, "ROUTE_NOT_FOUND")
	}
	if strings.Contains(r.Banner(), "docs") {
		t.Error("the banner names a page that is not there")
	}
}

// Callers take turns by their names, wherever they call from.
func TestFairnessByName(t *testing.T) {
	key, entry := newKey(t)
	file := write(t, filepath.Join(t.TempDir(), "callers"), "callers: [{name: alpha, scopes: ['*'], keys: ["+entry+"]}]")
	var seen string
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		seen = callers(ctx)
		return echo(ctx, req)
	}}
	r := start(t, h.api(), "--callers-file="+file)
	if _, err := r.get(as(t.Context(), "x-api-key", key), "a|1|b"); err != nil || seen != "alpha" {
		t.Errorf("gRPC: %s, %v", seen, err)
	}
	seen = ""
	r.do(t, http.MethodGet, aliceBob, http.NoBody, "x-api-key", key)
	if seen != "alpha" {
		t.Errorf("REST: %s", seen)
	}
}

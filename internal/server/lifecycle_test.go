package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/service"
)

var realAPI = api{
	register: func(r grpc.ServiceRegistrar, up *apps) error {
		return service.Register(r, up, service.Options{})
	},
	routes: service.RegisterGateway,
}

func (r *running) admin(t testing.TB, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.listeners.admin.Addr().String()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// await polls until the server says that it drains.
func (r *running) awaitDraining(t testing.TB) {
	t.Helper()
	for r.admin(t, "/readyz") == http.StatusOK {
		if t.Context().Err() != nil {
			t.Fatal("still ready")
		}
	}
}

func TestSandboxServesBothDoors(t *testing.T) {
	r := start(t, realAPI)
	sent := r.do(t, http.MethodPost, aliceBob+"/messages", strings.NewReader(`{"message":{"content":{"text":"hi"}}}`))
	if sent.StatusCode != http.StatusOK || !strings.Contains(sent.body, `"text":"hi"`) {
		t.Fatalf("%d %s", sent.StatusCode, sent.body)
	}
	got, err := imv1.NewConversationServiceClient(r.conn).GetConversation(t.Context(), &imv1.GetConversationRequest{ConversationId: "bob|1|alice"})
	if err != nil {
		t.Fatal(err)
	}
	if id := got.GetConversation().GetConversationId(); id != "bob|1|alice" {
		t.Errorf("got %q", id)
	}
	for _, path := range []string{"/livez", "/readyz", "/version"} {
		if code := r.admin(t, path); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestHealthAndReflection(t *testing.T) {
	r := start(t, realAPI)
	for _, name := range []string{"", "yunxin.im.v1.MessageService"} {
		reply, err := grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil || reply.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", name, reply, err)
		}
	}
	stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(list); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil || !strings.Contains(reply.String(), "yunxin.im.v1.MessageService") {
		t.Errorf("%v, %v", reply, err)
	}
	if lines := r.logs.with(t, "grpc.health"); len(lines) != 0 {
		t.Errorf("health checks fill the log: %v", lines)
	}
}

// TestHealthIsBounded checks that who watches, without any credential, can take
// little memory: names are short, and there are so many streams at most.
func TestHealthIsBounded(t *testing.T) {
	r := start(t, (&handlers{}).api(), "--max-in-flight=1")
	r.chain.admission.infrastructure.most = 2
	client := grpc_health_v1.NewHealthClient(r.conn)
	long := &grpc_health_v1.HealthCheckRequest{Service: strings.Repeat("x", infrastructureBytes)}
	if _, err := client.Check(t.Context(), long); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a long name: %v", err)
	}
	watch := func(request *grpc_health_v1.HealthCheckRequest) error {
		stream, err := client.Watch(t.Context(), request)
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := watch(long); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a long name, watched: %v", err)
	}
	for range 2 {
		if err := watch(&grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
	}
	if err := watch(&grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("one stream too many: %v", err)
	}
}

// TestHealthOff checks that health checks can be switched off.
func TestHealthOff(t *testing.T) {
	r := start(t, (&handlers{}).api(), "--no-health")
	_, err := grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}

func TestReflectionOff(t *testing.T) {
	r := start(t, realAPI, "--no-reflection")
	stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("reflection answers")
	}
}

func TestShutdownDrains(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		entered <- struct{}{}
		<-release
		return echo(ctx, req)
	}}
	r := start(t, h.api())
	watch, err := grpc_health_v1.NewHealthClient(r.conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	overREST, overGRPC := make(chan int, 1), make(chan error, 1)
	go func() { overREST <- r.do(t, http.MethodGet, aliceBob, http.NoBody).StatusCode }()
	go func() {
		_, err := imv1.NewConversationServiceClient(r.conn).GetConversation(t.Context(), &imv1.GetConversationRequest{ConversationId: "a|1|b"})
		overGRPC <- err
	}()
	<-entered
	<-entered

	r.stop()
	r.awaitDraining(t)
	// The REST call is not done, so gRPC still serves and can be asked.
	check, err := grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || check.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("%v, %v", check, err)
	}
	if code := r.admin(t, "/livez"); code != http.StatusOK {
		t.Errorf("livez: %d", code)
	}
	select {
	case err := <-r.done:
		t.Fatalf("stopped before its calls: %v", err)
	default:
	}
	close(release)
	if code := <-overREST; code != http.StatusOK {
		t.Errorf("the REST call ended with %d", code)
	}
	if err := <-overGRPC; err != nil {
		t.Errorf("the gRPC call ended with %v", err)
	}
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// TestShutdownDelay checks that the doors stay open for a while after load
// balancers are told, and that clients are asked to go.
func TestShutdownDelay(t *testing.T) {
	cfg, logs := settings(t, "--shutdown-delay=5s"), new(logs)
	s, err := build(cfg, cfg.Logger(logs), (&handlers{get: echo}).api())
	if err != nil {
		t.Fatal(err)
	}
	delayed, over := make(chan time.Duration), make(chan time.Time)
	s.after = func(d time.Duration) <-chan time.Time { delayed <- d; return over }
	r := run(t, s, logs, nil)
	if before := r.do(t, http.MethodGet, aliceBob, http.NoBody); before.Close {
		t.Error("clients are asked to go before there is a reason")
	}
	r.stop()
	if d := <-delayed; d != 5*time.Second {
		t.Errorf("the delay is %v", d)
	}
	if code := r.admin(t, "/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d", code)
	}
	check, err := grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || check.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("%v, %v", check, err)
	}
	for range 2 { // the second one over a new connection
		if during := r.do(t, http.MethodGet, aliceBob, http.NoBody); during.StatusCode != http.StatusOK || !during.Close {
			t.Errorf("%d, asked to go: %t", during.StatusCode, during.Close)
		}
	}
	conn := r.dial(t, nil)
	defer conn.Close() //nolint:errcheck // a test's connection
	if _, err := imv1.NewConversationServiceClient(conn).GetConversation(t.Context(), &imv1.GetConversationRequest{ConversationId: "a|1|b"}); err != nil {
		t.Error(err)
	}
	close(over)
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsOff(t *testing.T) {
	for _, door := range []string{callinfo.GRPC, callinfo.REST} {
		t.Run(door, func(t *testing.T) {
			entered, left := make(chan struct{}), make(chan struct{})
			h := &handlers{get: func(ctx context.Context, _ *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
				defer close(left)
				close(entered)
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			r := start(t, h.api(), "--drain-timeout=20ms", "--default-timeout=1h", "--max-timeout=1h")
			failed := make(chan error, 1)
			go func() {
				if door == callinfo.REST {
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(aliceBob), http.NoBody)
					response, err := r.http.Do(req)
					if err == nil && response.StatusCode != http.StatusOK {
						err = errors.New(response.Status)
						response.Body.Close()
					}
					failed <- err
					return
				}
				_, err := r.get(t.Context(), "a|1|b")
				failed <- err
			}()
			<-entered
			r.stop()
			if err := <-r.done; err != nil {
				t.Error(err)
			}
			if err := <-failed; err == nil {
				t.Error("the call did not fail")
			}
			<-left
			if len(r.logs.with(t, "cut off")) != 1 {
				t.Error("not logged")
			}
		})
	}
}

func TestBanner(t *testing.T) {
	r := start(t, realAPI, "--sandbox-addr=127.0.0.1:0")
	banner := r.Banner()
	for _, part := range []string{
		r.listeners.grpc.Addr().String(),
		r.url("/v1/"), r.url("/docs/"),
		r.listeners.admin.Addr().String(),
		r.listeners.sandbox.Addr().String(),
		"nothing leaves this process",
	} {
		if !strings.Contains(banner, part) {
			t.Errorf("the banner does not say %s:\n%s", part, banner)
		}
	}
}

// Names of regions stand for their hosts, as the banner tells.
func TestRegions(t *testing.T) {
	t.Setenv("YUNXIN_APP_SECRET", "s")
	for flag, want := range map[string]string{
		"--app-key=k":                  "https://open.yunxinapi.com, https://open-bak.yunxinapi.com\n",
		"--endpoint=sg,http://x/y":     "https://open-sg.yunxinapi.com, https://open-sg-bak.yunxinapi.com, http://x/y\n",
		"--lbs=http://127.0.0.1:1/lbs": "says: http://127.0.0.1:1/lbs\n",
	} {
		cfg, err := config.Parse([]string{"--app-key=k", "--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0", flag}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(cfg, cfg.Logger(new(logs)))
		if err != nil {
			t.Fatal(err)
		}
		if banner := s.Banner(); !strings.Contains(banner, want) {
			t.Errorf("%s: the banner does not say %s:\n%s", flag, want, banner)
		}
		s.close()
	}
}

func TestSandboxAddrServesOtherClients(t *testing.T) {
	r := start(t, realAPI, "--sandbox-addr=127.0.0.1:0")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.listeners.sandbox.Addr().String()+"/im/v2/conversations/a", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK { // unsigned: the error is in the envelope
		t.Errorf("%d", response.StatusCode)
	}
}

func TestStartErrors(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // a test's listener
	seed := filepath.Join(t.TempDir(), "seed.json")
	if err := os.WriteFile(seed, []byte("{nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"--grpc-addr=" + taken.Addr().String():    "is in use by another program",
		"--sandbox-addr=" + taken.Addr().String(): "--sandbox-addr",
		"--sandbox-seed=" + seed:                  "--sandbox-seed",
	} {
		cfg := settings(t, flag)
		if _, err := New(cfg, cfg.Logger(new(logs))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

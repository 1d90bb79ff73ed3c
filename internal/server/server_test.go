package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server under test, with a client on each door.
type running struct {
	*Server

	conn *grpc.ClientConn
	http *http.Client
	logs *logs
	stop context.CancelFunc // tells Run to end
	done chan error         // what Run returned
}

// handlers stand in for the services. A nil one is not implemented.
type handlers struct {
	imv1.UnimplementedConversationServiceServer
	imv1.UnimplementedMessageServiceServer

	get   func(context.Context, *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error)
	batch func(context.Context, *imv1.BatchGetConversationsRequest) (*imv1.BatchGetConversationsResponse, error)
	send  func(context.Context, *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error)
	read  func(context.Context, *imv1.GetMessageRequest) (*imv1.GetMessageResponse, error)
}

func (h *handlers) GetConversation(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
	return h.get(ctx, req)
}

func (h *handlers) BatchGetConversations(ctx context.Context, req *imv1.BatchGetConversationsRequest) (*imv1.BatchGetConversationsResponse, error) {
	return h.batch(ctx, req)
}

func (h *handlers) SendMessage(ctx context.Context, req *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) {
	return h.send(ctx, req)
}

func (h *handlers) GetMessage(ctx context.Context, req *imv1.GetMessageRequest) (*imv1.GetMessageResponse, error) {
	return h.read(ctx, req)
}

// newTestChain is a chain that is behind no door.
func newTestChain(t testing.TB, log *slog.Logger) *chain {
	t.Helper()
	methods, err := callinfo.NewMethods(service.Descriptors())
	if err != nil {
		t.Fatal(err)
	}
	validator, err := newValidator(methods)
	if err != nil {
		t.Fatal(err)
	}
	return &chain{
		methods: methods, validator: validator, telemetry: newTelemetry(log, newMetrics(prometheus.NewRegistry()), nil),
		admission: newAdmission(1 << 20), arrivals: newArrivals(1 << 20), largest: 1 << 20,
		apps:  &apps{names: []string{"one"}, conns: map[string]*upstream.Conn{"one": new(upstream.Conn)}},
		times: times{time.Second, time.Minute, time.Hour},
	}
}

// call takes a call of GetConversation through the chain.
func (c *chain) call(ctx context.Context, handler func() error) error {
	decode := func(m any) error {
		if request, ok := m.(*imv1.GetConversationRequest); ok {
			request.ConversationId = "a|1|b"
		}
		return nil
	}
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		if err := handler(); err != nil {
			return nil, err
		}
		return echo(ctx, req)
	}}
	const name = "GetConversation"
	for _, m := range imv1.ConversationService_ServiceDesc.Methods {
		if m.MethodName == name {
			_, err := c.unary(imv1.ConversationService_GetConversation_FullMethodName, m.Handler)(h, ctx, decode, nil)
			return err
		}
	}
	return errors.New("no method " + name)
}

func (h *handlers) api(more ...func(*runtime.ServeMux, grpc.ClientConnInterface) error) api {
	return api{
		register: func(r grpc.ServiceRegistrar, _ *apps) error {
			imv1.RegisterConversationServiceServer(r, h)
			imv1.RegisterMessageServiceServer(r, h)
			return nil
		},
		routes: func(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
			for _, add := range more {
				if err := add(mux, conn); err != nil {
					return err
				}
			}
			return service.RegisterGateway(ctx, mux, conn)
		},
	}
}

// settings parses flags on top of a sandbox on free ports.
func settings(t testing.TB, flags ...string) *config.Config {
	t.Helper()
	cfg, err := config.Parse(append([]string{
		"--sandbox", "--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0", "--log-format=json",
	}, flags...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start runs a server until the test ends.
func start(t testing.TB, api api, flags ...string) *running {
	t.Helper()
	return startTLS(t, api, nil, flags...)
}

// startTLS runs a server whose clients have these settings; nil is no TLS.
func startTLS(t testing.TB, api api, client *tls.Config, flags ...string) *running {
	t.Helper()
	return launch(t, api, client, settings(t, flags...))
}

func launch(t testing.TB, api api, client *tls.Config, cfg *config.Config) *running {
	t.Helper()
	logs := new(logs)
	s, err := build(cfg, cfg.Logger(logs), api)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, s, logs, client)
}

func run(t testing.TB, s *Server, logs *logs, client *tls.Config) *running {
	t.Helper()
	r := &running{Server: s, logs: logs, done: make(chan error, 1), http: newHTTPClient(client)}
	r.conn = r.dial(t, client)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		r.http.CloseIdleConnections()
		_ = r.conn.Close()
		cancel()
		<-ended
	})
	return r
}

func newHTTPClient(client *tls.Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: client},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial makes another connection to the gRPC door.
func (r *running) dial(t testing.TB, client *tls.Config) *grpc.ClientConn {
	t.Helper()
	transport := insecure.NewCredentials()
	if client != nil {
		transport = credentials.NewTLS(client)
	}
	conn, err := grpc.NewClient(r.listeners.grpc.Addr().String(), grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (r *running) url(path string) string {
	scheme := "http://"
	if r.identity != nil {
		scheme = "https://"
	}
	return scheme + r.listeners.http.Addr().String() + path
}

// answer is what REST answered.
type answer struct {
	*http.Response

	body string
}

// do sends a request; headers are pairs of names and values.
func (r *running) do(t testing.TB, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url(path), body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	response, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response, string(data)}
}

// failure is an error of either door, in the form of its JSON.
type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Type       string            `json:"@type"`
		Reason     string            `json:"reason"`
		Domain     string            `json:"domain"`
		Metadata   map[string]string `json:"metadata"`
		RetryDelay string            `json:"retry_delay"`
		Violations []struct {
			Field       string `json:"field"`
			Description string `json:"description"`
			Reason      string `json:"reason"`
		} `json:"field_violations"`
	} `json:"details"`
}

// failure checks the form that all errors have, and returns what differs.
func (a answer) failure(t testing.TB, httpStatus int, reason string) failure {
	t.Helper()
	var f failure
	if err := json.Unmarshal([]byte(a.body), &f); err != nil {
		t.Fatalf("%d %q: %v", a.StatusCode, a.body, err)
	}
	if a.StatusCode != httpStatus {
		t.Errorf("HTTP status %d, want %d: %s", a.StatusCode, httpStatus, a.body)
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	if len(f.Details) == 0 || f.Details[0].Type != "type.googleapis.com/google.rpc.ErrorInfo" {
		t.Fatalf("no ErrorInfo: %s", a.body)
	}
	info := f.Details[0]
	if info.Reason != reason || info.Domain != "yunxin-facade" {
		t.Errorf("reason %s of %s, want %s: %s", info.Reason, info.Domain, reason, a.body)
	}
	id := a.Header.Values("X-Trace-Id")
	if len(id) != 1 || len(id[0]) != 32 || id[0] != info.Metadata["trace_id"] {
		t.Errorf("trace id %q in the header, %q in the body", id, info.Metadata["trace_id"])
	}
	return f
}

// fields lists the violations of a failure.
func (f failure) fields() []string {
	var fields []string
	for _, d := range f.Details {
		for _, v := range d.Violations {
			fields = append(fields, v.Field)
		}
	}
	return fields
}

// reasonOf returns the reason and the trace id of a gRPC error.
func reasonOf(t testing.TB, err error) (reason, traceID string) {
	t.Helper()
	info, ok := detail[*errdetails.ErrorInfo](status.Convert(err))
	if !ok {
		t.Fatalf("no ErrorInfo: %v", err)
	}
	return info.GetReason(), info.GetMetadata()["trace_id"]
}

// logs collects what is logged, as JSON lines.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// with returns the lines that hold a text.
func (l *logs) with(t testing.TB, text string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		if !strings.Contains(line, text) {
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		found = append(found, fields)
	}
	return found
}

const aliceBob = "/v1/conversations/alice%7C1%7Cbob"

// echo answers with the id it got.
func echo(_ context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
	return &imv1.GetConversationResponse{Conversation: &imv1.Conversation{ConversationId: req.GetConversationId()}}, nil
}

// detail returns the first detail of a type.
func detail[T proto.Message](s *status.Status) (T, bool) {
	for _, d := range s.Details() {
		if found, ok := d.(T); ok {
			return found, true
		}
	}
	var none T
	return none, false
}

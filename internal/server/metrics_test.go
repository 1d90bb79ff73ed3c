package server

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// counts returns the counters of calls, as "method code door".
func (r *running) counts(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "yunxin_facade_calls_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			found[labels["method"]+" "+labels["code"]+" "+labels["door"]] = metric.GetCounter().GetValue()
		}
	}
	return found
}

func TestMetrics(t *testing.T) {
	g := newGate()
	get := g.get
	g.get = func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		switch req.GetConversationId() {
		case "p|1|p":
			panic("kaboom")
		case "w|1|w":
			return get(ctx, req)
		}
		return echo(ctx, req)
	}
	r := start(t, g.api(), "--max-in-flight=1")
	const (
		getName  = "yunxin.im.v1.ConversationService/GetConversation"
		listName = "yunxin.im.v1.ConversationService/StreamConversations"
		sendName = "yunxin.im.v1.MessageService/SendMessage"
		pieces   = "yunxin.im.v1.MessageService/SendStreamMessage"
	)
	want := map[string]float64{}
	overGRPC := func(id, code string) {
		_, _ = r.get(t.Context(), id)
		want[getName+" "+code+" grpc"]++
	}
	overREST := func(verb, path, body, method, code string) {
		r.do(t, verb, path, strings.NewReader(body))
		want[method+" "+code+" rest"]++
	}
	overGRPC("a|1|b", "OK")
	overGRPC("a|1|b", "OK")
	overGRPC("nonsense", "InvalidArgument")
	overGRPC("p|1|p", "Internal")
	overREST("GET", aliceBob, "", getName, "OK")
	overREST("GET", "/v1/conversations/nonsense", "", getName, "InvalidArgument")
	overREST("GET", "/v1/conversations/p%7C1%7Cp", "", getName, "Internal")
	overREST("GET", aliceBob+"?bogus=1", "", getName, "InvalidArgument")
	overREST("POST", aliceBob+"/messages", "nope", sendName, "InvalidArgument")
	overREST("GET", "/v1/nope", "", "other", "NotFound")
	overREST("PUT", "/v1/conversations", "", "other", "Unimplemented")
	overREST("GET", "/v1/conversations:stream?account_id=a", "", listName, "Unimplemented")
	overREST("POST", "/v1/conversations:sendStreamMessage?bogus=1", "", pieces, "InvalidArgument")
	_ = r.conn.Invoke(t.Context(), "/no.Service/Nope", &emptypb.Empty{}, &emptypb.Empty{})
	want["other Unimplemented grpc"]++
	_, _ = grpc_health_v1.NewHealthClient(r.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})

	waited := make(chan struct{})
	go func() {
		defer close(waited)
		_, _ = r.get(t.Context(), "w|1|w")
	}()
	<-g.entered
	overGRPC("a|1|b", "Unavailable")
	overREST("GET", aliceBob, "", getName, "Unavailable")
	r.shows(t, "yunxin_facade_calls_in_flight 1")
	close(g.release)
	<-waited
	want[getName+" OK grpc"]++

	if got := r.counts(t); !maps.Equal(got, want) {
		t.Errorf("counted\n%v, want\n%v", got, want)
	}
	r.shows(t, "yunxin_facade_calls_in_flight 0",
		`yunxin_facade_calls_total{code="OK",door="grpc",method="`+getName+`"} 3`,
		`yunxin_facade_call_duration_seconds_count{door="grpc",method="`+getName+`"} 6`,
		"go_goroutines ", "process_start_time_seconds ")
	problems, err := testutil.GatherAndLint(r.metrics)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// A body that breaks off in the middle of a stream ends a call that the services
// have seen: it is one call.
func TestBrokenStreamCountsOnce(t *testing.T) {
	r := start(t, realAPI)
	r.do(t, http.MethodPost, "/v1/conversations:sendStreamMessage", strings.NewReader(`{"start":{"conversation_id":"alice|1|bob"},"text":"a"}`+"\n{"))
	var total float64
	for _, n := range r.counts(t) {
		total += n
	}
	if total != 1 {
		t.Errorf("counted %v", r.counts(t))
	}
}

// shows looks for lines on the page of the metrics.
func (r *running) shows(t *testing.T, lines ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.listeners.admin.Addr().String()+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	for _, line := range lines {
		if !strings.Contains(string(page), "\n"+line) {
			t.Errorf("no line %q among\n%s", line, page)
		}
	}
}

// Callers choose names of methods and paths, never the number of time series.
func TestMetricsStayFew(t *testing.T) {
	r := start(t, realAPI)
	for range 10_000 {
		name := fmt.Sprintf("/yunxin.im.v1.MessageService/%x", rand.Uint64())
		_ = r.chain.stream(name, func(any, grpc.ServerStream) error {
			return status.Error(codes.Unimplemented, "no")
		})(nil, &stream{ctx: t.Context()})
	}
	for range 1000 {
		path := fmt.Sprintf("/v1/%x", rand.Uint64())
		verb := fmt.Sprintf("X%x", rand.Uint64())
		r.door.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), verb, path, http.NoBody))
		if err := r.conn.Invoke(t.Context(), path, &emptypb.Empty{}, &emptypb.Empty{}); err == nil {
			t.Error("answered")
		}
	}
	got := r.counts(t)
	if len(got) > 4 {
		t.Errorf("%d series: %v", len(got), slices.Sorted(maps.Keys(got)))
	}
	if n := testutil.CollectAndCount(r.chain.metrics.durations); n > 2 {
		t.Errorf("%d histograms", n)
	}
}

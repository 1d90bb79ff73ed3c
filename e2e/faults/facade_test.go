package faults

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// A facade is a running service.
type facade struct{ harness.Doors }

// Reads that stay apart, so that each call is an attempt of its own.
var apart = []string{"--no-share-reads", "--merge-reads=never"}

// startFacade starts the server in front of the given endpoints, and stops it when
// the test ends.
func startFacade(tb testing.TB, endpoints []string, args ...string) facade {
	tb.Helper()
	return facade{harness.Start(tb, append(harness.Upstream(tb, endpoints...), args...)...)}
}

// metric returns the sum of a metric over its labels, and whether it is there.
func (f facade) metric(ctx context.Context, tb testing.TB, name string) (float64, bool) {
	tb.Helper()
	code, body := fetch(ctx, f.Admin+"/metrics")
	if code != http.StatusOK {
		return 0, false
	}
	sum, found := 0.0, false
	for line := range strings.SplitSeq(body, "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			tb.Fatalf("metric %s: %v", line, err)
		}
		sum, found = sum+value, true
	}
	return sum, found
}

// fetch reads a page over a connection of its own; 0 is none.
func fetch(ctx context.Context, url string) (code int, body string) {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// A caller calls the facade from an address of its own, by which it is known.
type caller struct {
	conversations imv1.ConversationServiceClient
	messages      imv1.MessageServiceClient
	rest          *http.Client
	restURL       string
}

// caller makes a caller with its own connections. On Linux all of 127.0.0.0/8 is
// this machine.
func (f facade) caller(tb testing.TB, number byte) *caller {
	tb.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, number)}}
	conn, err := grpc.NewClient(f.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		tb.Fatal(err)
	}
	rest := &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, DisableCompression: true, MaxIdleConnsPerHost: 512,
	}}
	tb.Cleanup(func() {
		_ = conn.Close()
		rest.CloseIdleConnections()
	})
	return &caller{imv1.NewConversationServiceClient(conn), imv1.NewMessageServiceClient(conn), rest, f.REST}
}

// callers makes callers with the numbers from 1.
func (f facade) callers(tb testing.TB, n int) []*caller {
	tb.Helper()
	all := make([]*caller, n)
	for i := range all {
		all[i] = f.caller(tb, byte(i+1))
	}
	return all
}

// An outcome is what a call came to.
type outcome struct {
	code   codes.Code
	reason string
	wait   time.Duration // how long to wait before repeating it
	again  bool          // whether it may be repeated at all
	err    error         // for messages of tests
}

func (o outcome) ok() bool { return o.code == codes.OK }

func outcomeOf(err error) outcome {
	s := status.Convert(err)
	o := outcome{code: s.Code(), err: err}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			o.reason = d.GetReason()
		case *errdetails.RetryInfo:
			o.wait, o.again = d.GetRetryDelay().AsDuration(), true
		}
	}
	return o
}

// read reads a conversation.
func (c *caller) read(ctx context.Context, conversation string) outcome {
	_, err := c.conversations.GetConversation(ctx, &imv1.GetConversationRequest{ConversationId: conversation})
	return outcomeOf(err)
}

// well waits for a time in which no call fails, which must come.
func (c *caller) well(tb testing.TB) bool {
	tb.Helper()
	return await(tb.Context(), 30*time.Second, func() bool {
		for i := range 10 {
			if !c.readREST(tb.Context(), peer(i), 5*time.Second).ok() {
				return false
			}
		}
		return true
	})
}

// send sends a message, with an idempotency key unless that is empty.
func (c *caller) send(ctx context.Context, key, text string) outcome {
	if key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
	}
	_, err := c.messages.SendMessage(ctx, &imv1.SendMessageRequest{
		ConversationId: "alice|1|bob",
		Message:        &imv1.NewMessage{Content: &imv1.MessageContent{Kind: &imv1.MessageContent_Text{Text: text}}},
	})
	return outcomeOf(err)
}

// readREST reads a conversation over REST. The time-out is for the facade to keep:
// the caller waits for its answer, however long that takes.
func (c *caller) readREST(ctx context.Context, conversation string, timeout time.Duration) outcome {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.restURL+"/v1/conversations/"+strings.ReplaceAll(conversation, "|", "%7C"), http.NoBody)
	if err != nil {
		return outcome{code: codes.Internal, err: err}
	}
	if timeout > 0 {
		r.Header.Set("Grpc-Timeout", strconv.FormatInt(timeout.Microseconds(), 10)+"u")
	}
	response, err := c.rest.Do(r)
	if err != nil {
		return outcome{code: codes.Unavailable, reason: "no answer over HTTP", err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return outcome{code: codes.Unavailable, reason: "half an answer over HTTP", err: err}
	}
	if response.StatusCode == http.StatusOK {
		return outcome{}
	}
	s := &statuspb.Status{}
	if err := protojson.Unmarshal(body, s); err != nil {
		return outcome{code: codes.Internal, reason: "no google.rpc.Status", err: err}
	}
	return outcomeOf(status.FromProto(s).Err())
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

const keyHeader = "idempotency-key"

var greeting = &imv1.SendMessageRequest{
	ConversationId: "alice|1|bob",
	Message: &imv1.NewMessage{Content: &imv1.MessageContent{
		Kind: &imv1.MessageContent_Text{Text: "once"},
	}},
}

// sendREST sends the greeting over REST and returns the HTTP status and body.
func sendREST(t *testing.T, f *facade, keys ...string) (int, string) {
	t.Helper()
	const target = "/v1/conversations/alice%7C1%7Cbob/messages"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.restURL+target,
		strings.NewReader(`{"message":{"content":{"text":"once"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header["Idempotency-Key"] = keys
	response, err := f.client.Do(request)
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

// TestKeySendsOnce sends a message again and again under one key, over both
// doors: it is one message.
func TestKeySendsOnce(t *testing.T) {
	t.Parallel()
	f := startFacade(t, "--sandbox")
	messages := imv1.NewMessageServiceClient(f.conn)
	ctx := metadata.AppendToOutgoingContext(t.Context(), keyHeader, "order-66")
	first, err := messages.SendMessage(ctx, greeting)
	if err != nil {
		t.Fatal(err)
	}
	again, err := messages.SendMessage(ctx, greeting)
	if err != nil || again.GetMessage().GetMessageServerId() != first.GetMessage().GetMessageServerId() {
		t.Errorf("again: %v, %v, want %v", again, err, first)
	}
	code, body := sendREST(t, f, "order-66")
	var reply struct {
		Message struct {
			ID string `json:"message_server_id"`
		} `json:"message"`
	}
	if err := json.Unmarshal([]byte(body), &reply); err != nil || code != http.StatusOK {
		t.Fatalf("HTTP %d %s", code, body)
	}
	if _, other := sendREST(t, f, "order-67"); strings.Contains(other, reply.Message.ID) {
		t.Errorf("another key gave the same message: %s", other)
	}
	unread, err := imv1.NewConversationServiceClient(f.conn).GetUnreadCount(t.Context(), &imv1.GetUnreadCountRequest{AccountId: "bob"})
	if err != nil || unread.GetUnreadCount() != 2 {
		t.Errorf("unread %v, error %v, want one message for each key", unread, err)
	}
}

// TestKeysOfCallers checks that two callers may choose the same key.
func TestKeysOfCallers(t *testing.T) {
	t.Parallel()
	keys, callers := twoCallers(t, "scopes: [messages.send]", "scopes: [messages.send]")
	f := startFacade(t, "--sandbox", callers)
	ids := map[int64]bool{}
	for _, key := range append(keys[:], keys[:]...) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), keyHeader, "order-66", "x-api-key", key)
		reply, err := imv1.NewMessageServiceClient(f.conn).SendMessage(ctx, greeting)
		if err != nil {
			t.Fatal(err)
		}
		ids[reply.GetMessage().GetMessageServerId()] = true
	}
	if len(ids) != 2 {
		t.Errorf("%d messages, want one of each caller", len(ids))
	}
}

// TestKeyOfAMessageInPieces checks that a message in pieces which is begun again
// under its key is known to be the same, however the pieces fall.
func TestKeyOfAMessageInPieces(t *testing.T) {
	t.Parallel()
	f := startFacade(t, "--sandbox")
	send := func(key, text string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), keyHeader, key)
		stream, err := imv1.NewMessageServiceClient(f.conn).SendStreamMessage(ctx)
		if err != nil {
			return err
		}
		start := &imv1.StreamMessageStart{ConversationId: "alice|1|bob"}
		if err := stream.Send(&imv1.SendStreamMessageRequest{Start: start, Text: text}); err != nil {
			return err
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	if err := send("order-66", "the answer"); err != nil {
		t.Fatal(err)
	}
	if err := send("order-66", "the ans"); status.Code(err) != codes.AlreadyExists {
		t.Errorf("again: %v", err)
	}
	if err := send("order-67", "the answer"); err != nil {
		t.Errorf("another key: %v", err)
	}
}

// TestKeyOutlivesALostAnswer checks that a write with a key is repeated when its
// answer is lost, as the same operation, and one without is not.
func TestKeyOutlivesALostAnswer(t *testing.T) {
	t.Parallel()
	for name, ctx := range map[string]context.Context{
		"with a key":    metadata.AppendToOutgoingContext(t.Context(), keyHeader, "k"),
		"without a key": t.Context(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t) //nolint:contextcheck // the server has a context of its own
			var requests atomic.Int32
			r.answerWith(func(w http.ResponseWriter, request *http.Request) {
				if requests.Add(1) == 1 {
					hangUp(w, request)
					return
				}
				_, _ = w.Write([]byte(`{"code":200,"data":{"message_server_id":7}}`))
			})
			_, err := imv1.NewMessageServiceClient(r.conn).SendMessage(ctx, greeting)
			sent := r.take()
			if name == "without a key" {
				if len(sent) != 1 || status.Code(err) != codes.Unknown {
					t.Errorf("%d requests, error %v", len(sent), err)
				}
				return
			}
			if err != nil || len(sent) != 2 {
				t.Fatalf("%d requests, error %v", len(sent), err)
			}
			if sent[0].traceID() != sent[1].traceID() || !bytes.Equal(sent[0].body, sent[1].body) {
				t.Error("the second attempt is another operation")
			}
			if sent[0].header.Get("Nonce") == sent[1].header.Get("Nonce") {
				t.Error("the second attempt has the first one's signature")
			}
		})
	}
}

// TestBadKeys tells which keys are refused, on both doors and before anything is
// sent.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, keys := range map[string][]string{
		"space":    {"a b"},
		"empty":    {""},
		"too long": {strings.Repeat("k", 257)},
		"two":      {"a", "b"},
	} {
		if code, body := sendREST(t, r.facade, keys...); code != http.StatusBadRequest || !strings.Contains(body, keyHeader) {
			t.Errorf("%s, REST: HTTP %d %s", name, code, body)
		}
		ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{keyHeader: keys})
		if _, err := imv1.NewMessageServiceClient(r.conn).SendMessage(ctx, greeting); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s, gRPC: %v", name, err)
		}
	}
	if sent := r.take(); len(sent) != 0 {
		t.Errorf("the upstream got %d requests", len(sent))
	}
}

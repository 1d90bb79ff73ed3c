package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestStreamsFailLate checks that a stream of which a page cannot be read sends
// the pages before it, and then the error of a unary call.
func TestStreamsFailLate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for rpc, request := range map[string]string{
		"ConversationService/StreamConversations": `{"account_id":"alice"}`,
		"MessageService/StreamMessages":           `{"conversation_id":"alice|1|bob","begin_time":"2024-02-04T00:00:00Z","end_time":"2024-02-05T00:00:00Z"}`,
	} {
		m, err := method(rpc)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			third http.HandlerFunc
			want  wantError
		}{
			"refused":      {refuse(403), wantError{Code: "PERMISSION_DENIED", Reason: "FORBIDDEN", UpstreamCode: "403"}},
			"unreadable":   {say(`{"code":200,"data":{"items":7}}`), wantError{Code: "INTERNAL", Reason: "UPSTREAM_REPLY_INVALID"}},
			"a token back": {page("1"), wantError{Code: "INTERNAL", Reason: "UPSTREAM_REPLY_INVALID"}},
		} {
			var both []*outcome
			for _, door := range doorNames {
				r.answerWith(inTurn(page("1"), page("2"), c.third))
				o, err := r.door(door).stream(t.Context(), m, []frame{{json: []byte(request)}})
				if err != nil {
					t.Fatalf("%s, %s, %s: %v", rpc, name, door, err)
				}
				if len(o.replies) != 2 {
					t.Errorf("%s, %s, %s: %d replies: %v", rpc, name, door, len(o.replies), o)
				}
				if err := c.want.verify(o); err != nil {
					t.Errorf("%s, %s, %s: %v", rpc, name, door, err)
				}
				both = append(both, o)
			}
			if err := agree(both[0], both[1]); err != nil {
				t.Errorf("%s, %s: %v", rpc, name, err)
			}
		}
	}
}

// page answers with an empty page that another follows.
func page(next string) http.HandlerFunc {
	return say(fmt.Sprintf(`{"code":200,"data":{"has_more":true,"next_token":%q,"items":[]}}`, next))
}

// inTurn answers with one page after the other, and goes on with the last.
func inTurn(all ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		all[min(int(n.Add(1)), len(all))-1](w, r)
	}
}

// TestPinLimit pins as many conversations as the upstream lets, and one more.
func TestPinLimit(t *testing.T) {
	t.Parallel()
	const most = 100
	accounts := []string{`{"id":"owner"}`}
	for i := range most + 1 {
		accounts = append(accounts, fmt.Sprintf(`{"id":"peer%d"}`, i))
	}
	seed := filepath.Join(t.TempDir(), "seed.json")
	if err := os.WriteFile(seed, []byte(`{"accounts":[`+strings.Join(accounts, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := startFacade(t, "--sandbox", "--sandbox-seed="+seed)
	call := func(door, rpc, peer string) *outcome {
		m, err := method("ConversationService/" + rpc)
		if err != nil {
			t.Fatal(err)
		}
		o, err := f.door(door).call(t.Context(), m, []byte(`{"conversation_id":"owner|1|peer`+peer+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for i := range most + 1 {
		peer, door := fmt.Sprint(i), doorNames[i%len(doorNames)]
		if o := call(door, "CreateConversation", peer); o.status != nil {
			t.Fatal(o)
		}
		if o := call(door, "PinConversation", peer); i < most && o.status != nil {
			t.Fatal(o)
		}
	}
	full := wantError{Code: "FAILED_PRECONDITION", Reason: "CONVERSATION_PIN_LIMIT", UpstreamCode: "110303"}
	for _, door := range doorNames {
		if err := full.verify(call(door, "PinConversation", fmt.Sprint(most))); err != nil {
			t.Errorf("%s: %v", door, err)
		}
		if o := call(door, "PinConversation", "0"); o.status != nil {
			t.Errorf("%s: pinned before: %v", door, o)
		}
	}
	if o := call("grpc", "UnpinConversation", "0"); o.status != nil {
		t.Error(o)
	}
	if o := call("rest", "PinConversation", fmt.Sprint(most)); o.status != nil {
		t.Error(o)
	}
}

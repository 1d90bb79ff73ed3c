package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
)

// hardIDs are ids that something on the way could take for something else.
var hardIDs = []string{
	"alice|1|bob",
	"alice|1|b/ob", "alice|1|/", "/|1|//", "alice/messages|1|bob", "alice|1|bob/messages",
	"alice|1|bob?x=1", "alice|1|bob#top", "alice|1|bob;v=1", "alice|1|a&b=c", "alice|1|a+b", "a=b|1|c",
	"alice|1|50%", "alice|1|%", "alice|1|%%", "alice|1|%7C", "alice|1|%7c", "alice|1|%2F", "alice|1|%252F", "alice|1|%zz", "%2e%2e|1|%2e",
	"alice|1|.", "alice|1|..", "..|1|..", ".|1|.", "alice|1|../../x", "alice|1|a\\b",
	"alice|1|bob:modify", "alice|1|{x}", "alice|1|*", "alice|1|$batch", "alice|1|a@b.c",
	"alice|1|é", "alice|1|e\u0301", "alice|1|中文", "中|1|文", "alice|1|😀", "alice|1|<b>", "alice|1|\"q\"", "alice|1|'q'",
	"ALICE|1|Bob", "alice|2|2366968294", "alice|3|9007199254741993", "alice|2|0001",
	"alice|1|" + strings.Repeat("b", 32), strings.Repeat("é", 32) + "|1|" + strings.Repeat("中", 32),
	// These no conversation can have.
	"", ".", "..", "/", "|", "||", "alice", "alice|1", "alice|1|", "|1|bob", "alice|1|bob|carol", "alice|0|bob", "alice|4|bob",
	"alice|1|b,ob", "alice|1|bob,carol|1|dave", "alice|1|b ob", " alice|1|bob", "alice|1|bob ", "alice|1|bob\n", "alice|1|\x00", "alice|1|b\x7fb",
	"alice|1|b\u00a0b", "alice|1|b\u200bb", "alice|1|b\u202eb", "alice|1|b\ufeffb", "alice|2|team", "alice|2|-1", "alice|2|1.0", "alice|3|" + strings.Repeat("1", 20),
	"alice%7C1%7Cbob", "alice|1|" + strings.Repeat("b", 33), strings.Repeat("é", 33) + "|1|bob",
}

// idCalls are the places where an id goes upstream, and how it is read there.
var idCalls = []struct {
	rpc     string
	request func(id string) any
	field   string
	read    func(recorded) (string, error)
}{
	{
		"ConversationService/GetConversation",
		func(id string) any { return map[string]any{"conversation_id": id} },
		"conversation_id",
		func(r recorded) (string, error) { return lastSegment(r.path, "/im/v2/conversations/", "") },
	},
	{
		"MessageService/GetMessage",
		func(id string) any { return map[string]any{"conversation_id": id, "message_server_id": "1"} },
		"conversation_id",
		func(r recorded) (string, error) { return lastSegment(r.path, "/im/v2/conversations/", "/messages/1") },
	},
	{
		"ConversationService/CreateConversation",
		func(id string) any { return map[string]any{"conversation_id": id} },
		"conversation_id",
		func(r recorded) (string, error) {
			var body struct {
				ID string `json:"conversation_id"`
			}
			err := json.Unmarshal(r.body, &body)
			return body.ID, err
		},
	},
	{
		"ConversationService/BatchGetConversations",
		func(id string) any { return map[string]any{"conversation_ids": []string{id}} },
		"conversation_ids[0]",
		func(r recorded) (string, error) {
			if ids := r.query["conversation_ids"]; len(ids) == 1 {
				return ids[0], nil
			}
			return "", fmt.Errorf("query is %v", r.query)
		},
	},
}

// lastSegment reads the one segment between the head and the tail of a path.
func lastSegment(path, head, tail string) (string, error) {
	segment, ok := strings.CutPrefix(path, head)
	segment, ok2 := strings.CutSuffix(segment, tail)
	if !ok || !ok2 || strings.Contains(segment, "/") {
		return "", fmt.Errorf("the path is %s", path)
	}
	return url.PathUnescape(segment)
}

// TestIDs sends hard ids through every place that takes one.
func TestIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answerData("{}")
	accepted := 0
	for _, id := range hardIDs {
		sent, err := checkID(t.Context(), r, id)
		if err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if sent {
			accepted++
		}
	}
	if accepted < 40 {
		t.Errorf("only %d of the ids went through: the test has lost its point", accepted)
	}
}

// FuzzConversationID looks for an id that arrives as another one.
func FuzzConversationID(f *testing.F) {
	for _, id := range hardIDs {
		f.Add(id)
	}
	r := newRig(f)
	r.answerData("{}")
	f.Fuzz(func(t *testing.T, id string) {
		if _, err := checkID(t.Context(), r, id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	})
}

// checkID sends an id through all places and both doors. Everywhere the
// upstream must get one request with exactly that id, or the caller must be told
// which field is wrong and the upstream nothing.
func checkID(ctx context.Context, r *rig, id string) (sent bool, err error) {
	var verdicts []bool
	for _, call := range idCalls {
		request, err := json.Marshal(call.request(id))
		if err != nil {
			return false, err
		}
		for _, name := range doorNames {
			if !utf8.ValidString(id) {
				continue // JSON and protobuf cannot even say it, see TestPathBytes
			}
			o, err := r.try(ctx, name, call.rpc, request)
			if err != nil {
				return false, err
			}
			requests := r.take()
			verdicts = append(verdicts, o.status == nil)
			if err := verdict(o, requests, id, call.field, call.read); err != nil {
				return false, fmt.Errorf("%s over %s: %w", call.rpc, name, err)
			}
		}
	}
	if len(verdicts) == 0 {
		return false, nil
	}
	if slices.Contains(verdicts, !verdicts[0]) {
		return false, errors.New("accepted in one place and refused in another")
	}
	return verdicts[0], nil
}

func verdict(o *outcome, requests []recorded, id, field string, read func(recorded) (string, error)) error {
	if o.status != nil {
		if len(requests) != 0 {
			return fmt.Errorf("refused, but sent: %v", o)
		}
		if o.status.Code() != codes.InvalidArgument || !slices.Equal(o.fields(), []string{field}) {
			return fmt.Errorf("refused without a word on %s: %v", field, o)
		}
		return nil
	}
	if len(requests) != 1 {
		return fmt.Errorf("accepted, with %d requests", len(requests))
	}
	have, err := read(requests[0])
	if err != nil {
		return err
	}
	if have != id {
		return fmt.Errorf("arrived as %q", have)
	}
	return nil
}

// TestPathBytes sends paths as no client library would write them.
func TestPathBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answerData("{}")
	m, err := method("ConversationService/GetConversation")
	if err != nil {
		t.Fatal(err)
	}
	for segment, want := range map[string]string{ // "" is a refusal
		"a|1|b":         "a|1|b", // not encoded, as browsers may send it
		"a%7c1%7Cb":     "a|1|b",
		"a%7C1%7C%2f":   "a|1|/",
		"a%7C1%7C%2F|b": "",
		"a|1|%2F":       "a|1|/",
		"a%7C1%7C%252F": "a|1|%2F",
		"%61|1|b":       "a|1|b",
		"a%7C1%7Cb+c":   "a|1|b+c",
		"a%7C1%7Cb%2Bc": "a|1|b+c",
		"a%7C1%7C%C3":   "", // half a letter
		"a%7C1%7C%FF":   "",
		"a%7C1%7C%00":   "",
		"a%7C1%7C;":     "a|1|;",
		"..":            "",
		"%2E%2E":        "",
		"a%7C1%7C..":    "a|1|..",
	} {
		reply, err := newMessage(m.Output())
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.restURL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.URL.Opaque = "/v1/conversations/" + segment // goes out as it is
		o, err := restDoor{r.restURL, r.client}.do(request, reply)
		if err != nil {
			t.Errorf("%s: %v", segment, err)
			continue
		}
		requests := r.take()
		switch {
		case want == "" && (o.status == nil || o.status.Code() != codes.InvalidArgument || len(requests) != 0):
			t.Errorf("%s: not refused: %v, %d requests", segment, o, len(requests))
		case want != "" && (o.status != nil || len(requests) != 1):
			t.Errorf("%s: %v, %d requests", segment, o, len(requests))
		case want != "":
			if have, err := lastSegment(requests[0].path, "/im/v2/conversations/", ""); err != nil || have != want {
				t.Errorf("%s: arrived as %q, want %q: %v", segment, have, want, err)
			}
		}
	}
}

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
)

// An exchange is one request to the upstream, and its answer.
type exchange struct {
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Query    map[string]string `json:"query"`
	Body     json.RawMessage   `json:"body"`
	Response json.RawMessage   `json:"response"`
}

// A vector is one line of testdata/wire: what the vendor documents to go over
// the wire for an operation, and the call of this service that stands for it. A
// stream is many requests, exchanges and replies.
type vector struct {
	exchange

	Op        string     `json:"op"`
	HasV21    bool       `json:"has_v2_1"`
	Exchanges []exchange `json:"exchanges"`

	RPC      string            `json:"rpc"`
	Request  json.RawMessage   `json:"request"`
	Reply    json.RawMessage   `json:"reply"`
	Requests []json.RawMessage `json:"requests"`
	Replies  []json.RawMessage `json:"replies"`
}

func loadVectors(tb testing.TB) []vector {
	tb.Helper()
	files, err := filepath.Glob("testdata/wire/*.jsonl")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no wire vectors: %v", err)
	}
	var all []vector
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, len(text)+1)
		for lines.Scan() {
			var v vector
			d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
			d.DisallowUnknownFields()
			if err := d.Decode(&v); err != nil {
				tb.Fatalf("%s: %v", name, err)
			}
			all = append(all, v)
		}
	}
	return all
}

// TestWire makes each documented call, through both doors and in both versions
// of the upstream's paths, and compares all that is said on both sides.
func TestWire(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v2", "v2.1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "--api-version="+version)
			for _, v := range loadVectors(t) {
				for _, name := range doorNames {
					t.Run(v.RPC+"/"+name, func(t *testing.T) { v.check(t, r, name, version) })
				}
			}
		})
	}
}

func (v *vector) check(t *testing.T, r *rig, doorName, version string) {
	t.Helper()
	exchanges, replies := []exchange{v.exchange}, []json.RawMessage{v.Reply}
	if v.Exchanges != nil {
		exchanges, replies = v.Exchanges, v.Replies
	}
	r.answerInTurn(exchanges)
	o := v.call(t, r, doorName)
	sent := r.take()
	if o.status != nil || len(sent) != len(exchanges) || len(o.replies) != len(replies) {
		t.Fatalf("%d requests and %d replies, want %d and %d: %v", len(sent), len(o.replies), len(exchanges), len(replies), o)
	}
	ids := map[string]bool{}
	for i, x := range exchanges {
		if v.HasV21 {
			x.Path = strings.Replace(x.Path, "/im/v2/", "/im/"+version+"/", 1)
		}
		x.check(t, sent[i])
		ids[sent[i].traceID()] = true
	}
	if sent[0].traceID() != o.traceID || len(ids) != len(sent) {
		t.Errorf("the upstream was told the trace ids %v, the caller %q", ids, o.traceID)
	}
	for i, reply := range o.replies {
		checkReply(t, r, &outcome{reply: reply, traceID: o.traceID}, string(replies[i]))
	}
}

// call makes the call. Every request of a stream but the last waits for a reply.
func (v *vector) call(t *testing.T, r *rig, doorName string) *outcome {
	t.Helper()
	if v.Requests == nil {
		o := r.call(t, doorName, v.RPC, string(v.Request))
		o.replies = append(o.replies, o.reply)
		return o
	}
	m, err := method(v.RPC)
	if err != nil {
		t.Fatal(err)
	}
	requests := make([]frame, len(v.Requests))
	for i, text := range v.Requests {
		requests[i] = frame{json: text, answered: i < len(requests)-1}
	}
	o, err := r.door(doorName).stream(t.Context(), m, requests)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// check compares what was sent with what is documented.
func (x *exchange) check(t *testing.T, sent recorded) {
	t.Helper()
	if sent.method != x.Method || sent.path != x.Path {
		t.Errorf("sent %s %s, want %s %s", sent.method, sent.path, x.Method, x.Path)
	}
	query := url.Values{}
	for name, value := range x.Query {
		query.Set(name, value)
	}
	if diff := cmp.Diff(query, sent.query); diff != "" {
		t.Errorf("query differs (-want +have):\n%s", diff)
	}
	switch {
	case string(x.Body) == "null" && len(sent.body) > 0:
		t.Errorf("body is %s, want none", sent.body)
	case string(x.Body) != "null":
		if diff := cmp.Diff(exact(t, x.Body), exact(t, sent.body)); diff != "" {
			t.Errorf("body differs (-want +have):\n%s", diff)
		}
	}
	sent.checkSigned(t)
}

// checkReply compares a reply with the whole of what is expected. In it,
// ${trace_id} and ${endpoint} stand for those of the call.
func checkReply(tb testing.TB, r *rig, o *outcome, expected string) {
	tb.Helper()
	host := strings.TrimPrefix(r.URL, "http://")
	expected, err := vars{"trace_id": o.traceID, "endpoint": host}.expand(expected)
	if err != nil {
		tb.Fatal(err)
	}
	want := o.reply.ProtoReflect().New().Interface()
	if err := protojson.Unmarshal([]byte(expected), want); err != nil {
		tb.Fatalf("the expectation does not fit: %v\n%s", err, expected)
	}
	if diff := cmp.Diff(want, o.reply, protocmp.Transform()); diff != "" {
		tb.Errorf("reply differs (-want +have):\n%s", diff)
	}
}

// TestRESTNumbers checks the JSON itself: an integer of 64 bits is a text, as
// clients would round a number, and one of 32 bits is a number.
func TestRESTNumbers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answerData(`{"conversation_id":"a|1|b","group_ids":[9223372036854775807,-9223372036854775808],"unread_count":2147483647}`)
	o := r.call(t, "rest", "ConversationService/GetConversation", `{"conversation_id":"a|1|b"}`)
	if o.status != nil {
		t.Fatal(o)
	}
	for _, want := range []string{`["9223372036854775807","-9223372036854775808"]`, `:2147483647`} {
		if have := compact(t, o.body); !strings.Contains(have, want) {
			t.Errorf("the JSON has no %s: %s", want, have)
		}
	}
}

func compact(tb testing.TB, text []byte) string {
	tb.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		tb.Fatalf("not JSON: %v: %s", err, text)
	}
	return b.String()
}

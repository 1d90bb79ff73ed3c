package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
)

// A vector is one line of testdata/wire: what the vendor documents to go over
// the wire for an operation, and the call of this service that stands for it.
type vector struct {
	Op       string            `json:"op"`
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Query    map[string]string `json:"query"`
	Body     json.RawMessage   `json:"body"`
	Response json.RawMessage   `json:"response"`
	HasV21   bool              `json:"has_v2_1"`

	RPC     string          `json:"rpc"`
	Request json.RawMessage `json:"request"`
	Reply   json.RawMessage `json:"reply"`
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
				if version == "v2.1" && v.HasV21 {
					v.Path = strings.Replace(v.Path, "/im/v2/", "/im/v2.1/", 1)
				}
				for _, name := range doorNames {
					t.Run(v.Op+"/"+name, func(t *testing.T) { v.check(t, r, name) })
				}
			}
		})
	}
}

func (v *vector) check(t *testing.T, r *rig, doorName string) {
	t.Helper()
	r.answerBody(string(v.Response))
	o := r.call(t, doorName, v.RPC, string(v.Request))
	sent := r.one(t)
	if o.status != nil {
		t.Fatalf("failed: %v", o)
	}

	if sent.method != v.Method || sent.path != v.Path {
		t.Errorf("sent %s %s, want %s %s", sent.method, sent.path, v.Method, v.Path)
	}
	query := url.Values{}
	for name, value := range v.Query {
		query.Set(name, value)
	}
	if !maps.EqualFunc(query, sent.query, func(a, b []string) bool { return cmp.Equal(a, b) }) {
		t.Errorf("query is %v, want %v", sent.query, query)
	}
	switch {
	case string(v.Body) == "null" && len(sent.body) > 0:
		t.Errorf("body is %s, want none", sent.body)
	case string(v.Body) != "null":
		if diff := cmp.Diff(exact(t, v.Body), exact(t, sent.body)); diff != "" {
			t.Errorf("body differs (-want +have):\n%s", diff)
		}
	}
	sent.checkSigned(t)
	if id := sent.header.Get("X-custom-traceid"); id != o.traceID {
		t.Errorf("the upstream was told trace id %q, the caller %q", id, o.traceID)
	}
	checkReply(t, r, o, string(v.Reply))
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

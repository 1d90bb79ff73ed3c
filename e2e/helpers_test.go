package e2e

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// The tests of this package are only as good as what they compare with.

func TestYAML(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // "" is an error
		"{a: 1232001762022391810}":           `{"a":1232001762022391810}`,
		"{a: -9223372036854775808, b: 0.10}": `{"a":-9223372036854775808,"b":0.10}`,
		"{a: 1e300}":                         `{"a":1e300}`,
		`{a: "1", b: '2', c: x y}`:           `{"a":"1","b":"2","c":"x y"}`,
		"{a: true, b: null, c: yes}":         `{"a":true,"b":null,"c":"yes"}`,
		"{a: 2024-02-04T03:30:23.142Z}":      `{"a":"2024-02-04T03:30:23.142Z"}`,
		"{a: &x {b: 1}, c: *x}":              `{"a":{"b":1},"c":{"b":1}}`,
		"[]":                                 `[]`,
		`{a: "${name}-${ab*2}"}`:             `{"a":"value-abab"}`,
		`{$times: 2, $item: "n${i}"}`:        `["n0","n1"]`,
		`{a: "${unknown}"}`:                  "",
		"{a: 0x10}":                          "",
		"{a: 1_000}":                         "",
		"{a: .inf}":                          "",
		"{a: True}":                          "",
		"{a: 1, a: 2}":                       "",
		"{1: a}":                             "",
		"{$times: x, $item: 1}":              "",
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		have, err := jsonOf(n.Content[0], vars{"name": "value"}.expand)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s: accepted as %s", text, have)
		case want != "" && (err != nil || string(have) != want):
			t.Errorf("%s: %s, %v, want %s", text, have, err, want)
		}
	}
}

func TestContains(t *testing.T) {
	t.Parallel()
	reply := &imv1.ListConversationsResponse{}
	err := protojson.Unmarshal([]byte(`{"conversations":[{"conversation_id":"a|1|b","sort_order":"1232001762022391810","pinned":false,
		"group_ids":["9007199254740993"],"create_time":"2024-02-04T03:30:23.142Z",
		"last_message":{"content":{"location":{"longitude":0.1,"latitude":0}}}}],"next_page_token":"n"}`), reply)
	if err != nil {
		t.Fatal(err)
	}
	for expected, want := range map[string]bool{
		`{}`:                        true,
		`{"next_page_token":"n"}`:   true,
		`{"nextPageToken":"n"}`:     true,
		`{"next_page_token":"m"}`:   false,
		`{"next_page_token":null}`:  false,
		`{"nothing":1}`:             false,
		`{"conversations":[]}`:      false,
		`{"conversations":[{}]}`:    true,
		`{"conversations":[{},{}]}`: false,
		`{"conversations":[{"sort_order":1232001762022391810}]}`:                            true,
		`{"conversations":[{"sort_order":"1232001762022391811"}]}`:                          false,
		`{"conversations":[{"pinned":false}]}`:                                              true,
		`{"conversations":[{"pinned":true}]}`:                                               false,
		`{"conversations":[{"pinned":null}]}`:                                               false,
		`{"conversations":[{"unread_count":0}]}`:                                            false, // absent is not zero
		`{"conversations":[{"unread_count":null,"last_read_time":null}]}`:                   true,
		`{"conversations":[{"group_ids":[9007199254740993]}]}`:                              true,
		`{"conversations":[{"group_ids":[9007199254740992]}]}`:                              false,
		`{"conversations":[{"create_time":"2024-02-04T03:30:23.142Z"}]}`:                    true,
		`{"conversations":[{"create_time":"2024-02-04T03:30:23.143Z"}]}`:                    false,
		`{"conversations":[{"last_message":{"content":{"location":{"longitude":0.1}}}}]}`:   true,
		`{"conversations":[{"last_message":{"content":{"location":{"latitude":1e-300}}}}]}`: false,
		`{"conversations":[{"last_message":{"content":{"text":"x"}}}]}`:                     false,
	} {
		if err := contains(reply, []byte(expected)); (err == nil) != want {
			t.Errorf("%s: %v", expected, err)
		}
	}
	for path, want := range map[string]string{ // "" is an error
		"next_page_token":               "n",
		"conversations.0.sort_order":    "1232001762022391810",
		"conversations.0.group_ids.0":   "9007199254740993",
		"conversations.0.create_time":   "2024-02-04T03:30:23.142Z",
		"conversations.1.sort_order":    "",
		"conversations.0.unread_count":  "",
		"conversations.0.nothing":       "",
		"conversations.0.last_message":  "",
		"conversations.0.sort_order.at": "",
	} {
		if have, err := pick(reply, path); have != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", path, have, err)
		}
	}
}

// TestRepliesOfStreams checks how the replies of a stream are compared.
func TestRepliesOfStreams(t *testing.T) {
	t.Parallel()
	o := &outcome{replies: []proto.Message{
		&imv1.SendStreamMessageResponse{MessageServerId: 7, Characters: 2},
		&imv1.SendStreamMessageResponse{Index: 1, Characters: 2, Finished: true},
	}}
	for expected, want := range map[string]bool{
		"[{characters: 2}, {finished: true}]":       true,
		"[null, {characters: 2}, null, {index: 1}]": true,
		"[{}, {}]":                       true,
		"[{}]":                           false,
		"[{}, {}, {}]":                   false,
		"[null, {}]":                     false,
		"[{}, {finished: false}]":        false,
		"[{finished: true}, {index: 1}]": false,
		"[]":                             false,
	} {
		var s step
		if err := yaml.Unmarshal([]byte("{replies: "+expected+", save: {id: 0.message_server_id}}"), &s); err != nil {
			t.Fatal(err)
		}
		v := vars{}
		if err := s.verifyStream(o, v); (err == nil) != want {
			t.Errorf("%s: %v", expected, err)
		}
		if want && v["id"] != "7" {
			t.Errorf("%s: saved %v", expected, v)
		}
	}
}

// TestRESTForm checks how a call is spread over path, query and body.
func TestRESTForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rpc, request, verb, target, body string }{
		{
			"MessageService/SendMessage", `{"conversation_id":"a|1|b/?#%","message":{"content":{"text":"hi"}},"extension":"x"}`,
			"POST", "/v1/conversations/a%7C1%7Cb%2F%3F%23%25/messages", `{"extension":"x","message":{"content":{"text":"hi"}}}`,
		},
		{
			"MessageService/UpdateMessage", `{"message":{"message_server_id":1232001762022391810,"sender_id":"a"}}`,
			"PATCH", "/v1/messages/1232001762022391810", `{"message":{"sender_id":"a"}}`,
		},
		{"MessageService/UpdateMessage", `{}`, "PATCH", "/v1/messages/0", `{"message":{}}`},
		{
			"MessageService/GetMessage", `{"conversationId":"a|1|b","message_server_id":"7","message_time":"2024-02-04T03:30:23Z","check_team_valid":false}`,
			"GET", "/v1/conversations/a%7C1%7Cb/messages/7?check_team_valid=false&message_time=2024-02-04T03%3A30%3A23Z", "",
		},
		{"ConversationService/ListConversations", `{"account_id":"a&b","page_size":5}`, "GET", "/v1/conversations?account_id=a%26b&page_size=5", ""},
	} {
		m, err := method(c.rpc)
		if err != nil {
			t.Fatal(err)
		}
		r, err := httpRequest(t.Context(), "http://x", m, []byte(c.request))
		if err != nil {
			t.Fatal(err)
		}
		if r.Method != c.verb || r.URL.RequestURI() != c.target {
			t.Errorf("%s: %s %s, want %s %s", c.request, r.Method, r.URL.RequestURI(), c.verb, c.target)
		}
		var body strings.Builder
		if err := r.Write(&body); err != nil {
			t.Fatal(err)
		}
		if _, have, _ := strings.Cut(body.String(), "\r\n\r\n"); have != c.body {
			t.Errorf("%s: body %s, want %s", c.request, have, c.body)
		}
	}
}

package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// vector is one line of testdata/wire: what goes over the wire for an
// operation, and a success that can come back.
type vector struct {
	Op          string            `json:"op"`
	Method      string            `json:"method"`
	Path        string            `json:"path"`
	Query       map[string]string `json:"query"`
	Body        json.RawMessage   `json:"body"`
	HasV21      bool              `json:"has_v2_1"`
	LaterPieces []struct {
		Body json.RawMessage `json:"body"`
	} `json:"later_pieces"`
	Response struct {
		Data any `json:"data"`
	} `json:"response"`
}

func vectors(t *testing.T) []vector {
	t.Helper()
	files, err := filepath.Glob("testdata/wire/*.jsonl")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	var all []vector
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var v vector
			if err := json.Unmarshal(line, &v); err != nil {
				t.Fatal(err)
			}
			all = append(all, v)
		}
	}
	return all
}

// stage is what must be there before a vector can succeed.
type stage struct {
	now      int64    // milliseconds; 0 = any time
	messages []string // of the seed
	calls    []string // METHOD target body
	// members of the vector that this state does not bring forth, and members
	// of the answer that the vector happens not to have
	absent, extra []string
}

const replaySeed = `{
	"accounts": [%s],
	"teams": [
		{"id": 2366968294, "owner": "alice", "members": ["bob", "yytest36", "yytest69"]},
		{"id": 18358256847, "owner": "apifoxtest30", "members": ["apifoxtest31", "apifoxtest32", "apifoxtest33"]}
	],
	"rooms": [{"id": 1605537145, "creator": "yx5", "members": [{"account": "yx29"}]}],
	"messages": [%s]
}`

const (
	bobWrote = `POST v2/conversations/bob%7C1%7Calice/messages {"message":{"message_type":0,"text":"hi"}}`
	tagged   = `PATCH v2/conversations/alice%7C1%7Cbob {"server_extension":"e"}`
	hasRead  = `PATCH v2/conversations/alice%7C1%7Cbob/actions/clear_conversation_unread `
	pinned   = `POST v2/conversations/alice%7C1%7Cbob/actions/stick_top_conversation {"top_type":1}`
	grouped  = `POST v2/conversation_groups {"account_id":"alice","name":"g","server_extension":"e","conversation_ids":["alice|1|bob"]}`
	inTeam   = `POST v2/conversations/bob%7C2%7C2366968294/messages {"message":{"message_type":0,"text":"hi"}}`
	// The first id handed out is the one in the vectors; bob's message to alice took it.
	recalledInTeam = `DELETE v2/conversations/bob%7C2%7C2366968294/messages/1232001762022391811?type=2&attach=a&description=d `

	hello  = `{"conversation_id":"wmtest2|1|wmtest1","message_server_id":167595237,"create_time":1695362207119,"message":{"message_type":0,"text":"hello"}}`
	hello2 = `{"conversation_id":"wmtest2|1|wmtest1","create_time":1695362207120,"message":{"message_type":0,"text":"hello"}}`
	mine   = `{"conversation_id":"apifoxtest1|1|apifoxtest2","message_server_id":9897543190303,"create_time":1707017423142,"message":{"message_type":0,"text":"x","message_client_id":"80227c89-3374-4258-97bd-424db19d5360"}}`

	rootRef    = `{"sender_id":"yytest36","receiver_id":"2366968294","create_time":1753951803793,"message_server_id":158844553334358018,"message_client_id":"63293886-2c0e-4f6c-9d3e-7a2596b1830a"}`
	threadRoot = `{"conversation_id":"yytest36|2|2366968294","message_server_id":158844553334358018,"create_time":1753951803793,"extension":"ext",` + targeted +
		`"message":{"message_type":0,"sub_type":1,"text":"search test","message_client_id":"63293886-2c0e-4f6c-9d3e-7a2596b1830a"}}`
	threadReply = `{"conversation_id":"yytest36|2|2366968294","message_server_id":158844553334358020,"create_time":1753951805248,"extension":"ext",` + targeted +
		`"thread_config":{"thread_root":` + rootRef + `,"thread_reply":` + rootRef + `},"message":{"message_type":0,"sub_type":1,"text":"search test"}}`
	targeted   = `"target_option":{"receiver_account_ids":["yytest69"],"inclusive":true},`
	modifyRoot = `POST v2/messages/actions/modifyMsg {"operator":"yytest36","type":2,"message":{"message_server_id":158844553334358018,"receiver_id":"2366968294","time":1753951803793,"sender_id":"yytest36","message_type":0,"sub_type":1,"text":"search test"}}`
	modifyLast = `POST v2/messages/actions/modifyMsg {"operator":"yytest36","type":2,"message":{"message_server_id":158844553334358020,"receiver_id":"2366968294","time":1753951805248,"sender_id":"yytest36","message_type":0,"sub_type":1,"text":"search test"}}`
	commented  = `PATCH v2/messages/actions/quick_comment {"operator_id":"apifoxtest2","index":1,"extension":"e","message":{"conversation_type":1,"sender_id":"apifoxtest1","receiver_id":"apifoxtest2","message_server_id":9897543190303,"message_client_id":"80227c89-3374-4258-97bd-424db19d5360","create_time":1707017423142}}`
	roomPhoto  = `POST v2/chatrooms/1605537145/messages {"sender_id":"yx5","message":{"message_client_id":"dsfjkldfsdlfskjdlfsdjlkfdskfsdj","message_type":1,"attachment":{"id":318,"data":{"operator":"yx29","ext":"e"}}}}`
	roomText   = `POST v2/chatrooms/1605537145/messages {"sender_id":"yx5","extension":"ext","message":{"message_client_id":"t","message_type":0,"text":"x"}}`
)

// newerInV21 is what the vectors show of a last message and only v2.1 has.
var newerInV21 = []string{"last_message.message_client_id", "last_message.sender_client_type"}

var stages = map[string]stage{
	"create_conversation":           {calls: []string{bobWrote, tagged, hasRead}, extra: []string{"last_message"}},
	"update_conversation":           {calls: []string{bobWrote, grouped, hasRead}, absent: newerInV21},
	"delete_conversation":           {calls: []string{bobWrote}},
	"batch_delete_conversations":    {calls: []string{bobWrote}},
	"get_conversation":              {calls: []string{bobWrote, tagged, grouped, hasRead}},
	"batch_get_conversations":       {calls: []string{bobWrote, tagged, grouped, hasRead, inTeam, recalledInTeam}},
	"list_conversations":            {calls: []string{bobWrote, tagged, grouped, hasRead, inTeam, recalledInTeam}, absent: []string{"next_token"}},
	"pin_conversation":              {calls: []string{bobWrote}},
	"unpin_conversation":            {calls: []string{bobWrote, pinned}},
	"clear_conversation_unread":     {calls: []string{bobWrote}},
	"create_conversation_group":     {calls: []string{bobWrote}},
	"update_conversation_group":     {calls: []string{bobWrote, grouped}},
	"delete_conversation_group":     {calls: []string{grouped}},
	"get_conversation_group":        {calls: []string{grouped}},
	"batch_get_conversation_groups": {calls: []string{grouped}},
	"list_conversation_groups":      {calls: []string{grouped}},
	"list_group_conversations":      {calls: []string{bobWrote, tagged, grouped, hasRead}, absent: prefixed("items[].", newerInV21)},

	"recall_message":               {messages: []string{mine}},
	"delete_conversation_messages": {messages: []string{mine}},
	"send_p2p_read_receipt":        {messages: []string{`{"conversation_id":"apifoxtest2|1|apifoxtest1","message_server_id":9898831873144,"message":{"message_type":0,"text":"x"}}`}},
	"send_team_read_receipt":       {messages: []string{marked}},
	"query_team_read_receipt": {messages: []string{marked},
		calls: []string{`POST v2/messages/actions/team_read_receipt {"from_account_id":"apifoxtest31","team_id":18358256847,"message_server_ids":[1232001762022391810]}`}},
	"get_message":             {messages: []string{hello}},
	"list_messages":           {messages: []string{hello}, absent: []string{"next_token"}},
	"send_chatroom_message":   {extra: []string{"message.text"}},
	"recall_chatroom_message": {now: 1709175731107, calls: []string{roomPhoto}},
	"list_chatroom_messages":  {calls: []string{roomText, roomPhoto}},
	"modify_message": {now: 1707035900000, extra: []string{"extension"},
		messages: []string{`{"conversation_id":"yx|1|apiv2test","message_server_id":9899821270208,"create_time":1707035841692,"message":{"message_type":0,"text":"x"}}`}},
	"batch_get_messages":    {messages: []string{hello, hello2}},
	"query_thread_messages": {now: 1753951811315, messages: []string{threadRoot, threadReply}, calls: []string{modifyRoot, modifyLast}},
	"add_quick_comment":     {messages: []string{mine}},
	"delete_quick_comment":  {messages: []string{mine}},
	"query_quick_comments":  {messages: []string{mine}, calls: []string{commented}},
	"search_messages":       {now: 1753951811315, messages: []string{threadRoot, threadReply}, calls: []string{modifyRoot, modifyLast}},
}

const marked = `{"conversation_id":"apifoxtest30|2|18358256847","message_server_id":1232001762022391810,"team_option":{"mark_as_read":true},"message":{"message_type":0,"text":"x"}}`

func prefixed(prefix string, names []string) []string {
	return engine.Apply(names, func(name string) string { return prefix + name })
}

// TestReplayVectors sends every vector to a sandbox in which it succeeds and
// compares the shape of the answer: the members and their JSON types.
func TestReplayVectors(t *testing.T) {
	all := vectors(t)
	if len(all) != 39 {
		t.Errorf("%d vectors", len(all))
	}
	for _, v := range all {
		versions := []string{"v2"}
		if v.HasV21 {
			versions = append(versions, "v2.1")
		}
		for _, version := range versions {
			t.Run(v.Op+"/"+version, func(t *testing.T) { replay(t, v, version) })
		}
	}
}

func replay(t *testing.T, v vector, version string) {
	t.Helper()
	s := stages[v.Op]
	var accounts []string
	for id := range strings.FieldsSeq("alice bob apifoxtest1 apifoxtest2 apifoxtest30 apifoxtest31 apifoxtest32 apifoxtest33 accid4 wmtest1 wmtest2 yx yx5 yx29 apiv2test yytest36 yytest69") {
		accounts = append(accounts, fmt.Sprintf(`{"id":%q,"name":%q}`, id, id))
	}
	c := newClient(t, Options{
		Seed: fmt.Appendf(nil, replaySeed, strings.Join(accounts, ","), strings.Join(s.messages, ",")),
		Now:  func() time.Time { return replayTime(s) },
	})
	for _, call := range s.calls {
		parts := strings.SplitN(call, " ", 3)
		c.do(parts[0], parts[1], parts[2]).ok()
	}
	query := url.Values{}
	for name, value := range v.Query {
		query.Set(name, value)
	}
	query.Del("page_token") // not one of ours
	target := strings.Replace(v.Path, "/im/v2/", version+"/", 1) + "?" + query.Encode()
	got := c.do(v.Method, target, string(v.Body)).ok()
	for _, piece := range v.LaterPieces {
		body := strings.ReplaceAll(string(piece.Body), "987654", got.str("message_server_id"))
		c.do(v.Method, target, body).ok()
	}
	if version == "v2" && v.HasV21 {
		return // the vectors show the newer shape
	}
	want, have := shape{}, shape{}
	want.add("", v.Response.Data)
	have.add("", got.body["data"])
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if have[path] != want[path] && (have[path] != "" || !slices.Contains(s.absent, path)) {
			t.Errorf("%s is %q, want %q: %s", path, have[path], want[path], got.raw)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(have)) {
		known := slices.ContainsFunc(s.extra, func(extra string) bool { return path == extra || strings.HasPrefix(path, extra+".") })
		if want[path] == "" && !known {
			t.Errorf("%s is not in the vector: %s", path, got.raw)
		}
	}
}

func replayTime(s stage) time.Time {
	if s.now != 0 {
		return time.UnixMilli(s.now)
	}
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
}

// shape maps the paths of a JSON value to types. All items of a list share one
// path.
type shape map[string]string

func (s shape) add(path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		s[path] = "object"
		for name, member := range v {
			s.add(strings.TrimPrefix(path+"."+name, "."), member)
		}
	case []any:
		s[path] = "array"
		for _, item := range v {
			s.add(path+"[]", item)
		}
	case json.Number, float64:
		s[path] = "number"
	default:
		s[path] = fmt.Sprintf("%T", v)
	}
}

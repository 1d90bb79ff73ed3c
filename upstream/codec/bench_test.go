package codec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// The messages of these benchmarks are dynamic, because the package knows no API;
// those of generated code are faster. The yardstick is encoding/json on the same
// JSON, in the same run, without types.

const benchTypes = `
message Image
	optional string name
	optional string md5
	string url
	optional string ext
	optional int32 width {name: "w" aliases: "width"}
	optional int32 height {name: "h" aliases: "height"}
	optional int64 size
	optional string extra {rest: true}
message Other
	optional int32 message_type
	optional string attachment {json: JSON_VALUE}
message Content
	oneof kind {tag: "message_type" value: "attachment"}
		string text {variant: 0}
		Image image {variant: 1}
		string custom {json: JSON_OBJECT variant: 100}
		Other other
	optional string description {name: "text"}
	optional int32 sub_type
message Message
	int64 message_server_id
	string message_client_id
	int32 conversation_type
	string sender_id
	string receiver_id
	int64 team_id
	google.protobuf.Timestamp create_time
	Content content {inline: true}
	optional string extension
	int32 sender_client_type
	optional string extra {rest: true}
message Conversation
	string conversation_id
	string sender_id
	string receiver_id
	int32 type
	optional bool pinned {name: "stick_top"}
	repeated int64 group_ids
	optional string server_extension
	int32 message_state
	Message last_message {wrapper: "message"}
	optional int32 unread_count
	int64 sort_order
	google.protobuf.Timestamp create_time
	google.protobuf.Timestamp update_time
	google.protobuf.Timestamp last_read_time
message Page
	repeated Conversation conversations {name: "items"}
	string next_page_token {name: "next_token" only_if: "has_more"}
message New
	Content content {inline: true}
	string message_client_id
message Config
	optional bool unread_enabled
	optional bool multi_sync_enabled {name: "mutil_sync_enabled"}
	optional bool offline_enabled
message Push
	optional bool push_enabled
	optional string push_content
	optional string push_payload {json: JSON_OBJECT as_text: true}
	repeated string push_forcepush_ids
message Send
	string conversation_id
	New message
	optional string extension
	Config message_config
	Push push_config
service Bench
	rpc SendMessage(Send) Message {post: "/im/v2/conversations/{conversation_id}/messages"}
	rpc List(Send) Page {post: "/im/v2/conversations"}
`

func BenchmarkEncodeSend(b *testing.B) {
	s := schematest.New(b, benchTypes)
	e := operationOf(b, s, "/test.Bench/SendMessage")
	m := s.Message(b, "Send", `{
		"conversationId": "alice|1|bob", "extension": "{\"k\":\"v\"}",
		"message": {"messageClientId": "0f7a1a7e-9d6b-4a55-8f1d-5a3e6bf5f0a1", "content": {"image": {"name": "cat.jpg", "md5": "9894907e4ad9de4678091277509361f7",
			"url": "https://nim-nosdn.netease.im/MTAwMDAwMQ==/bmltYV8xMDAwMDAx", "ext": "jpg", "width": 6814, "height": 2332, "size": "388245"}, "description": "a cat"}},
		"messageConfig": {"unreadEnabled": true, "multiSyncEnabled": false, "offlineEnabled": true},
		"pushConfig": {"pushEnabled": true, "pushContent": "alice sent a picture", "pushPayload": "{\"pushTitle\":\"t\",\"apsField\":{\"mutable-content\":1}}", "pushForcepushIds": ["bob", "carol"]}}`)
	_, body, err := e.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		b.Fatal(err)
	}
	yardstick(b, len(body), func() error {
		_, _, err := e.Encode(m)
		return err
	}, func() error {
		_, err := json.Marshal(value)
		return err
	})
}

func BenchmarkDecodePage(b *testing.B) {
	s := schematest.New(b, benchTypes)
	p := operationOf(b, s, "/test.Bench/List").out
	body := benchPage(100)
	reply := s.Empty("Page")
	d := new(decoder)
	yardstick(b, len(body), func() error {
		envelope, err := ReadEnvelope(body)
		if err != nil {
			return err
		}
		return d.decode(p, envelope.Data, reply)
	}, func() error {
		var v any
		return json.Unmarshal(body, &v)
	})
	if n := reply.Get(p.desc.Fields().ByName("conversations")).List().Len(); n != 100 {
		b.Fatalf("%d conversations", n)
	}
}

// benchPage is an answer with so many conversations, as the upstream writes it.
func benchPage(n int) []byte {
	contents := []string{
		`"message_type":0,"text":"See you at the station at ten, platform 4. 明天见"`,
		`"message_type":1,"text":"a cat","attachment":{"name":"cat.jpg","md5":"9894907e4ad9de4678091277509361f7","url":"https://nim-nosdn.netease.im/MTAwMDAwMQ==/bmltYV8xMDAwMDAx","ext":"jpg","w":6814,"h":2332,"size":388245}`,
		`"message_type":100,"sub_type":7,"attachment":{"order":{"id":1232001762022391810,"lines":[{"sku":"A-1","n":2},{"sku":"B-2","n":1}]},"state":"paid"}`,
	}
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"conversation_id":"alice|1|user%03d","sender_id":"alice","receiver_id":"user%03d","type":1,"stick_top":false,"group_ids":[167595237],`+
			`"server_extension":"{\"label\":\"customer\"}","message_state":0,"last_message":{"message_server_id":%d,"message_client_id":"0f7a1a7e-9d6b-4a55-8f1d-5a3e6bf5f0a1",`+
			`"conversation_type":1,"sender_id":"user%03d","receiver_id":"alice","create_time":%d,%s,"extension":"","sender_client_type":"32"},`+
			`"unread_count":%d,"sort_order":%d,"create_time":1706227200123,"update_time":1706227200456,"last_read_time":1706227200400}`,
			i, i, 1232001762022391810+int64(i), i, 1706227200123+int64(i), contents[i%len(contents)], i%7, 1706227200456+int64(i))
	}
	return []byte(`{"code":200,"msg":"success","data":{"has_more":true,"next_token":"MTcwNjIyNzIwMDQ1Ng==","items":[` + strings.Join(items, ",") + `]}}`)
}

// yardstick measures work, and how many times as long as the yardstick it takes.
func yardstick(b *testing.B, size int, work, other func() error) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		if err := work(); err != nil {
			b.Fatal(err)
		}
	}
	took := b.Elapsed()
	b.StopTimer()
	start := time.Now()
	for range b.N {
		if err := other(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(took)/float64(time.Since(start)), "x-encoding/json")
}

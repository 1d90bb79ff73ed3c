package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

const streamPath = "/messages/actions/stream_message"

func (c *client) piece(id, message, text string, index, finish int) *reply {
	c.t.Helper()
	return c.post(conv(id, streamPath), `{"message":{%s,"attachment":{"text":%q,"index":%d,"finish":%d}}}`, message, text, index, finish)
}

func TestStream(t *testing.T) {
	c := newClient(t, Options{})
	first := c.piece("alice|1|bob", `"message_client_id":"s1","message_type":0`, "one ", 0, 0).ok().
		is("message_client_id", "s1", "sender_id", "alice", "conversation_type", "1", "receiver_id", "bob", "message_type", "0",
			"attachment.text", "one ", "attachment.index", "0", "attachment.finish", "0", "text", "")
	id := first.str("message_server_id")
	later := `"message_server_id":` + id
	c.get(conv("bob|1|alice")).ok().is("unread_count", "1", "last_message.text", "one ")
	c.get(conv("bob|1|alice", "/messages/", id)).code(codeMessageMissing)
	c.wait(streamSilence)
	c.piece("alice|1|bob", later, "three", 2, 0).ok().is("message_server_id", id, "message_client_id", "s1", "attachment.index", "2")
	c.piece("alice|1|bob", later, "two ", 1, 0).ok()
	c.piece("alice|1|bob", later, "two ", 1, 0).ok() // again: nothing happens
	c.piece("alice|1|bob", later, "2", 1, 0).code(engine.CodeBadParameter)
	c.get("v2/messages/actions/search_messages?operator_id=bob&message_types=0").is("count", "0")
	c.piece("alice|1|bob", later, "", 3, 1).ok().is("attachment.finish", "1")
	c.piece("alice|1|bob", later, "x", 4, 0).code(codeStreamComplete)

	c.get(conv("bob|1|alice", "/messages/", id)).ok().is("text", "one two three", "message_type", "0", "attachment", "", "create_time", first.str("create_time"))
	c.get(conv("bob|1|alice")).is("last_message.text", "one two three", "unread_count", "1")
	c.get("v2/messages/actions/search_messages?operator_id=bob&message_types=0").is("count", "1")
	c.piece("alice|1|bob", `"message_client_id":"s1"`, "x", 0, 0).code(codeDuplicateClientID)

	whole := c.post(conv("alice|2|"+advanced, streamPath), `{"message":{"message_client_id":"s2","attachment":{"text":"all","finish":1}}}`).ok()
	c.get(conv("carol|2|"+advanced, "/messages/", whole.str("message_server_id"))).ok().is("text", "all")
}

func TestStreamEndsInSilence(t *testing.T) {
	c := newClient(t, Options{})
	id := c.piece("alice|1|bob", `"message_client_id":"s"`, "half", 0, 0).ok().str("message_server_id")
	c.wait(streamSilence + time.Millisecond)
	c.get(conv("bob|1|alice", "/messages/", id)).ok().is("text", "half")
	c.piece("alice|1|bob", `"message_server_id":`+id, "x", 1, 0).code(codeStreamBroken)
}

func TestStreamLength(t *testing.T) {
	c := newClient(t, Options{})
	c.piece("alice|1|bob", `"message_client_id":"s0"`, strings.Repeat("字", 5001), 0, 0).code(engine.CodeBadParameter)
	id := c.piece("alice|1|bob", `"message_client_id":"s"`, strings.Repeat("字", 4999), 0, 0).ok().str("message_server_id")
	c.piece("alice|1|bob", `"message_server_id":`+id, "x", 1, 0).ok()
	c.piece("alice|1|bob", `"message_server_id":`+id, "x", 2, 0).code(codeStreamBroken).says("5000")
	c.piece("alice|1|bob", `"message_server_id":`+id, "", 3, 1).code(codeStreamBroken)
	c.get(conv("bob|1|alice", "/messages/", id)).ok().is("text", strings.Repeat("字", 4999)+"x")
}

func TestStreamRefusals(t *testing.T) {
	c := newClient(t, Options{})
	plain := c.text("alice|1|bob", "x")
	c.piece("alice|1|bob", `"message_server_id":`+plain, "x", 1, 0).code(codeNotStream)
	c.piece("alice|1|bob", `"message_server_id":5`, "x", 1, 0).code(codeMessageMissing)
	c.piece("alice|1|bob", `"message_type":0`, "x", 0, 0).code(engine.CodeBadParameter).says("message_client_id")
	c.piece("alice|1|bob", `"message_client_id":"s","message_type":10`, "x", 0, 0).code(engine.CodeBadParameter)
	c.piece("alice|1|bob", `"message_client_id":"s"`, "x", -1, 0).code(engine.CodeBadParameter)
	c.piece("alice|1|bob", `"message_client_id":"s"`, "x", maxStreamIndex+1, 0).code(engine.CodeBadParameter)
	c.piece("alice|1|bob", `"message_client_id":"max"`, "x", maxStreamIndex, 0).ok()
	c.piece("alice|1|bob", `"message_client_id":"s"`, "x", 0, 2).code(engine.CodeBadParameter)
	c.piece("alice|3|"+super, `"message_client_id":"s"`, "x", 0, 0).code(engine.CodeBadParameter)
	c.piece("dave|2|"+advanced, `"message_client_id":"s"`, "x", 0, 0).code(codeNotTeamMember)
	c.piece("muted|1|bob", `"message_client_id":"s"`, "x", 0, 0).code(codeAccountMuted)
	c.post(conv("alice|1|bob", streamPath), `{"message":{"message_client_id":"s","attachment":{"index":0}}}`).code(engine.CodeBadParameter).says("attachment.text")
	c.post(conv("alice|1|bob", streamPath), `{"message":{"message_client_id":"s"}}`).code(engine.CodeBadParameter).says("attachment")

	id := c.piece("alice|1|bob", `"message_client_id":"s"`, "x", 0, 0).ok().str("message_server_id")
	c.piece("alice|1|carol", `"message_server_id":`+id, "x", 1, 0).code(codeMessageMissing)
	c.piece("bob|1|alice", `"message_server_id":`+id, "x", 1, 0).code(codeMessageMissing)
	c.post("v2/messages/actions/modifyMsg", `{"operator":"alice","type":1,"message":{"message_server_id":%s,"receiver_id":"bob","time":%d,"sender_id":"alice","message_type":0,"text":"x"}}`,
		id, c.now.UnixMilli()).code(codeMessageMissing)
	c.del(conv("alice|1|bob", "/messages/", id, "?type=2")).ok()
	c.piece("alice|1|bob", `"message_server_id":`+id, "x", 1, 0).code(codeStreamStopped)
}

func TestStreamToSomeMembers(t *testing.T) {
	c := newClient(t, Options{})
	id := c.post(conv("alice|2|"+advanced, streamPath),
		`{"message":{"message_client_id":"s","attachment":{"text":"x","finish":1}},"target_option":{"receiver_account_ids":["bob"],"inclusive":true},"message_config":{"unread_enabled":false},"extension":"e","rag_info_list":[{"name":"n","time":1}]}`).
		ok().str("message_server_id")
	c.get(conv("bob|2|"+advanced, "/messages/", id)).ok().is("extension", "e")
	c.get(conv("carol|2|"+advanced, "/messages/", id)).code(codeMessageMissing)
	c.get("v2/conversation_overviews/bob").is("unread_count", "0")
	c.post(conv("alice|2|"+advanced, streamPath), `{"message":{"message_client_id":"r","attachment":{"text":"x"}},"rag_info_list":[{"time":"1"}]}`).
		code(engine.CodeBadParameter).says(fmt.Sprintf("rag_info_list[%d].time", 0))
}

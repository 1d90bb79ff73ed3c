package sandbox

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

const roomPath = "v2/chatrooms/" + lobby + "/messages"

// say sends a text to the lobby; rest are more members of the body.
func (c *client) say(sender, clientID, rest string) *reply {
	c.t.Helper()
	return c.post(roomPath, `{"sender_id":%q,"message":{"message_client_id":%q,"message_type":0,"text":%q}%s}`, sender, clientID, "text of "+clientID, rest)
}

// history lists the lobby, oldest first.
func (c *client) history() *reply {
	c.t.Helper()
	return c.get("v2.1/chatrooms/" + lobby + "/messages?sender_id=alice&limit=100").ok()
}

func TestSendRoomMessage(t *testing.T) {
	c := newClient(t, Options{})
	r := c.say("carol", "m1", `,"extension":"e"`).ok().is("message.message_client_id", "m1", "message.sender_id", "carol",
		"message.sender_nick", "Carol C.", "message.sender_avatar", "", "message.room_id", lobby, "message.high_priority", "false",
		"message.create_time", fmt.Sprint(c.now.UnixMilli()), "message.text", "text of m1", "message.msg_abandon", "")
	if r.at("failed_list") != nil {
		t.Errorf("empty failed_list: %s", r.raw)
	}
	c.say("alice", "m2", "").ok().is("message.sender_nick", "Alice")
	c.history().lists("items", "message_client_id", "m1,m2").lists("items", "extension", "e,<nil>")

	for _, tt := range []struct {
		sender, rest string
		code         engine.Code
	}{
		{"ghost", "", codeAccountMissing},
		{"muted", "", codeAccountMuted},
		{"banned", "", codeAccountBanned},
		{"mallory", "", codeRoomMemberBlockListed},
		{"erin", "", codeRoomMemberMuted},
		{"dave", "", codeRoomTempMuted},
		{"dave", `,"message_config":{"ignore_chat_banned":true}`, engine.CodeOK},
		{"alice", `,"resend_flag":2`, engine.CodeBadParameter},
		{"alice", `,"message_config":{"abandon_ratio":10000}`, engine.CodeBadParameter},
		{"carol", `,"resend_flag":1,"message_config":{"abandon_ratio":9999}`, engine.CodeOK},
		{"alice", `,"message_config":{"chat_msg_priority":4}`, engine.CodeBadParameter},
		{"alice", `,"message_config":{"forbidden_if_high_priority_msg_freq":2}`, engine.CodeBadParameter},
		{"alice", `,"extension":"` + strings.Repeat("x", 1025) + `"`, engine.CodeBadParameter},
		{"alice", `,"receiver_ids":["` + strings.Repeat(`bob","`, 100) + `bob"]`, engine.CodeBadParameter},
		{"carol", `,"resend_flag":1,"receiver_ids":["` + strings.Repeat(`bob","`, 99) + `bob"]`, engine.CodeOK},
		{"alice", `,"ai_params":{"account":"bob"}`, codeAIDisabled},
	} {
		c.say(tt.sender, "r", tt.rest).code(tt.code)
	}
	c.post(roomPath, `{"sender_id":"alice","message":{"message_type":0,"text":"x"}}`).code(engine.CodeBadParameter).says("message_client_id")
	c.post(roomPath, `{"sender_id":"alice","message":{"message_client_id":"x","message_type":0}}`).code(engine.CodeBadParameter).says("text")
	c.post("v2/chatrooms/5/messages", `{"sender_id":"alice","message":{"message_client_id":"x","message_type":0,"text":"x"}}`).code(codeRoomMissing)
}

func TestClosedAndMutedRooms(t *testing.T) {
	c := newClient(t, Options{Seed: []byte(`{"accounts":[{"id":"a"},{"id":"b"},{"id":"c"}],
		"rooms":[{"id":1,"creator":"a","managers":["b"],"members":[{"account":"c"}],"muted":true},{"id":2,"creator":"a","closed":true}]}`)})
	for call, code := range map[string]engine.Code{"a 1": engine.CodeOK, "b 1": engine.CodeOK, "c 1": codeRoomMuted, "a 2": codeRoomClosed} {
		sender, id, _ := strings.Cut(call, " ")
		c.post("v2/chatrooms/"+id+"/messages", `{"sender_id":%q,"message":{"message_client_id":%q,"message_type":0,"text":"x"}}`, sender, call).code(code)
	}
}

func TestRoomResend(t *testing.T) {
	c := newClient(t, Options{})
	first := c.say("carol", "m", "").ok()
	c.wait(time.Second)
	c.say("carol", "m", "").code(codeDuplicateClientID)
	if again := c.say("carol", "m", `,"resend_flag":1`).ok(); !bytes.Equal(again.raw, first.raw) {
		t.Errorf("resent: %s, first: %s", again.raw, first.raw)
	}
	c.say("carol", "n", `,"resend_flag":1`).ok()
	c.history().lists("items", "message_client_id", "m,n")
}

func TestDirectedRoomMessages(t *testing.T) {
	c := newClient(t, Options{})
	c.say("alice", "m", `,"receiver_ids":["bob","banned"]`).ok().
		lists("failed_list", "account_id", "banned").lists("failed_list", "error_code", "114404")
	c.say("alice", "n", `,"message_config":{"history_enabled":false}`).ok()
	c.history().is("items", "")
	c.say("alice", "m", "").code(codeDuplicateClientID)
}

func TestHighPriority(t *testing.T) {
	c := newClient(t, Options{})
	for i := range maxHighPriority {
		c.say("alice", fmt.Sprint("m", i), `,"message_config":{"high_priority":true}`).ok().is("message.high_priority", "true")
	}
	c.say("alice", "over", `,"message_config":{"high_priority":true}`).ok().is("message.high_priority", "false")
	const forbid = `,"message_config":{"high_priority":true,"forbidden_if_high_priority_msg_freq":1}`
	c.say("alice", "refused", forbid).code(engine.CodeForbidden)
	c.wait(time.Second)
	c.say("alice", "refused", forbid).ok().is("message.high_priority", "true")
}

func TestAbandonRatio(t *testing.T) {
	c := newClient(t, Options{})
	dropped := 0
	for i := range 200 {
		r := c.say("alice", fmt.Sprint("m", i), `,"message_config":{"abandon_ratio":5000}`).ok()
		if r.str("message.msg_abandon") == "true" {
			dropped++
		}
	}
	if dropped < 50 || dropped > 150 {
		t.Errorf("%d of 200 dropped", dropped)
	}
	items, _ := c.get("v2/chatrooms/" + lobby + "/messages?sender_id=alice&limit=100").at("items").([]any)
	more, _ := c.get("v2/chatrooms/" + lobby + "/messages?sender_id=alice&limit=100&descending=false").at("items").([]any)
	if 200-dropped <= 100 && len(items) != 200-dropped || len(items) != len(more) {
		t.Errorf("%d in history, %d dropped", len(items), dropped)
	}
}

func TestBatchSendRoomMessages(t *testing.T) {
	c := newClient(t, Options{})
	send := func(rest, messages string) *reply {
		return c.post("v2/chatrooms/messages", `{"room_id":%s,"sender_id":"alice"%s,"messages":[%s]}`, lobby, rest, messages)
	}
	const m1, m2 = `{"message_client_id":"m1","message_type":0,"text":"1"}`, `{"message_client_id":"m2","message_type":1,"attachment":{}}`
	if r := send("", m1+","+m2).ok().lists("success_list", "message_client_id", "m1,m2").is("success_list.0.room_id", lobby); r.at("failed_list") != nil {
		t.Errorf("empty failed_list: %s", r.raw)
	}
	send(`,"receiver_ids":["banned"]`, m1+`,{"message_client_id":"m3","message_type":0},{"message_client_id":"m4","message_type":0,"text":"4"}`).ok().
		lists("success_list", "message_client_id", "m4").
		lists("failed_list.0.failed_account_ids", "account_id", "banned").
		lists("failed_list.0.failed_messages", "message_client_id", "m1,m3").
		lists("failed_list.0.failed_messages", "error_code", "107306,414")
	c.history().lists("items", "message_client_id", "m1,m2")
	send("", "").code(engine.CodeBadParameter)
	send("", strings.Repeat(m1+",", 20)+m1).code(engine.CodeBadParameter)
	c.post("v2/chatrooms/messages", `{"room_id":5,"sender_id":"alice","messages":[%s]}`, m1).code(codeRoomMissing)
	c.post("v2/chatrooms/messages", `{"sender_id":"alice","messages":[%s]}`, m1).code(engine.CodeBadParameter).says("room_id")
}

func TestRecallRoomMessage(t *testing.T) {
	c := newClient(t, Options{})
	sent := c.say("carol", "m", "").ok().str("message.create_time")
	recall := func(id, operator, sender, time, rest string) *reply {
		return c.del(fmt.Sprintf("%s/%s?operator_id=%s&sender_id=%s&create_time=%s%s", roomPath, id, operator, sender, time, rest))
	}
	const notify = "&notification_enabled=true"
	recall("m", "carol", "carol", sent, "").code(engine.CodeBadParameter).says("notification_enabled")
	recall("m", "carol", "carol", sent, notify+"&notification_extension="+strings.Repeat("x", 1025)).code(engine.CodeBadParameter)
	recall("x", "carol", "carol", sent, notify).code(codeMessageMissing)
	recall("m", "carol", "alice", sent, notify).code(codeMessageMissing)
	recall("m", "carol", "carol", "5", notify).code(codeMessageMissing)
	recall("m", "dave", "carol", sent, notify).code(codeRecallForbidden)
	recall("m", "ghost", "carol", sent, notify).code(codeAccountMissing)
	c.del("v2/chatrooms/5/messages/m?operator_id=carol&sender_id=carol&create_time=1" + notify).code(codeRoomMissing)
	recall("m", "bob", "carol", sent, "&notification_enabled=false").ok()
	c.history().is("items", "")
	recall("m", "bob", "carol", sent, notify).code(codeMessageMissing)
	c.say("carol", "m", "").code(codeDuplicateClientID)
}

func TestListRoomMessages(t *testing.T) {
	c := newClient(t, Options{})
	for i := range 5 {
		c.say("carol", fmt.Sprint("m", i), "").ok()
	}
	c.post(roomPath, `{"sender_id":"bob","message":{"message_client_id":"tip","message_type":10,"text":"x"}}`).ok()
	list := func(query string) *reply { return c.get(roomPath + "?sender_id=alice&" + query) }
	list("limit=9").ok().lists("items", "message_client_id", "m0,m1,m2,m3,m4,tip").is("has_more", "false", "next_token", "")
	list("limit=9&descending=false").lists("items", "message_client_id", "tip,m4,m3,m2,m1,m0")
	list("limit=9&message_type=10").lists("items", "message_client_id", "tip")
	list("limit=9&message_types=10").lists("items", "message_client_id", "tip")
	page := list("limit=4&descending=false").lists("items", "message_client_id", "tip,m4,m3,m2").is("has_more", "true")
	c.say("carol", "later", "").ok()
	list("limit=4&descending=false&page_token="+page.str("next_token")).lists("items", "message_client_id", "m1,m0").is("has_more", "false")
	if r := list("limit=1"); !strings.Contains(string(r.raw), `"sender_client_type":"32"`) {
		t.Errorf("v2 shape: %s", r.raw)
	}
	if r := c.history(); !strings.Contains(string(r.raw), `"sender_client_type":32`) {
		t.Errorf("v2.1 shape: %s", r.raw)
	}
	for query, code := range map[string]engine.Code{"": engine.CodeBadParameter, "limit=0": engine.CodeBadParameter, "limit=101": engine.CodeBadParameter, "limit=1&message_type=x": engine.CodeBadParameter, "limit=1&message_type=99": engine.CodeBadParameter} {
		list(query).code(code)
	}
	c.get(roomPath + "?limit=5").code(engine.CodeBadParameter).says("sender_id")
	c.get(roomPath + "?limit=5&sender_id=ghost").code(codeAccountMissing)
	c.get("v2/chatrooms/5/messages?limit=5&sender_id=alice").code(codeRoomMissing)
	c.get("v2/chatrooms/x/messages?limit=5&sender_id=alice").code(engine.CodeBadParameter).says("room_id")
}

func TestStoredRoomMessagesAreBounded(t *testing.T) {
	c := newClient(t, Options{})
	c.say("carol", "m0", "").ok()
	for i := 0; i < maxStored; i += 20 {
		var batch []string
		for j := range 20 {
			batch = append(batch, fmt.Sprintf(`{"message_client_id":"m%d","message_type":0,"text":"x"}`, i+j+1))
		}
		c.post("v2/chatrooms/messages", `{"room_id":%s,"sender_id":"carol","messages":[%s]}`, lobby, strings.Join(batch, ",")).ok()
	}
	room := c.s.state.rooms[9007199254740997]
	if len(room.messages) != maxStored || len(room.byClientID) != maxStored {
		t.Errorf("%d messages, %d client ids", len(room.messages), len(room.byClientID))
	}
	c.get(roomPath+"?sender_id=alice&limit=1").is("items.0.message_client_id", "m1")
}

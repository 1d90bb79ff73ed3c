package sandbox

import (
	"strings"
	"testing"
)

func TestSeedErrors(t *testing.T) {
	for _, tt := range []struct{ seed, says string }{
		{``, "JSON"},
		{`{"accounts":[]`, "JSON"},
		{`[]`, "seed must be an object"},
		{`{}`, "seed.accounts is missing"},
		{`{"accounts":[{"id":"a"}],"acounts":[]}`, "seed.acounts is not known"},
		{`{"accounts":[{"id":"a","frends":[]}]}`, "seed.accounts[0].frends is not known"},
		{`{"accounts":[{"id":7}]}`, "seed.accounts[0].id must be a string"},
		{`{"accounts":[{"id":"a|b"}]}`, `accounts[0]: id "a|b"`},
		{`{"accounts":[{"id":"abcdefghijabcdefghijabcdefghij123"}]}`, "accounts[0]: id"},
		{`{"accounts":[{"id":"a"},{"id":"A"}]}`, `accounts[1]: id "a" is there twice`},
		{`{"accounts":[{"id":"a","friends":["b"]}]}`, `accounts[0]: friends: unknown account "b"`},
		{`{"accounts":[{"id":"a","blocked":["b"]}]}`, `accounts[0]: blocked: unknown account "b"`},
		{`{"accounts":[{"id":"a"}],"teams":[{"id":1}]}`, "seed.teams[0].owner is missing"},
		{`{"accounts":[{"id":"a"}],"teams":[{"id":1,"owner":"b"}]}`, `teams[0]: owner, managers and members: unknown account "b"`},
		{`{"accounts":[{"id":"a"}],"teams":[{"id":1,"owner":"a","muted_members":["b"]}]}`, "teams[0]: muted_members"},
		{`{"accounts":[{"id":"a"}],"teams":[{"id":1,"owner":"a"},{"id":1,"owner":"a"}]}`, "teams[1]: id 1 is there twice"},
		{`{"accounts":[{"id":"a"}],"teams":[{"id":1,"owner":"a","mute":"some"}]}`, "teams[0]: mute"},
		{`{"accounts":[{"id":"a"}],"rooms":[{"id":1,"creator":"b"}]}`, "rooms[0]: creator"},
		{`{"accounts":[{"id":"a"}],"rooms":[{"id":1,"creator":"a","members":[{"account":"b"}]}]}`, "rooms[0]: members"},
		{`{"accounts":[{"id":"a"}],"rooms":[{"id":1,"creator":"a"},{"id":1,"creator":"a"}]}`, "rooms[1]: id 1 is there twice"},
		{`{"accounts":[{"id":"a"}],"messages":[{"conversation_id":"a","message":{"message_type":0,"text":"x"}}]}`, "seed.messages[0].conversation_id"},
		{`{"accounts":[{"id":"a"}],"messages":[{"conversation_id":"a|1|b","message":{"message_type":0,"text":"x"}}]}`, "messages[0]: code 102404"},
		{`{"accounts":[{"id":"a"}],"messages":[{"conversation_id":"a|1|a","message_server_id":2,"message":{"message_type":0,"text":"x"}},
			{"conversation_id":"a|1|a","message_server_id":2,"message":{"message_type":0,"text":"x"}}]}`, "messages[1]: message_server_id 2"},
		{`{"accounts":[{"id":"a"}],"messages":[{"conversation_id":"a|1|a","create_time":2,"message":{"message_type":0,"text":"x"}},
			{"conversation_id":"a|1|a","create_time":1,"message":{"message_type":0,"text":"x"}}]}`, "messages[1]: create_time 1"},
	} {
		_, err := New(Options{Seed: []byte(tt.seed)})
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v does not name %q", tt.seed, err, tt.says)
		}
	}
}

func TestSeededMessages(t *testing.T) {
	c := newClient(t, Options{Seed: []byte(`{"accounts":[{"id":"a"},{"id":"b"}],"messages":[
		{"conversation_id":"a|1|b","message_server_id":77,"create_time":1700000000000,"message":{"message_type":0,"text":"old","message_client_id":"c"},"extension":"e"},
		{"conversation_id":"b|1|a","message":{"message_type":0,"text":"now"}}]}`)})
	c.get(conv("b|1|a", "/messages/77")).ok().is("text", "old", "create_time", "1700000000000", "message_client_id", "c", "extension", "e")
	c.get(conv("a|1|b")).ok().is("last_message.text", "now", "last_message.message_server_id", "78", "unread_count", "1")
	if id := c.text("a|1|b", "new"); id != "1232001762022391810" {
		t.Errorf("first id is %s", id)
	}
}

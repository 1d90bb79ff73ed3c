package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestCreateConversation(t *testing.T) {
	c := newClient(t, Options{})
	first := c.post("v2/conversations", `{"conversation_id":"Alice|1|BOB"}`).ok().
		is("conversation_id", "alice|1|bob", "sender_id", "alice", "receiver_id", "bob", "type", "1",
			"stick_top", "false", "unread_count", "0", "message_state", "0", "create_time", fmt.Sprint(c.now.UnixMilli()))
	c.wait(time.Minute)
	c.post("v2.1/conversations", `{"conversation_id":"alice|1|bob"}`).ok().is("create_time", first.str("create_time"))
	c.get(conv("bob|1|alice")).code(engine.CodeBadParameter) // the other side has none yet

	for id, code := range map[string]engine.Code{
		"ghost|1|bob":          codeAccountMissing,
		"alice|1|ghost":        codeAccountMissing,
		"alice|2|1":            codeTeamMissing,
		"alice|2|" + super:     codeTeamMissing, // that is a super team
		"dave|2|" + advanced:   codeNotTeamMember,
		"mallory|3|" + super:   codeNotTeamMember,
		"alice|0|bob":          engine.CodeBadParameter,
		"alice|1|bob|x":        engine.CodeBadParameter,
		"|1|bob":               engine.CodeBadParameter,
		"alice|2|+" + advanced: engine.CodeBadParameter,
	} {
		c.post("v2/conversations", `{"conversation_id":%q}`, id).code(code)
	}
}

func TestUpdateConversation(t *testing.T) {
	c := newClient(t, Options{})
	id := "alice|1|bob"
	c.patch(conv(id), `{"server_extension":"x"}`).code(engine.CodeBadParameter).says("conversation not exist")
	c.post("v2/conversations", `{"conversation_id":%q}`, id).ok()
	c.wait(time.Second)
	c.patch(conv(id), `{"server_extension":"<&>"}`).ok().is("server_extension", "<&>", "update_time", fmt.Sprint(c.now.UnixMilli()))
	c.patch(conv(id), `{}`).ok().is("server_extension", "<&>")
	c.patch(conv(id), `{"server_extension":""}`).ok().is("server_extension", "")
	c.patch(conv(id), `{"server_extension":%q}`, strings.Repeat("字", 1024)).ok()
	c.patch(conv(id), `{"server_extension":%q}`, strings.Repeat("字", 1025)).code(engine.CodeBadParameter).says("server_extension")
}

func TestSendMovesConversations(t *testing.T) {
	c := newClient(t, Options{})
	first := c.text("alice|1|bob", "one")
	bobs := c.get("v2.1/conversations/bob%7C1%7Calice").ok().is(
		"unread_count", "1", "last_message.text", "one", "last_message.message_server_id", first,
		"last_message.sender_id", "alice", "last_message.receiver_id", "bob",
		"last_message.sender_client_type", "32", "update_time", fmt.Sprint(c.now.UnixMilli()))
	if bobs.str("last_message.message_client_id") == "" {
		t.Error("no client id")
	}
	c.get(conv("bob|1|alice")).ok().is("last_message.message_client_id", "", "last_message.sender_client_type", "")
	c.get(conv("alice|1|bob")).ok().is("unread_count", "0", "last_message.text", "one")

	c.wait(time.Second)
	c.text("bob|1|carol", "x")
	c.wait(time.Second)
	c.text("alice|1|bob", "two")
	c.get("v2/conversations?account_id=bob").ok().
		lists("items", "conversation_id", "bob|1|alice,bob|1|carol").lists("items", "unread_count", "2,0")
	c.get("v2/conversation_overviews/bob").ok().is("account_id", "bob", "unread_count", "2")

	c.wait(time.Second)
	c.patch(conv("bob|1|alice", "/actions/clear_conversation_unread"), "").ok()
	c.get(conv("bob|1|alice")).is("unread_count", "0", "last_read_time", fmt.Sprint(c.now.UnixMilli()))
	c.text("alice|1|bob", "three")
	c.get(conv("bob|1|alice")).is("unread_count", "1")
	c.patch(conv("bob|1|dave", "/actions/clear_conversation_unread"), "").code(engine.CodeBadParameter)
	c.get("v2/conversation_overviews/ghost").code(codeAccountMissing)

	c.text("alice|2|"+advanced, "to the team")
	for _, member := range []string{"bob", "carol", "erin"} {
		c.get(conv(member+"|2|"+advanced)).ok().is("unread_count", "1", "last_message.team_id", advanced, "receiver_id", advanced)
	}
	c.get(conv("alice|2|"+advanced)).ok().is("unread_count", "0")

	c.text("alice|1|alice", "note to self")
	c.get(conv("alice|1|alice")).ok().is("unread_count", "0", "last_message.text", "note to self")
}

func TestBatchGetConversations(t *testing.T) {
	c := newClient(t, Options{})
	c.text("alice|1|bob", "hi")
	ids := "alice%7C1%7Cbob%2Calice%7C1%7Cghost,nonsense,bob%7C1%7Calice"
	check := func(r *reply) {
		t.Helper()
		r.ok().lists("success_list", "conversation_id", "alice|1|bob,bob|1|alice").
			lists("failed_list", "conversation_id", "alice|1|ghost,nonsense").
			lists("failed_list", "error_code", "110404,414").
			is("failed_list.0.error_msg", "conversation not exist")
	}
	check(c.get("v2/conversations/actions/conversation_ids?conversation_ids=" + ids))
	check(c.get("v2.1/conversations/actions/conversation_ids?conversation_ids=" + ids))
	check(c.post("v2.1/conversations/actions/conversation_ids", `{"conversation_ids":["alice|1|bob","alice|1|ghost","nonsense","bob|1|alice"]}`))

	c.get("v2/conversations/actions/conversation_ids").code(engine.CodeBadParameter)
	many := strings.Repeat("alice|1|bob,", 100)
	c.get("v2/conversations/actions/conversation_ids?conversation_ids=" + strings.TrimSuffix(many, ",")).ok()
	c.get("v2/conversations/actions/conversation_ids?conversation_ids=" + many + "alice|1|bob").code(engine.CodeBadParameter)
}

func TestListConversations(t *testing.T) {
	c := newClient(t, Options{Seed: crowd(120)})
	for i := range 120 {
		c.wait(time.Millisecond)
		c.text(fmt.Sprintf("u%d|1|alice", i), "hi")
	}
	c.get("v2/conversations?account_id=alice").ok().is("has_more", "true", "items.0.conversation_id", "alice|1|u119", "items.99.conversation_id", "alice|1|u20", "items.100", "")

	var all []string
	for token := ""; ; {
		page := c.get("v2/conversations?account_id=alice&limit=50&page_token=" + token).ok()
		all = append(all, page.each("items", "receiver_id"))
		if token = page.str("next_token"); token == "" {
			page.is("has_more", "false")
			break
		}
		page.is("has_more", "true")
		c.text("u7|1|u8", "elsewhere")
	}
	if got := strings.Split(strings.Join(all, ","), ","); len(got) != 120 || got[0] != "u119" || got[119] != "u0" {
		t.Errorf("%d items: %v", len(got), got)
	}
	for _, bad := range []string{"limit=0", "limit=101", "limit=-1", "page_token=x", "page_token=MS4x!", "page_token=Kio"} {
		c.get("v2/conversations?account_id=alice&" + bad).code(engine.CodeBadParameter)
	}
	c.get("v2/conversations?account_id=ghost").code(codeAccountMissing)
	c.get("v2/conversations?account_id=u1&limit=1").ok().is("items.0.conversation_id", "u1|1|alice", "has_more", "false")
}

// crowd is a seed with alice and n more accounts, all in a team of alice.
func crowd(n int) []byte {
	accounts, members := `{"id":"alice"}`, ``
	for i := range n {
		accounts += fmt.Sprintf(`,{"id":"u%d"}`, i)
		members += fmt.Sprintf(`,"u%d"`, i)
	}
	return fmt.Appendf(nil, `{"accounts":[%s],"teams":[{"id":1,"owner":"alice","members":[%s]}]}`, accounts, members[1:])
}

func TestPinConversations(t *testing.T) {
	c := newClient(t, Options{Seed: crowd(101)})
	pin := func(i, top int) *reply {
		return c.post(conv(fmt.Sprintf("alice|1|u%d", i), "/actions/stick_top_conversation"), `{"top_type":%d}`, top)
	}
	pin(0, 1).code(codeConversationMissing)
	for i := range 101 {
		c.text(fmt.Sprintf("u%d|1|alice", i), "hi")
	}
	pin(0, 0).code(codeNotPinned)
	pin(0, 2).code(engine.CodeBadParameter)
	for i := range 100 {
		pin(i, 1).ok().is("stick_top", "true", "conversation_id", fmt.Sprintf("alice|1|u%d", i), "type", "1")
	}
	pin(5, 1).ok() // already pinned
	pin(100, 1).code(codePinLimit)
	// Pinned ones first, though the last conversation is the newest.
	c.get("v2/conversations?account_id=alice&limit=1").ok().is("items.0.receiver_id", "u99", "items.0.stick_top", "true")
	c.patch(conv("alice|1|u99", "/actions/stick_top_conversation"), `{"top_type":0}`).ok().is("stick_top", "false")
	pin(100, 1).ok()
	c.get("v2/conversations?account_id=alice&limit=2").ok().lists("items", "receiver_id", "u100,u98")
	c.get("v2/conversations?account_id=alice&limit=100&page_token="+c.get("v2/conversations?account_id=alice").str("next_token")).
		ok().lists("items", "receiver_id", "u99")
}

func TestDeleteConversation(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("alice|1|bob", "hi")
	c.del(conv("alice|1|bob")).ok()
	c.del(conv("alice|1|bob")).code(codeConversationMissing)
	c.get(conv("bob|1|alice")).ok().is("unread_count", "1") // the other side keeps its own
	c.get(conv("alice|1|bob", "/messages/", id)).ok()

	c.post("v2/conversations", `{"conversation_id":"alice|1|bob"}`).ok().is("unread_count", "0")
	c.del(conv("alice|1|bob") + "?clear_message=true").ok()
	c.get(conv("alice|1|bob", "/messages/", id)).code(codeMessageMissing)
	c.get(conv("bob|1|alice", "/messages/", id)).ok()
	c.text("bob|1|alice", "again")
	c.get(conv("alice|1|bob")).ok().is("unread_count", "1")
}

func TestBatchDeleteConversations(t *testing.T) {
	c := newClient(t, Options{})
	c.text("alice|1|bob", "hi")
	c.text("alice|1|carol", "hi")
	const target = "v2/conversations/actions/conversation_ids?conversation_ids="
	c.del(target + "alice|1|bob,bob|1|alice").code(codeOwnersDiffer)
	c.get(conv("alice|1|bob")).ok()
	c.del(target+"alice|1|bob,alice|1|ghost,x").ok().is("success_list", "alice|1|bob").
		lists("failed_list", "error_code", "110404,414").lists("failed_list", "conversation_id", "alice|1|ghost,x")
	c.get(conv("alice|1|bob")).code(engine.CodeBadParameter)
	c.get(conv("alice|1|carol")).ok()
	c.del(target).code(engine.CodeBadParameter)
	c.del(target + strings.Repeat("alice|1|bob,", 100) + "alice|1|bob").code(engine.CodeBadParameter)
}

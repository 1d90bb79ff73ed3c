package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestSendMessage(t *testing.T) {
	c := newClient(t, Options{})
	attachment := `{"url":"http://x/?a=1&b=<2>","w":9007199254740993,"f":1.50,"e":1e400,"n":{"z":null,"a":[]},"z":1,"z":2}`
	sent := c.post(conv("alice|1|bob", "/messages"),
		`{"message":{"message_type":1,"sub_type":3,"text":"d","attachment":%s,"message_client_id":"c1"},"extension":"ext"}`, attachment).ok().
		is("message_client_id", "c1", "sender_id", "alice", "conversation_type", "1", "receiver_id", "bob",
			"create_time", fmt.Sprint(c.now.UnixMilli()), "message_type", "1", "sub_type", "3", "text", "d", "extension", "")
	if !strings.Contains(string(sent.raw), `"attachment":`+attachment) {
		t.Errorf("attachment changed: %s", sent.raw)
	}
	id := sent.str("message_server_id")
	if n, _ := strconv.ParseInt(id, 10, 64); n <= 1<<53 {
		t.Errorf("id %s is exact in a double", id)
	}
	stored := c.get("v2.1/conversations/bob%7C1%7Calice/messages/"+id).ok().
		is("message_server_id", id, "extension", "ext", "sender_client_type", "32", "receiver_id", "bob", "team_id", "")
	if !strings.Contains(string(stored.raw), `"attachment":`+attachment) {
		t.Errorf("attachment changed: %s", stored.raw)
	}
	if v2 := c.get(conv("bob|1|alice", "/messages/", id)).ok(); !strings.Contains(string(v2.raw), `"sender_client_type":"32"`) {
		t.Errorf("v2 shape: %s", v2.raw)
	}

	team := c.post(conv("alice|2|"+advanced, "/messages"), `{"message":{"message_type":0,"text":"x"}}`).ok().is("receiver_id", advanced)
	if next := team.str("message_server_id"); next <= id || team.str("message_client_id") == "" {
		t.Errorf("after %s came %s", id, team.raw)
	}
	c.get(conv("alice|2|"+advanced, "/messages/", team.str("message_server_id"))).ok().is("team_id", advanced, "receiver_id", "")
}

func TestSendRefusals(t *testing.T) {
	c := newClient(t, Options{})
	const plain = `{"message":{"message_type":0,"text":"x"}}`
	long := func(n int) string { return strings.Repeat("字", n) }
	for _, tt := range []struct {
		id, body string
		code     engine.Code
	}{
		{"ghost|1|bob", plain, codeAccountMissing},
		{"alice|1|ghost", plain, codeAccountMissing},
		{"muted|1|bob", plain, codeAccountMuted},
		{"banned|1|bob", plain, codeAccountBanned},
		{"mallory|1|dave", plain, codeAccountBlockListed},
		{"dave|1|mallory", plain, engine.CodeOK},
		{"alice|1|dave", `{"message":{"message_type":0,"text":"x"},"p2p_option":{"check_friend":true}}`, codeNotFriends},
		{"alice|1|dave", plain, engine.CodeOK},
		{"carol|1|alice", `{"message":{"message_type":0,"text":"x"},"p2p_option":{"check_friend":true}}`, engine.CodeOK},

		{"alice|2|1", plain, codeTeamMissing},
		{"alice|3|" + advanced, plain, codeTeamMissing},
		{"dave|2|" + advanced, plain, codeNotTeamMember},
		{"dave|2|" + advanced, `{"message":{"message_type":0,"text":"x"},"team_option":{"check_team_member_valid":false}}`, engine.CodeOK},
		{"dave|2|" + advanced, `{"message":{"message_type":0,"text":"x"},"superteam_option":{"check_team_member_valid":false}}`, codeNotTeamMember},
		{"erin|2|" + advanced, plain, codeMemberMuted},
		{"erin|2|" + advanced, `{"message":{"message_type":0,"text":"x"},"team_option":{"ignore_chat_banned":true}}`, codeMemberMuted},
		{"erin|2|" + advanced, `{"message":{"message_type":0,"text":"x"},"team_option":{"ignore_member_chat_banned":true}}`, engine.CodeOK},
		{"alice|2|" + hushed, plain, codeTeamMuted},
		{"alice|2|" + hushed, `{"message":{"message_type":0,"text":"x"},"team_option":{"ignore_member_chat_banned":true}}`, codeTeamMuted},
		{"alice|2|" + hushed, `{"message":{"message_type":0,"text":"x"},"team_option":{"ignore_chat_banned":true}}`, engine.CodeOK},
		{"mallory|3|" + super, plain, codeNotTeamMember},
		{"mallory|3|" + super, `{"message":{"message_type":0,"text":"x"},"superteam_option":{"check_team_member_valid":false}}`, engine.CodeOK},

		{"alice|1|bob", `{"message":{"message_type":0,"text":"x"},"sender_no_sense":true,"receiver_no_sense":true}`, codeNobodySenses},
		{"alice|1|bob", `{"message":{"message_type":0,"text":""}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":10}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":1,"text":"x"}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":5,"attachment":{}}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":11,"attachment":{}}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":7,"attachment":{}}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":100,"attachment":{}}}`, engine.CodeOK},
		{"alice|1|bob", `{"message":{"message_type":0,"sub_type":-1,"text":"x"}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"` + long(5000) + `"}}`, engine.CodeOK},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"` + long(5001) + `"}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":6,"attachment":{},"text":"` + long(500) + `"}}`, engine.CodeOK},
		{"alice|1|bob", `{"message":{"message_type":6,"attachment":{},"text":"` + long(501) + `"}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":6,"attachment":{"k":"` + long(5000) + `"}}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"x"},"extension":"` + long(1025) + `"}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"x","message_client_id":"` + long(129) + `"}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"x"},"push_config":{"push_content":"` + long(501) + `"}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"x"},"push_config":{"push_payload":"` + long(2049) + `"}}`, engine.CodeBadParameter},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"x"},"antispam_config":{"antispam_cheating":"` + long(1025) + `"}}`, engine.CodeBadParameter},
		{"alice|2|" + advanced, `{"message":{"message_type":0,"text":"x"},"push_config":{"push_forcepush_ids":["` + strings.Repeat(`a","`, 100) + `a"]}}`, codeForcePushLimit},
		{"alice|2|" + advanced, `{"message":{"message_type":0,"text":"x"},"push_config":{"push_forcepush_ids":["` + strings.Repeat(`a","`, 99) + `a"]}}`, engine.CodeOK},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"x"},"robot_config":{"robot_account_id":"bob"}}`, codeNotRobot},
		{"alice|1|bob", `{"message":{"message_type":0,"text":"x"},"ai_params":{"account":"bob","content":{"msg":"q"}}}`, codeAIDisabled},
	} {
		c.do("POST", conv(tt.id, "/messages"), tt.body).code(tt.code)
	}
}

func TestMutedMembers(t *testing.T) {
	c := newClient(t, Options{Seed: []byte(`{"accounts":[{"id":"a"},{"id":"b"},{"id":"c"}],
		"teams":[{"id":1,"owner":"a","managers":["b"],"members":["c"],"mute":"members"}]}`)})
	c.text("a|2|1", "x")
	c.text("b|2|1", "x")
	c.post(conv("c|2|1", "/messages"), `{"message":{"message_type":0,"text":"x"}}`).code(codeMembersMuted)
	c.post(conv("c|2|1", "/messages"), `{"message":{"message_type":0,"text":"x"},"team_option":{"ignore_chat_banned":true}}`).ok()
}

func TestDuplicateClientID(t *testing.T) {
	c := newClient(t, Options{})
	const body = `{"message":{"message_type":0,"text":"x","message_client_id":"same"}}`
	c.post(conv("alice|1|bob", "/messages"), body).ok()
	c.post(conv("alice|1|bob", "/messages"), body).code(codeDuplicateClientID)
	c.post(conv("alice|1|carol", "/messages"), body).code(codeDuplicateClientID)
	c.post(conv("bob|1|alice", "/messages"), body).ok()
	c.get("v2/conversation_overviews/bob").is("unread_count", "1")
}

func TestMessageConfig(t *testing.T) {
	c := newClient(t, Options{})
	send := func(rest string) string {
		t.Helper()
		return c.post(conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"x"},%s}`, rest).ok().str("message_server_id")
	}
	id := send(`"message_config":{"conversation_update_enabled":false}`)
	c.get(conv("bob|1|alice")).code(engine.CodeBadParameter)
	c.get(conv("bob|1|alice", "/messages/", id)).ok()

	send(`"message_config":{"unread_enabled":false}`)
	c.get(conv("bob|1|alice")).ok().is("unread_count", "0")

	id = send(`"message_config":{"history_enabled":false}`)
	c.get(conv("bob|1|alice")).ok().is("unread_count", "1", "last_message.message_server_id", id)
	c.get(conv("bob|1|alice", "/messages/", id)).code(codeMessageMissing)

	id = send(`"receiver_no_sense":true`)
	c.get(conv("alice|1|bob")).is("last_message.message_server_id", id)
	if c.get(conv("bob|1|alice")).is("unread_count", "1").str("last_message.message_server_id") == id {
		t.Error("receiver was given the message")
	}
	c.get(conv("alice|1|bob", "/messages/", id)).ok()
	c.get(conv("bob|1|alice", "/messages/", id)).code(codeMessageMissing)

	id = send(`"sender_no_sense":true`)
	c.get(conv("bob|1|alice")).is("unread_count", "2", "last_message.message_server_id", id)
	c.get(conv("alice|1|bob", "/messages/", id)).code(codeMessageMissing)
}

func TestTargetedMessages(t *testing.T) {
	c := newClient(t, Options{})
	send := func(id, target string) *reply {
		return c.post(conv(id, "/messages"), `{"message":{"message_type":0,"text":"psst"},"target_option":%s}`, target)
	}
	in := "alice|2|" + advanced
	id := send(in, `{"receiver_account_ids":["bob"],"inclusive":true}`).ok().str("message_server_id")
	for member, code := range map[string]engine.Code{"alice": engine.CodeOK, "bob": engine.CodeOK, "carol": codeMessageMissing} {
		c.get("v2.1/" + conv(member+"|2|"+advanced, "/messages/", id)[3:]).code(code)
	}
	c.get("v2.1/"+conv(in, "/messages/", id)[3:]).is("receiver_account_ids", "bob", "inclusive", "true", "new_member_visible", "false")
	c.get(conv(in, "/messages/", id)).is("receiver_account_ids", "", "inclusive", "")
	c.get(conv("carol|2|" + advanced)).code(engine.CodeBadParameter)
	c.get(conv("bob|2|"+advanced)).ok().is("unread_count", "1")
	c.get("v2/messages/actions/search_messages?operator_id=carol&keyword_list=%5B%22psst%22%5D").ok().is("count", "0")

	id = send(in, `{"receiver_account_ids":["bob"],"inclusive":false,"visible_to_new_member":true}`).ok().str("message_server_id")
	c.get(conv("carol|2|"+advanced, "/messages/", id)).ok()
	c.get(conv("bob|2|"+advanced, "/messages/", id)).code(codeMessageMissing)

	for _, tt := range []struct {
		id, target string
		code       engine.Code
	}{
		{"alice|1|bob", `{"receiver_account_ids":["bob"]}`, engine.CodeBadParameter},
		{in, `{"receiver_account_ids":[]}`, engine.CodeBadParameter},
		{in, `{"receiver_account_ids":["alice"],"inclusive":true}`, codeTargetHasSender},
		{in, `{"receiver_account_ids":["bob"],"inclusive":true,"visible_to_new_member":true}`, codeTargetNewMember},
		{in, `{"receiver_account_ids":["dave"],"inclusive":true,"check_team_member_valid":true}`, codeNotTeamMember},
		{in, `{"receiver_account_ids":["dave"],"inclusive":true}`, engine.CodeOK},
		{"alice|3|" + super, `{"receiver_account_ids":["bob"],"inclusive":false}`, codeTargetSuperExclusive},
		{"alice|3|" + super, `{"receiver_account_ids":["bob"],"inclusive":true,"visible_to_new_member":true}`, codeTargetSuperNewMember},
		{"alice|3|" + super, `{"receiver_account_ids":["bob"],"inclusive":true}`, engine.CodeOK},
		{in, `{"receiver_account_ids":["bob"],"inclusive":true},"push_config":{"push_forcepush_enable":true,"push_forcepush_ids":["carol"]}`, codeForcePushOutside},
		{in, `{"receiver_account_ids":["bob"],"inclusive":true},"push_config":{"push_forcepush_enable":true,"push_forcepush_ids":["bob"]}`, engine.CodeOK},
	} {
		send(tt.id, tt.target).code(tt.code)
	}
}

func TestBatchSend(t *testing.T) {
	c := newClient(t, Options{})
	c.post("v2/conversations/messages", `{"sender_id":"mallory","receiver_ids":["alice","ghost","dave","bob"],"message":{"message_type":0,"text":"all"},"extension":"e"}`).ok().
		lists("success_list", "receiver_id", "alice,bob").lists("success_list", "text", "all,all").
		is("success_list.0.message_client_id", "").
		lists("failed_list", "account_id", "ghost,dave").lists("failed_list", "error_code", "102404,102426").
		is("failed_list.0.error_msg", `account not exist: "ghost"`)
	c.get(conv("bob|1|mallory")).ok().is("last_message.text", "all", "last_message.extension", "e")
	if r := c.post("v2/conversations/messages", `{"sender_id":"alice","receiver_ids":["bob"],"message":{"message_type":0,"text":"x"}}`).ok(); r.at("failed_list") != nil {
		t.Errorf("empty failed_list: %s", r.raw)
	}
	for body, code := range map[string]engine.Code{
		`{"sender_id":"ghost","receiver_ids":["bob"],"message":{"message_type":0,"text":"x"}}`:                                                 codeAccountMissing,
		`{"sender_id":"muted","receiver_ids":["bob"],"message":{"message_type":0,"text":"x"}}`:                                                 codeAccountMuted,
		`{"sender_id":"banned","receiver_ids":["bob"],"message":{"message_type":0,"text":"x"}}`:                                                codeAccountBanned,
		`{"sender_id":"alice","receiver_ids":[],"message":{"message_type":0,"text":"x"}}`:                                                      engine.CodeBadParameter,
		`{"sender_id":"alice","receiver_ids":["bob"],"message":{"message_type":0}}`:                                                            engine.CodeBadParameter,
		`{"sender_id":"alice","receiver_ids":["bob"],"message":{"message_type":0,"text":"x"},"sender_no_sense":true,"receiver_no_sense":true}`: codeNobodySenses,
		`{"sender_id":"alice","receiver_ids":["` + strings.Repeat(`bob","`, 100) + `bob"],"message":{"message_type":0,"text":"x"}}`:            engine.CodeBadParameter,
	} {
		c.do("POST", "v2/conversations/messages", body).code(code)
	}
}

func TestModifyMessage(t *testing.T) {
	c := newClient(t, Options{})
	start := c.now.UnixMilli()
	id := c.text("alice|1|bob", "old")
	modify := func(operator, rest, content string) *reply {
		return c.post("v2/messages/actions/modifyMsg",
			`{"operator":%q,"type":1,"message":{"message_server_id":%s,"receiver_id":"bob","time":%d,"sender_id":"alice",%s}%s}`,
			operator, id, start, content, rest)
	}
	const fresh = `"message_type":0,"text":"new"`
	modify("bob", "", fresh).code(engine.CodeForbidden)
	modify("ghost", "", fresh).code(engine.CodeForbidden)
	modify("alice", "", `"message_type":10,"text":"new"`).code(engine.CodeBadParameter).says("message_type")
	modify("alice", "", `"message_type":0`).code(engine.CodeBadParameter).says("text")
	c.wait(time.Second)
	modify("alice", `,"extension":"e"`, fresh).ok().is("modify_account_id", "alice", "modify_time", fmt.Sprint(c.now.UnixMilli()),
		"message_server_id", id, "create_time", fmt.Sprint(start), "text", "new", "receiver_id", "bob", "extension", "e")
	c.get(conv("alice|1|bob", "/messages/", id)).is("text", "new", "modify_account_id", "alice", "extension", "e")
	c.get(conv("bob|1|alice")).is("last_message.text", "new", "unread_count", "1")

	c.wait(999 * time.Millisecond)
	modify("alice", "", fresh).code(codeModifyTooFast)
	c.wait(time.Millisecond)
	modify("alice", `,"message_config":{"conversation_update_enabled":false}`, `"message_type":0,"text":"quiet"`).ok()
	c.get(conv("alice|1|bob", "/messages/", id)).is("text", "quiet", "extension", "e")
	c.get(conv("bob|1|alice")).is("last_message.text", "new")

	c.text("bob|1|alice", "later")
	c.wait(time.Second)
	modify("alice", "", `"message_type":0,"text":"not last"`).ok()
	c.get(conv("bob|1|alice")).is("last_message.text", "later")

	c.wait(time.UnixMilli(start).Add(modifyWindow).Sub(c.now))
	modify("alice", "", fresh).ok()
	c.wait(time.Second)
	modify("alice", "", fresh).code(engine.CodeBadParameter).says("7 days")

	for _, wrong := range []string{
		`"message_server_id":1,"receiver_id":"bob","time":%d,"sender_id":"alice"`,
		`"message_server_id":` + id + `,"receiver_id":"carol","time":%d,"sender_id":"alice"`,
		`"message_server_id":` + id + `,"receiver_id":"alice","time":%d,"sender_id":"bob"`,
		`"message_server_id":` + id + `,"receiver_id":"bob","time":1%d,"sender_id":"alice"`,
	} {
		c.post("v2/messages/actions/modifyMsg", `{"operator":"alice","type":1,"message":{`+wrong+`,"message_type":0,"text":"x"}}`, start).
			code(codeMessageMissing)
	}
}

func TestModifyTeamMessage(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("carol|2|"+advanced, "old")
	modify := func(operator string) *reply {
		c.wait(time.Second)
		return c.post("v2/messages/actions/modifyMsg",
			`{"operator":%q,"type":2,"message":{"message_server_id":%s,"receiver_id":%q,"time":%d,"sender_id":"carol","message_type":0,"text":"by %s"}}`,
			operator, id, advanced, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli(), operator)
	}
	for operator, code := range map[string]engine.Code{
		"carol": engine.CodeOK, "alice": engine.CodeOK, "bob": engine.CodeOK, "erin": codeOwnerOrManagerOnly, "dave": codeOwnerOrManagerOnly,
	} {
		modify(operator).code(code)
	}
	for kind, code := range map[int]engine.Code{0: engine.CodeBadParameter, -1: engine.CodeBadParameter, 1: codeMessageMissing, 3: codeMessageMissing, 4: engine.CodeBadParameter} {
		c.post("v2/messages/actions/modifyMsg", `{"operator":"carol","type":%d,"message":{"message_server_id":%s,"receiver_id":%q,"time":1,"sender_id":"carol","message_type":0,"text":"x"}}`,
			kind, id, advanced).code(code)
	}
	modify("bob").ok().is("modify_account_id", "bob", "sender_id", "carol", "receiver_id", advanced)
	c.get(conv("erin|2|"+advanced)).is("last_message.text", "by bob")
}

func TestStoredMessagesAreBounded(t *testing.T) {
	c := newClient(t, Options{})
	first := c.post(conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"x","message_client_id":"first"}}`).ok().str("message_server_id")
	c.text("alice|1|bob", "x")
	more := strings.TrimSuffix(strings.Repeat(`"bob",`, 100-1), ",")
	for range (maxStored - 2) / (100 - 1) {
		c.post("v2/conversations/messages", `{"sender_id":"alice","receiver_ids":[%s],"message":{"message_type":0,"text":"x"}}`, more).ok()
	}
	for range (maxStored - 2) % (100 - 1) {
		c.text("alice|1|bob", "x")
	}
	c.get(conv("alice|1|bob", "/messages/", first)).ok()
	c.text("alice|1|bob", "x")
	c.get(conv("alice|1|bob", "/messages/", first)).code(codeMessageMissing)
	if s := c.s.state; len(s.messages) != maxStored || len(s.sent) != maxStored {
		t.Errorf("%d messages, %d client ids", len(s.messages), len(s.sent))
	}
	c.get("v2/conversation_overviews/bob").is("unread_count", strconv.Itoa(maxStored))
}

package sandbox

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// talk sends n texts "0", "1", ... from alice to bob, a second apart, and
// returns the time of the first.
func talk(c *client, n int) int64 {
	start := c.now.UnixMilli()
	for i := range n {
		c.text("alice|1|bob", fmt.Sprint(i))
		c.wait(time.Second)
	}
	return start
}

func TestListMessages(t *testing.T) {
	c := newClient(t, Options{})
	start := talk(c, 10)
	list := func(format string, args ...any) *reply {
		return c.get(conv("bob|1|alice", "/messages?", fmt.Sprintf(format, args...)))
	}
	all := fmt.Sprintf("begin_time=%d&end_time=%d", start, start+9000)
	list("%s&limit=100", all).ok().lists("items", "text", "9,8,7,6,5,4,3,2,1,0").is("has_more", "false", "next_token", "")
	list("%s&limit=100&descending=true", all).lists("items", "text", "0,1,2,3,4,5,6,7,8,9")
	list("%s&limit=3&descending=true", all).lists("items", "text", "0,1,2").is("has_more", "true")
	list("begin_time=%d&end_time=%d&limit=9", start+2000, start+4000).lists("items", "text", "4,3,2")
	list("begin_time=%d&end_time=%d&limit=9", start+2001, start+3999).lists("items", "text", "3")
	list("begin_time=%d&end_time=%d&limit=9", start+2000, start+2000).lists("items", "text", "2")
	list("begin_time=2&end_time=1&limit=9").code(engine.CodeTimeRange)
	for _, bad := range []string{"limit=0", "limit=101", "limit=5&page_token=!", "limit=5&message_type=99"} {
		list("%s&%s", all, bad).code(engine.CodeBadParameter)
	}
	list("end_time=5&limit=5").code(engine.CodeBadParameter).says("begin_time")
	list("begin_time=5&limit=5").code(engine.CodeBadParameter).says("end_time")
	list("begin_time=0&end_time=5").code(engine.CodeBadParameter).says("limit")
}

func TestPagesSurviveNewMessages(t *testing.T) {
	for descending, want := range map[string]string{"false": "6,5,4,3,2,1,0", "true": "0,1,2,3,4,5,6,new,new"} {
		c := newClient(t, Options{})
		talk(c, 7)
		var got []string
		for token := ""; ; {
			page := c.get(conv("bob|1|alice", "/messages?begin_time=0&end_time=9999999999999&limit=3&descending=", descending, "&page_token=", token)).ok()
			got = append(got, page.each("items", "text"))
			if token = page.str("next_token"); token == "" {
				break
			}
			c.text("bob|1|alice", "new") // lands on the last page, or on none
		}
		if all := strings.Join(got, ","); all != want {
			t.Errorf("descending=%s: %s", descending, all)
		}
	}
}

func TestListMessagesFilters(t *testing.T) {
	c := newClient(t, Options{})
	const all = "/messages?begin_time=0&end_time=9999999999999&limit=9"
	c.text("alice|1|bob", "text")
	c.post(conv("alice|1|bob", "/messages"), `{"message":{"message_type":10,"text":"tip"}}`).ok()
	c.post(conv("alice|1|bob", "/messages"), `{"message":{"message_type":1,"text":"image","attachment":{}},"receiver_no_sense":true}`).ok()
	c.get(conv("bob|1|alice", all)).lists("items", "text", "tip,text")
	c.get(conv("bob|1|alice", all, "&include_no_sense_msg=true")).lists("items", "text", "image,tip,text")
	c.get(conv("bob|1|alice", all, "&include_no_sense_msg=true&message_type=0,1")).lists("items", "text", "image,text")
	c.get(conv("alice|1|bob", all, "&message_type=10")).lists("items", "text", "tip")
	c.get(conv("alice|1|dave", all)).ok().is("items", "")
	c.get(conv("alice|1|ghost", all)).code(codeAccountMissing)
	c.get(conv("dave|2|"+advanced, all)).code(codeNotTeamMember)
	c.get(conv("dave|2|"+advanced, all, "&check_team_valid=false")).ok()
	c.get(conv("alice|2|5", all)).code(codeTeamMissing)
	c.get(conv("alice|2|5", all, "&check_team_valid=false")).ok().is("items", "")
	c.get(conv("mallory|3|"+super, all)).ok() // no effect for super teams
}

func TestGetMessageChecks(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("alice|2|"+advanced, "x")
	get := func(conversation, query string) *reply {
		return c.get(conv(conversation, "/messages/", id, "?", query))
	}
	get("dave|2|"+advanced, "").ok()
	get("dave|2|"+advanced, "check_team_member_valid=true").code(codeNotTeamMember)
	get("dave|2|"+advanced, "check_team_valid=true").ok()
	get("alice|2|5", "").code(codeMessageMissing)
	get("alice|2|5", "check_team_valid=true").code(codeTeamMissing)
	get("ghost|2|"+advanced, "").code(codeAccountMissing)
	get("alice|1|bob", "").code(codeMessageMissing)
	get("alice|1|ghost", "").code(codeAccountMissing)
}

func TestBatchGetMessages(t *testing.T) {
	c := newClient(t, Options{})
	now := c.now.UnixMilli()
	id := c.text("alice|1|bob", "x")
	for _, version := range []string{"v2/", "v2.1/"} {
		c.post(version+conv("bob|1|alice", "/batch_messages")[3:],
			`{"messages":[{"message_server_id":%s,"create_time":%d},{"message_server_id":%s,"create_time":5},{"message_server_id":7,"create_time":8}]}`, id, now, id).ok().
			lists("success_list", "message_server_id", id).
			lists("failed_list", "message_server_id", id+",7").lists("failed_list", "create_time", "5,8").
			lists("failed_list", "error_code", "107404,107404").lists("failed_list", "error_msg", "message not exist,message not exist")
	}
	c.post(conv("bob|1|alice", "/batch_messages"), `{"messages":[]}`).code(engine.CodeBadParameter)
	c.post(conv("bob|1|ghost", "/batch_messages"), `{"messages":[{"message_server_id":7,"create_time":8}]}`).code(codeAccountMissing)
	c.post(conv("alice|2|5", "/batch_messages"), `{"messages":[{"message_server_id":7,"create_time":8}]}`).code(codeTeamMissing)
}

// ref is a message's address as a JSON object.
func ref(sent *reply) string {
	return fmt.Sprintf(`{"sender_id":%q,"receiver_id":%q,"create_time":%s,"message_server_id":%s,"message_client_id":%q}`,
		sent.str("sender_id"), sent.str("receiver_id"), sent.str("create_time"), sent.str("message_server_id"), sent.str("message_client_id"))
}

func TestThreads(t *testing.T) {
	c := newClient(t, Options{})
	path := conv("alice|2|"+advanced, "/messages")
	root := c.post(path, `{"message":{"message_type":0,"text":"root"}}`).ok()
	answer := func(id, text, thread string) *reply {
		c.wait(time.Second)
		return c.post(conv(id, "/messages"), `{"message":{"message_type":0,"text":%q},"thread_config":%s}`, text, thread)
	}
	first := answer("bob|2|"+advanced, "first", fmt.Sprintf(`{"thread_root":%s,"thread_reply":%s}`, ref(root), ref(root))).ok().
		is("thread_config.thread_root.message_server_id", root.str("message_server_id"))
	second := answer("alice|2|"+advanced, "second", fmt.Sprintf(`{"thread_root":%s,"thread_reply":%s}`, ref(root), ref(first))).ok()
	c.text("alice|2|"+advanced, "no reply")
	other := c.post(conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"elsewhere"}}`).ok()
	answer("alice|2|"+advanced, "x", fmt.Sprintf(`{"thread_root":%s,"thread_reply":%s}`, ref(root), ref(other))).code(codeMessageMissing)
	answer("alice|1|bob", "x", fmt.Sprintf(`{"thread_root":%s,"thread_reply":%s}`, ref(root), ref(root))).code(codeMessageMissing)
	answer("alice|2|"+advanced, "x", fmt.Sprintf(`{"thread_root":%s}`, ref(root))).code(engine.CodeBadParameter).says("thread_reply")

	query := func(version, rest string) *reply {
		return c.get(fmt.Sprintf("%s/messages/actions/thread_messages?conversation_type=2&sender_id=alice&receiver_id=%s&create_time=%s&message_server_id=%s&message_client_id=%s&%s",
			version, advanced, root.str("create_time"), root.str("message_server_id"), root.str("message_client_id"), rest))
	}
	const all = "begin_time=0&end_time=9999999999999&limit=9"
	got := query("v2.1", all).ok().lists("messages", "text", "second,first").is("total", "2", "has_more", "false",
		"thread_root.text", "root", "thread_root.thread_config", "", "messages.0.conversation_type", "2",
		"messages.0.thread_config.thread_reply.message_server_id", first.str("message_server_id"))
	if !strings.Contains(string(got.raw), `"message_server_id":`+root.str("message_server_id")+`,"message_client_id"`) {
		t.Errorf("id is no number: %s", got.raw)
	}
	query("v2.1", all+"&descending=true").lists("messages", "text", "first,second")
	page := query("v2.1", "begin_time=0&end_time=9999999999999&limit=1").lists("messages", "text", "second").is("has_more", "true", "total", "2")
	query("v2.1", "begin_time=0&end_time=9999999999999&limit=1&page_token="+page.str("next_token")).lists("messages", "text", "first").is("has_more", "false")
	query("v2.1", "begin_time="+second.str("create_time")+"&end_time=9999999999999&limit=9").lists("messages", "text", "second").is("total", "2")
	query("v2.1", "begin_time=2&end_time=1&limit=9").code(engine.CodeTimeRange)
	query("v2.1", "begin_time=0&end_time=1&limit=101").code(engine.CodeBadParameter)
	old := query("v2", all).ok().is("thread_root.conversation_type", "", "messages.0.conversation_type", "")
	if !strings.Contains(string(old.raw), `"message_server_id":"`+root.str("message_server_id")+`"`) {
		t.Errorf("id is no string in v2: %s", old.raw)
	}

	c.del(conv("alice|2|"+advanced, "/messages/", second.str("message_server_id"), "?type=2&ingore_revoke_time=1")).ok()
	query("v2.1", all).lists("messages", "text", "first").is("total", "1")
	c.del(conv("alice|2|"+advanced, "/messages/", root.str("message_server_id"), "?type=2&ingore_revoke_time=1")).ok()
	query("v2.1", all).code(codeMessageMissing)
	c.get("v2/messages/actions/thread_messages?conversation_type=2&sender_id=alice&receiver_id=5&create_time=1&message_server_id=1&message_client_id=1&" + all).code(codeTeamMissing)
	c.get("v2/messages/actions/thread_messages?conversation_type=1&sender_id=alice&receiver_id=bob&create_time=1&message_server_id=1&message_client_id=1&" + all).code(codeMessageMissing)
	c.get("v2/messages/actions/thread_messages?conversation_type=3&sender_id=alice&receiver_id=" + super + "&create_time=1&message_server_id=1&message_client_id=1&" + all).code(codeMessageMissing)
	c.get("v2/messages/actions/thread_messages?conversation_type=4&sender_id=alice&receiver_id=5&create_time=1&message_server_id=1&message_client_id=1&" + all).code(engine.CodeBadParameter)
}

func TestSearch(t *testing.T) {
	c := newClient(t, Options{})
	start := c.now.UnixMilli()
	say := func(id, message string) {
		t.Helper()
		c.post(conv(id, "/messages"), `{"message":%s}`, message).ok()
		c.wait(time.Second)
	}
	say("alice|1|bob", `{"message_type":0,"text":"Red apple"}`)                                 // +0
	say("carol|1|alice", `{"message_type":0,"sub_type":7,"text":"green apple"}`)                // +1
	say("bob|2|"+advanced, `{"message_type":1,"text":"green pear","attachment":{"k":"apple"}}`) // +2
	say("dave|3|"+super, `{"message_type":10,"text":"apple tip"}`)                              // +3
	say("bob|1|carol", `{"message_type":0,"text":"apple, but not for alice"}`)                  // +4
	search := func(rest string) *reply {
		return c.get("v2.1/messages/actions/search_messages?operator_id=alice&" + rest)
	}
	words := func(list string) string { return "&keyword_list=" + url.QueryEscape(list) }
	const tip, pear, green, red = "apple tip", "green pear", "green apple", "Red apple"
	list := func(texts ...string) string { return strings.Join(texts, ",") }

	search(words(`["apple"]`)).ok().lists("items", "text", list(tip, green, red)).is("count", "3", "has_more", "false", "next_token", "")
	if r := search(words(`["apple"]`)); r.at("next_token") != "" {
		t.Errorf("next_token must be there, and empty: %s", r.raw)
	}
	search(words(`["RED","pear"]`)).lists("items", "text", list(pear, red))
	search(words(`["green","apple"]`)+"&keyword_match_type=0").lists("items", "text", list(tip, pear, green, red))
	search(words(`["green","apple"]`)+"&keyword_match_type=1").lists("items", "text", green)
	search("sender_account_ids=bob,dave").lists("items", "text", list(tip, pear))
	search("message_types=10,1").lists("items", "text", list(tip, pear))
	search("message_types=0&message_sub_types=7").lists("items", "text", green)
	search("message_types=0&conversation_id="+url.QueryEscape("alice|1|carol")).lists("items", "text", green)
	search(fmt.Sprintf("message_types=0,1,10&start_time=%d", start+2000)).lists("items", "text", list(pear, green, red))
	search(fmt.Sprintf("message_types=0,1,10&start_time=%d&time_period=1000", start+2000)).lists("items", "text", list(pear, green))
	for _, name := range []string{"direction=1", "diretion=1", "direction=1&diretion=1"} {
		search(fmt.Sprintf("message_types=0,1,10&start_time=%d&%s", start+1000, name)).lists("items", "text", list(green, pear, tip))
		search(fmt.Sprintf("message_types=0,1,10&start_time=%d&time_period=1000&%s", start+1000, name)).lists("items", "text", list(green, pear))
		search("message_types=0,1,10&"+name).lists("items", "text", list(red, green, pear, tip))
	}
	search("sender_account_ids=bob,dave,a,b,c").lists("items", "text", list(tip, pear))
	search(words(`["red","1","2","3","4"]`)).lists("items", "text", red)
	search(fmt.Sprintf("message_types=0,1,10&start_time=%d&time_period=0", start+2000)).lists("items", "text", pear)
	page := search("limit=2"+words(`["apple"]`)).lists("items", "text", list(tip, green)).is("count", "3", "has_more", "true")
	c.text("bob|1|alice", "another apple")
	search("limit=2&page_token="+page.str("next_token")+words(`["apple"]`)).lists("items", "text", red).is("has_more", "false")

	for _, bad := range []string{
		"", "message_sub_types=7", "sender_account_ids=a,b,c,d,e,f", words(`["1","2","3","4","5","6"]`)[1:], "keyword_list=apple",
		"message_types=77", "message_types=0&limit=0", "message_types=0&limit=101", "message_types=0&keyword_match_type=2",
		"message_types=0&direction=2", "message_types=0&diretion=2", "message_types=0&direction=0&diretion=1",
		"message_types=0&time_period=-1", "message_types=0&conversation_id=bob%7C1%7Ccarol", "message_types=0&conversation_id=bob",
	} {
		search(bad).code(engine.CodeBadParameter)
	}
	c.get("v2/messages/actions/search_messages?operator_id=ghost&message_types=0").code(codeAccountMissing)
	c.get("v2/messages/actions/search_messages?operator_id=erin&message_types=0,1,10").ok().lists("items", "text", pear)
}

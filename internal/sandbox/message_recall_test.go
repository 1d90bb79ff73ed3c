package sandbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestRecallBothWays(t *testing.T) {
	c := newClient(t, Options{})
	c.text("alice|1|bob", "one")
	id := c.text("alice|1|bob", "two")
	path := conv("alice|1|bob", "/messages/", id)
	c.del(conv("bob|1|alice", "/messages/", id, "?type=2")).code(codeRecallForbidden)
	c.del(conv("carol|1|bob", "/messages/", id, "?type=2")).code(codeMessageMissing)
	c.del(path + "?type=4").code(engine.CodeBadParameter)
	c.del(path).code(engine.CodeBadParameter)
	c.wait(time.Second)
	c.del(path + "?type=2&attach=why&description=note&push_content=p").ok()
	for _, side := range []string{"alice|1|bob", "bob|1|alice"} {
		got := c.get(conv(side)).ok().is("message_state", "1", "revoke_notification.server_id", id,
			"revoke_notification.revoke_id", "alice", "revoke_notification.attach", "why",
			"revoke_notification.custom_info", "note", "revoke_notification.revoke_type", "1",
			"update_time", fmt.Sprint(c.now.UnixMilli()))
		if got.at("last_message") != nil {
			t.Errorf("last message is still there: %s", got.raw)
		}
		c.get(conv(side, "/messages/", id)).code(codeMessageMissing)
		c.get(conv(side, "/messages?begin_time=0&end_time=9999999999999&limit=9&include_no_sense_msg=true")).ok().lists("items", "text", "one")
	}
	c.get(conv("bob|1|alice")).is("unread_count", "1")
	c.del(path + "?type=2").code(codeMessageMissing)

	c.text("bob|1|alice", "three")
	c.get(conv("alice|1|bob")).is("message_state", "0", "last_message.text", "three", "revoke_notification", "")
}

func TestRecallOlderMessage(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("alice|1|bob", "one")
	c.text("alice|1|bob", "two")
	c.del(conv("alice|1|bob", "/messages/", id, "?type=2")).ok()
	c.get(conv("bob|1|alice")).is("message_state", "0", "last_message.text", "two", "unread_count", "1")
}

func TestRecallOneWay(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("alice|1|bob", "x")
	c.del(conv("alice|1|bob", "/messages/", id, "?type=1")).ok()
	c.get(conv("bob|1|alice")).is("message_state", "1", "revoke_notification.revoke_type", "3", "unread_count", "0")
	c.get(conv("alice|1|bob")).is("message_state", "0", "last_message.text", "x")
	c.get(conv("alice|1|bob", "/messages/", id)).ok()
	c.get(conv("bob|1|alice", "/messages/", id)).code(codeMessageMissing)
	const all = "/messages?begin_time=0&end_time=9999999999999&limit=9"
	c.get(conv("bob|1|alice", all)).is("items", "")
	c.get(conv("bob|1|alice", all, "&include_no_sense_msg=true")).lists("items", "text", "x")
}

func TestRecallSilently(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("alice|1|bob", "x")
	c.del(conv("alice|1|bob", "/messages/", id, "?type=3")).ok()
	for _, side := range []string{"alice|1|bob", "bob|1|alice"} {
		got := c.get(conv(side)).is("message_state", "0", "unread_count", "0", "revoke_notification", "")
		if got.at("last_message") != nil {
			t.Errorf("last message is still there: %s", got.raw)
		}
		c.get(conv(side, "/messages/", id)).code(codeMessageMissing)
	}
	c.get(conv("bob|1|alice", "/messages?begin_time=0&end_time=9999999999999&limit=9&include_no_sense_msg=true")).lists("items", "text", "x")
}

func TestRecallWindows(t *testing.T) {
	for _, tt := range []struct {
		kind   int
		window time.Duration
	}{{1, oneWayRecallWindow}, {2, recallWindow}, {3, oneWayRecallWindow}} {
		t.Run(fmt.Sprint(tt.kind), func(t *testing.T) {
			c := newClient(t, Options{})
			recall := func(id, rest string) *reply {
				return c.del(conv("alice|1|bob", "/messages/", id, fmt.Sprintf("?type=%d%s", tt.kind, rest)))
			}
			ids := []string{c.text("alice|1|bob", "a"), c.text("alice|1|bob", "b"), c.text("alice|1|bob", "c"), c.text("alice|1|bob", "d")}
			c.wait(tt.window)
			recall(ids[0], "").ok()
			c.wait(time.Millisecond)
			recall(ids[1], "").code(codeRecallTooLate)
			recall(ids[1], "&ingore_revoke_time=0").code(codeRecallTooLate)
			recall(ids[1], "&ingore_revoke_time=1").ok()
			recall(ids[2], "&ignore_revoke_time=1").ok()
		})
	}
}

func TestRecallTeamMessages(t *testing.T) {
	c := newClient(t, Options{})
	recall := func(owner, team, id, query string) *reply { return c.del(conv(owner+team, "/messages/", id, query)) }
	in := "|2|" + advanced
	id := c.text("carol"+in, "x")
	recall("erin", in, id, "?type=2").code(codeRecallForbidden)
	recall("dave", in, id, "?type=2&check_team_member_valid=true").code(codeNotTeamMember)
	recall("bob", in, id, "?type=2").ok()
	c.get(conv("alice"+in)).is("revoke_notification.revoke_type", "2", "revoke_notification.revoke_id", "bob")
	id = c.text("carol"+in, "x")
	recall("carol", in, id, "?type=1").ok()
	c.get(conv("alice"+in)).is("revoke_notification.revoke_type", "4")
	c.get(conv("carol"+in)).is("last_message.text", "x")

	big := "|3|" + super
	id = c.text("carol"+big, "x")
	recall("carol", big, id, "?type=1").code(engine.CodeBadParameter)
	recall("carol", big, id, "?type=3").code(engine.CodeBadParameter)
	recall("carol", big, id, "?type=2").ok()

	id = c.post(conv("alice"+in, "/messages"), `{"message":{"message_type":0,"text":"x"},"target_option":{"receiver_account_ids":["bob"],"inclusive":true}}`).ok().str("message_server_id")
	recall("alice", in, id, "?type=1").code(codeTargetedNoDelete)
	recall("alice", in, id, "?type=2").ok()

	self := c.text("alice|1|alice", "x")
	c.del(conv("alice|1|alice", "/messages/", self, "?type=2")).code(codeRecallToSelf)
	c.del(conv("alice|1|ghost", "/messages/", self, "?type=2")).code(codeAccountMissing)
	c.del(conv("alice|2|5", "/messages/", self, "?type=2")).code(codeTeamMissing)
}

func TestClearMessages(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("bob|1|alice", "x")
	c.del(conv("alice|1|bob", "/messages?type=1")).ok()
	c.get(conv("alice|1|bob", "/messages/", id)).ok()
	c.del(conv("alice|1|bob", "/messages?type=2")).ok()
	c.get(conv("alice|1|bob", "/messages/", id)).code(codeMessageMissing)
	got := c.get(conv("alice|1|bob")).ok().is("unread_count", "0", "message_state", "0")
	if got.at("last_message") != nil {
		t.Errorf("last message is still there: %s", got.raw)
	}
	c.get(conv("bob|1|alice", "/messages/", id)).ok()

	id = c.text("bob|1|alice", "y")
	c.get(conv("alice|1|bob", "/messages/", id)).ok()
	c.del(conv("alice|1|bob", "/messages?type=3")).ok()
	c.get(conv("alice|1|bob", "/messages/", id)).code(codeMessageMissing)
	for query, code := range map[string]engine.Code{"": engine.CodeBadParameter, "?type=0": engine.CodeBadParameter, "?type=4": engine.CodeBadParameter} {
		c.del(conv("alice|1|bob", "/messages", query)).code(code)
	}
	c.del(conv("alice|1|ghost", "/messages?type=1")).code(codeAccountMissing)
	c.del(conv("alice|1|dave", "/messages?type=3")).ok() // nothing to clear
}

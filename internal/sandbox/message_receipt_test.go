package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestP2PReceipt(t *testing.T) {
	c := newClient(t, Options{})
	id := c.text("alice|1|bob", "x")
	receipt := func(from, to, id string) *reply {
		return c.post("v2/messages/actions/p2p_read_receipt", `{"from_account_id":%q,"to_account_id":%q,"message_server_id":%s}`, from, to, id)
	}
	c.wait(time.Second)
	first := fmt.Sprint(c.now.UnixMilli())
	receipt("bob", "alice", id).ok().is("timestamp", first)
	c.wait(time.Second)
	receipt("bob", "alice", id).ok().is("timestamp", first)
	c.get("v2/conversation_overviews/bob").is("unread_count", "1")
	receipt("alice", "bob", id).code(codeMessageMissing)
	receipt("bob", "alice", "5").code(codeMessageMissing)
	receipt("ghost", "alice", id).code(codeAccountMissing)
	receipt("bob", "ghost", id).code(codeAccountMissing)
}

func TestTeamReceipts(t *testing.T) {
	c := newClient(t, Options{})
	const wanted = `{"message":{"message_type":0,"text":"x"},"team_option":{"mark_as_read":true}%s}`
	id := c.post(conv("alice|2|"+advanced, "/messages"), wanted, "").ok().str("message_server_id")
	plain := c.text("alice|2|"+advanced, "no receipts")
	send := func(from, team, ids string) *reply {
		return c.post("v2/messages/actions/team_read_receipt", `{"from_account_id":%q,"team_id":%s,"message_server_ids":[%s]}`, from, team, ids)
	}
	detail := func(sender, team, id, rest string) *reply {
		return c.get(fmt.Sprintf("v2/messages/actions/team_read_receipt?team_id=%s&team_type=1&sender_id=%s&message_server_id=%s%s", team, sender, id, rest))
	}
	r := detail("alice", advanced, id, "").ok().is("read_size", "0", "unread_size", "3")
	if r.at("read_account_ids") != nil || r.at("unread_account_ids") != nil {
		t.Errorf("lists without snapshot: %s", r.raw)
	}
	send("bob", advanced, id+","+plain+",7").ok().is("success_list", id, "failed_list", plain+",7")
	send("bob", `"`+advanced+`"`, id).ok().is("success_list", id)
	send("alice", advanced, id).ok().is("failed_list", id) // the sender's own
	detail("alice", advanced, id, "&snapshot=true").ok().is("read_size", "1", "unread_size", "2",
		"read_account_ids", "bob", "unread_account_ids", "carol,erin")
	send("carol", advanced, id).ok()
	send("erin", advanced, id).ok()
	if r := detail("alice", advanced, id, "&snapshot=true").ok().is("read_size", "3"); fmt.Sprint(r.at("unread_account_ids")) != "[]" {
		t.Errorf("no empty list: %s", r.raw)
	}

	only := c.post(conv("alice|2|"+advanced, "/messages"), wanted, `,"target_option":{"receiver_account_ids":["bob"],"inclusive":true}`).ok().str("message_server_id")
	detail("alice", advanced, only, "").is("unread_size", "1")
	send("carol", advanced, only).ok().is("failed_list", only)

	detail("alice", advanced, plain, "").code(codeTeamReceiptOff)
	detail("alice", advanced, "7", "").code(codeReceiptMissing)
	detail("bob", advanced, id, "").code(codeReceiptMissing)
	detail("alice", "5", id, "").code(codeTeamMissing)
	detail("dave", advanced, id, "").code(codeNotTeamMember)
	send("dave", advanced, id).code(codeNotTeamMember)
	send("bob", "5", id).code(codeTeamMissing)
	send("bob", super, id).code(codeTeamNotAdvanced)
	send("ghost", advanced, id).code(codeAccountMissing)
	send("bob", advanced, "").code(engine.CodeBadParameter)
	send("bob", advanced, strings.Repeat("1,", 50)+"1").code(engine.CodeBadParameter)
	send("bob", "true", id).code(engine.CodeBadParameter).says("team_id")
	c.get("v2/messages/actions/team_read_receipt?team_id=" + advanced + "&team_type=2&sender_id=alice&message_server_id=" + id).code(engine.CodeBadParameter)
}

func TestReceiptsNeedASmallTeam(t *testing.T) {
	const wanted = `{"message":{"message_type":0,"text":"x"},"team_option":{"mark_as_read":true}}`
	c := newClient(t, Options{Seed: crowd(maxReceiptTeam - 1)})
	c.post(conv("alice|2|1", "/messages"), wanted).ok()
	c = newClient(t, Options{Seed: crowd(maxReceiptTeam)})
	c.post(conv("alice|2|1", "/messages"), wanted).code(codeReceiptTeamTooBig)
	c.text("alice|2|1", "x")
}

package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestQuickComments(t *testing.T) {
	c := newClient(t, Options{})
	const path = "v2/messages/actions/quick_comment"
	sent := c.post(conv("alice|1|bob", "/messages"), `{"message":{"message_type":0,"text":"x"}}`).ok()
	message := `{"conversation_type":1,` + ref(sent)[1:]
	body := func(operator string, index int, message, rest string) string {
		return fmt.Sprintf(`{"operator_id":%q,"index":%d,"message":%s%s}`, operator, index, message, rest)
	}
	comments := func() *reply {
		t.Helper()
		return c.post(path, `{"messages":[%s]}`, message).ok()
	}
	if r := comments(); fmt.Sprint(r.at("success_list.0.comments")) != "[]" || fmt.Sprint(r.at("failed_list")) != "[]" {
		t.Errorf("no empty lists: %s", r.raw)
	}
	c.wait(time.Second)
	c.do("PATCH", path, body("bob", 1, message, `,"extension":"e"`)).ok().is("time", fmt.Sprint(c.now.UnixMilli()))
	c.do("PATCH", path, body("bob", 9007199254740993, message, "")).ok()
	c.do("PATCH", path, body("alice", 1, message, "")).ok()
	comments().lists("success_list.0.comments", "operator_id", "bob,bob,alice").
		lists("success_list.0.comments", "index", "1,9007199254740993,1").
		is("success_list.0.comments.0.extension", "e", "success_list.0.message_server_id", sent.str("message_server_id"))
	c.wait(time.Second)
	c.do("PATCH", path, body("bob", 1, message, `,"extension":"f"`)).ok()
	comments().lists("success_list.0.comments", "index", "1,9007199254740993,1").
		is("success_list.0.comments.0.extension", "f", "success_list.0.comments.0.time", fmt.Sprint(c.now.UnixMilli()))
	c.do("DELETE", path, body("bob", 1, message, "")).ok().is("time", fmt.Sprint(c.now.UnixMilli()))
	c.do("DELETE", path, body("bob", 1, message, "")).ok()
	comments().lists("success_list.0.comments", "operator_id", "bob,alice")

	wrong := strings.Replace(message, `"create_time":`, `"create_time":1`, 1)
	for _, tt := range []struct {
		body string
		code engine.Code
	}{
		{body("bob", 0, message, ""), engine.CodeBadParameter},
		{body("bob", -1, message, ""), engine.CodeBadParameter},
		{body("ghost", 1, message, ""), codeAccountMissing},
		{body("carol", 1, message, ""), codeMessageMissing},
		{body("bob", 1, wrong, ""), codeMessageMissing},
		{body("bob", 1, strings.Replace(message, `"conversation_type":1`, `"conversation_type":2`, 1), ""), codeMessageMissing},
		{body("bob", 1, ref(sent), ""), engine.CodeBadParameter},
	} {
		c.do("PATCH", path, tt.body).code(tt.code)
		c.do("DELETE", path, tt.body).code(tt.code)
	}
	c.post(path, `{"messages":[%s,%s]}`, wrong, message).ok().
		lists("failed_list", "error_code", "107404").lists("failed_list", "conversation_type", "1").
		lists("success_list", "message_server_id", sent.str("message_server_id"))
	c.post(path, `{"messages":[]}`).code(engine.CodeBadParameter)

	c.del(conv("alice|1|bob", "/messages/", sent.str("message_server_id"), "?type=2")).ok()
	c.do("PATCH", path, body("bob", 1, message, "")).code(codeMessageMissing)
}

func TestQuickCommentLimits(t *testing.T) {
	c := newClient(t, Options{})
	const path = "v2/messages/actions/quick_comment"
	sent := c.post(conv("alice|2|"+advanced, "/messages"), `{"message":{"message_type":0,"text":"x"}}`).ok()
	body := `{"operator_id":"carol","index":%d,"message":{"conversation_type":2,` + ref(sent)[1:] + `}`
	for i := range maxComments {
		c.patch(path, body, i+1).ok()
	}
	c.patch(path, body, maxComments+1).code(codeCommentLimit)
	c.patch(path, body, maxComments).ok() // replaces

	targeted := c.post(conv("alice|2|"+advanced, "/messages"), `{"message":{"message_type":0,"text":"x"},"target_option":{"receiver_account_ids":["carol"],"inclusive":true}}`).ok()
	c.patch(path, `{"operator_id":"carol","index":1,"message":{"conversation_type":2,%s}`, ref(targeted)[1:]).code(codeTargetedNoComment)
}

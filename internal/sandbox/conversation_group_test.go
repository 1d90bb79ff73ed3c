package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

func TestCreateGroup(t *testing.T) {
	c := newClient(t, Options{})
	c.text("alice|1|bob", "hi")
	created := c.post("v2/conversation_groups",
		`{"account_id":"alice","name":"work","server_extension":"{}","conversation_ids":["alice|1|bob","alice|1|carol","bob|1|alice","alice|1|ghost","x"]}`).ok().
		is("conversation_group.name", "work", "conversation_group.server_extension", "{}", "success_list", "alice|1|bob").
		lists("failed_list", "conversation_id", "alice|1|carol,bob|1|alice,alice|1|ghost,x").
		lists("failed_list", "error_code", "110404,110302,102404,414")
	id := created.str("conversation_group.group_id")
	c.get(conv("alice|1|bob")).ok().is("group_ids", id)
	many := strings.Repeat(`"alice|1|bob",`, 99) + `"alice|1|bob"`
	c.post("v2/conversation_groups", `{"account_id":"bob","name":"x","conversation_ids":[%s]}`, many).ok().is("failed_list.99.error_code", "110302")
	c.get("v2/conversation_groups/"+id+"?account_id=alice").ok().is("group_id", id, "name", "work")
	c.get("v2/conversation_groups/" + id + "?account_id=bob").code(codeGroupMissing)
	c.get("v2/conversation_groups/1?account_id=alice").code(codeGroupMissing)
	c.get("v2/conversation_groups/" + id).code(engine.CodeBadParameter)

	for body, code := range map[string]engine.Code{
		`{"account_id":"ghost","name":"x"}`: codeAccountMissing,
		`{"account_id":"alice"}`:            engine.CodeBadParameter,
		`{"account_id":"alice","name":""}`:  engine.CodeBadParameter,
		`{"name":"x"}`:                      engine.CodeBadParameter,
		`{"account_id":"alice","name":"` + strings.Repeat("x", 128+1) + `"}`:                                    engine.CodeBadParameter,
		`{"account_id":"alice","name":"x","conversation_ids":["` + strings.Repeat(`a|1|b","`, 100) + `a|1|b"]}`: engine.CodeBadParameter,
	} {
		c.do("POST", "v2/conversation_groups", body).code(code)
	}
}

func TestGroupLimits(t *testing.T) {
	c := newClient(t, Options{Seed: crowd(maxGroupSize + 1)})
	c.text("alice|1|u0", "hi")
	var ids []string
	for i := range maxGroups {
		made := c.post("v2/conversation_groups", `{"account_id":"alice","name":"g","conversation_ids":["alice|1|u0"]}`).ok()
		ids = append(ids, made.str("conversation_group.group_id"))
		want := ""
		if i >= 5 {
			want = "110304"
		}
		made.lists("failed_list", "error_code", want)
	}
	c.get(conv("alice|1|u0")).ok().is("group_ids", strings.Join(ids[:5], ","))
	c.post("v2/conversation_groups", `{"account_id":"alice","name":"g"}`).code(codeGroupLimit)
	c.post("v2/conversation_groups", `{"account_id":"u0","name":"g"}`).ok()

	var refused string
	for i := 1; i <= maxGroupSize; i++ {
		id := fmt.Sprintf("alice|1|u%d", i)
		c.text(id, "hi")
		refused += c.patch("v2/conversation_groups/"+ids[0], `{"account_id":"alice","conversations":{"type":1,"conversation_ids":[%q]}}`, id).
			ok().each("failed_list", "error_code")
	}
	if refused != "116437" {
		t.Errorf("refused: %q", refused)
	}
}

func TestUpdateGroup(t *testing.T) {
	c := newClient(t, Options{})
	c.text("alice|1|bob", "hi")
	c.text("alice|1|carol", "hi")
	id := c.post("v2/conversation_groups", `{"account_id":"alice","name":"g"}`).ok().str("conversation_group.group_id")
	path := "v2/conversation_groups/" + id
	change := func(kind int, ids string) *reply {
		t.Helper()
		return c.patch(path, `{"account_id":"alice","conversations":{"type":%d,"conversation_ids":[%s]}}`, kind, ids)
	}
	c.wait(time.Second)
	change(1, `"alice|1|bob","alice|1|carol","alice|1|dave"`).ok().
		is("success_list", "alice|1|bob,alice|1|carol", "conversation_group.update_time", fmt.Sprint(c.now.UnixMilli())).
		lists("failed_list", "error_code", "110404")
	change(1, `"alice|1|bob"`).ok().is("success_list", "alice|1|bob")
	c.get(conv("alice|1|bob")).is("group_ids", id)
	c.get(path+"/conversations?account_id=alice").ok().lists("items", "conversation_id", "alice|1|carol,alice|1|bob").is("has_more", "false")
	page := c.get(path+"/conversations?account_id=alice&limit=1").ok().lists("items", "receiver_id", "carol").is("has_more", "true")
	c.get(path+"/conversations?account_id=alice&limit=1&page_token="+page.str("next_token")).ok().lists("items", "receiver_id", "bob").is("has_more", "false")
	change(2, `"alice|1|bob","alice|1|dave"`).ok().is("success_list", "alice|1|bob").lists("failed_list", "error_code", "110404")
	c.get(conv("alice|1|bob")).is("group_ids", "")

	c.patch(path, `{"account_id":"alice","name":"new"}`).ok().is("conversation_group.name", "new", "success_list", "", "failed_list", "")
	c.patch(path, `{"account_id":"alice","server_extension":"e"}`).ok().is("conversation_group.name", "new", "conversation_group.server_extension", "e")
	c.patch(path, `{"account_id":"alice","name":""}`).code(engine.CodeBadParameter)
	change(3, `"alice|1|bob"`).code(engine.CodeBadParameter)
	change(1, ``).code(engine.CodeBadParameter)
	c.patch(path, `{"account_id":"bob","name":"x"}`).code(codeGroupMissing)
	c.patch(path, `{"account_id":"ghost","name":"x"}`).code(codeAccountMissing)

	c.del(path + "?account_id=bob").code(codeGroupMissing)
	c.del(path + "?account_id=alice").ok()
	c.get(conv("alice|1|carol")).is("group_ids", "")
	c.get(path + "?account_id=alice").code(codeGroupMissing)
	c.get(path + "/conversations?account_id=alice").code(codeGroupMissing)
}

func TestListGroups(t *testing.T) {
	c := newClient(t, Options{})
	c.get("v2/conversation_groups?account_id=alice").ok().is("conversation_groups", "")
	var ids []string
	for _, name := range []string{"a", "b", "c"} {
		ids = append(ids, c.post("v2/conversation_groups", `{"account_id":"alice","name":%q}`, name).str("conversation_group.group_id"))
	}
	c.get("v2/conversation_groups?account_id=alice").ok().lists("conversation_groups", "name", "a,b,c")
	c.get("v2/conversation_groups/actions/group_ids?account_id=alice&group_ids="+ids[2]+",9,"+ids[0]).ok().
		lists("success_list", "name", "c,a").lists("failed_list", "group_id", "9").lists("failed_list", "error_code", "116404")
	c.get("v2/conversation_groups/actions/group_ids?account_id=alice&group_ids=x").code(engine.CodeBadParameter)
	c.get("v2/conversation_groups/actions/group_ids?account_id=alice").code(engine.CodeBadParameter)
	c.get("v2/conversation_groups?account_id=ghost").code(codeAccountMissing)
}

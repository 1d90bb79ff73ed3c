package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// members is testdata/wire/members.yaml. A form is a map of members, or a list
// with the form of its items, or the end: nil or a text.
type members struct {
	Kinds      map[string]contentKind   `yaml:"kinds"`
	Parts      []any                    `yaml:"parts"`
	Operations map[string]wireOperation `yaml:"operations"`
}

type wireOperation struct {
	RPCs    []string       `yaml:"rpcs"`
	Request map[string]any `yaml:"request"`
	Reply   map[string]any `yaml:"reply"`
}

type contentKind struct {
	Type       int            `yaml:"type"`
	Attachment map[string]any `yaml:"attachment"`
	ReadOnly   bool           `yaml:"read_only"`
}

func loadMembers(tb testing.TB) *members {
	tb.Helper()
	text, err := os.ReadFile("testdata/wire/members.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	table := &members{}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(table); err != nil {
		tb.Fatal(err)
	}
	return table
}

// TestWireMembers sends every RPC with all its fields, and misses no member that
// is documented. All RPCs must be in the table.
func TestWireMembers(t *testing.T) {
	t.Parallel()
	table := loadMembers(t)
	r := newRig(t)
	r.answerData(`{"message_server_id":1}`)
	var listed []string
	for name, op := range table.Operations {
		listed = append(listed, op.RPCs...)
		for _, rpc := range op.RPCs {
			for kindName, kind := range table.Kinds {
				if kind.ReadOnly {
					continue
				}
				sent := r.membersSent(t, rpc, kindName)
				for path := range kind.ends(op.Request) {
					if !sent[path] {
						t.Errorf("%s of %s cannot be sent by %s, kind %s", path, name, rpc, kindName)
					}
				}
			}
		}
	}
	all := allMethods()
	slices.Sort(all)
	slices.Sort(listed)
	if diff := cmp.Diff(all, listed); diff != "" {
		t.Errorf("testdata/wire/members.yaml does not list all RPCs once (-missing):\n%s", diff)
	}
}

// membersSent returns the paths of all members that a full request sends.
func (r *rig) membersSent(t *testing.T, rpc, kind string) map[string]bool {
	t.Helper()
	m, err := method(rpc)
	if err != nil {
		t.Fatal(err)
	}
	v := vector{RPC: rpc, Request: fullRequest(t, m, kind)}
	if m.IsStreamingServer() {
		v.Requests = []json.RawMessage{v.Request}
	}
	if o := v.call(t, r, "grpc"); o.status != nil {
		t.Fatalf("%s, kind %s: %v", rpc, kind, o)
	}
	sent := map[string]bool{}
	for _, request := range r.take() {
		for name := range request.query {
			sent[name] = true
		}
		if len(request.body) > 0 {
			collect("", exact(t, request.body), sent)
		}
	}
	return sent
}

// collect adds the paths of all values within a JSON value.
func collect(path string, value any, to map[string]bool) {
	to[path] = true
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			collect(join(path, name), inner, to)
		}
	case []any:
		for _, item := range value {
			collect(path, item, to)
		}
	}
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// TestWireReplyMembers lets the upstream say all that is documented, and then
// all but one member: whichever it is, the reply must be another one. A member
// that is kept among those without a field is not read.
func TestWireReplyMembers(t *testing.T) {
	t.Parallel()
	table := loadMembers(t)
	r := newRig(t)
	for name, op := range table.Operations {
		for kindName, kind := range table.Kinds {
			all := r.replyWithout(t, "", kind, op)
			for path, aside := range kind.ends(op.Reply) {
				if aside || kindName != "text" && !strings.Contains(path, "attachment") {
					continue
				}
				if cmp.Equal(all, r.replyWithout(t, path, kind, op), protocmp.Transform(), unread) {
					t.Errorf("%s of %s is not read by %s, kind %s", path, name, op.RPCs[0], kindName)
				}
			}
		}
	}
}

// replyWithout returns the reply to all that is documented but one member.
func (r *rig) replyWithout(t *testing.T, path string, kind contentKind, op wireOperation) proto.Message {
	t.Helper()
	data, err := json.Marshal(kind.answer(op.Reply, path, "", 1))
	if err != nil {
		t.Fatal(err)
	}
	m, err := method(op.RPCs[0])
	if err != nil {
		t.Fatal(err)
	}
	if m.IsStreamingServer() {
		return nil // made of the replies of another RPC
	}
	r.answerData(string(data))
	o := r.call(t, "grpc", op.RPCs[0], string(fullRequest(t, m, "text")))
	if o.status != nil && path == "" {
		t.Fatalf("%s: %v\nthe upstream said %s", op.RPCs[0], o, data)
	}
	if o.status != nil { // without that member the answer contradicts itself
		return o.status.Proto()
	}
	return o.reply
}

// unread ignores what is not read, and what differs from call to call.
var unread = cmp.FilterPath(func(p cmp.Path) bool {
	member, ok := p.Last().(cmp.MapIndex)
	return ok && (member.Key().String() == "extra" || member.Key().String() == "trace_id")
}, cmp.Ignore())

// ends returns the paths of the members that hold no others, and whether
// something is said aside about one.
func (k contentKind) ends(form map[string]any) map[string]bool {
	all := map[string]bool{}
	var walk func(path string, form any)
	walk = func(path string, form any) {
		switch form := form.(type) {
		case map[string]any:
			for name, inner := range k.members(form) {
				walk(join(path, name), inner)
			}
		case []any:
			if object, ok := form[0].(map[string]any); ok {
				walk(path, object)
			} else {
				all[path] = false
			}
		default:
			all[path] = form != nil
		}
	}
	walk("", form)
	return all
}

// members returns the members of an object, its attachment in the form of the
// kind.
func (k contentKind) members(form map[string]any) map[string]any {
	if attachment, ok := form["attachment"]; !ok || attachment != nil {
		return form
	}
	form = maps.Clone(form)
	if form["attachment"] = k.Attachment; k.Attachment == nil {
		delete(form, "attachment")
	}
	return form
}

// answer makes a JSON value of a form, without the member at one path. It says
// the same that fullRequest does of the nth item of a list: 1 for those that
// succeeded and 2 for those that failed.
func (k contentKind) answer(form any, without, path string, n int) any {
	name := path[strings.LastIndexByte(path, '.')+1:]
	if strings.HasPrefix(name, "fail") {
		n = 2
	}
	switch form := form.(type) {
	case map[string]any:
		object := map[string]any{}
		for name, inner := range k.members(form) {
			if join(path, name) != without {
				object[name] = k.answer(inner, without, join(path, name), n)
			}
		}
		return object
	case []any:
		if id, ok := form[0].(string); ok {
			return []any{k.answer(nil, without, id, n)}
		}
		return []any{k.answer(form[0], without, path, n)}
	}
	switch name {
	case "message_type":
		return k.Type
	case "conversation_id":
		return fmt.Sprintf("1|1|%d", n)
	default:
		return strconv.Itoa(n)
	}
}

package codec

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// TestOperations tells what is read off the options of a method.
func TestOperations(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, `
message Call
	string id
service Calls
	rpc Get(Call) Call read {get: "/im/v2/calls/{id}" v2_1: true}
	rpc Put(Call) Call idempotent {put: "/im/v2/calls/{id}"}
	rpc Patch(Call) Call {patch: "/im/v2/calls/im/v2/{id}" v2_1: true}
	rpc Post(Call) Call {post: "/im/v2/calls"}
	rpc Delete(Call) Call {delete: "/im/v2/calls/{id}"}
	rpc DeleteBody(Call) Call {delete: "/im/v2/calls" body: true}
service More
	rpc Get(Call) Call read {get: "/more/{id}" v2_1: true}
`)
	tests := []struct {
		rpc, verb, path, path21 string
		hasBody                 bool
		class                   Class
	}{
		{"Calls/Get", http.MethodGet, "/im/v2/calls/x", "/im/v2.1/calls/x", false, Read},
		{"Calls/Put", http.MethodPut, "/im/v2/calls/x", "/im/v2/calls/x", true, IdempotentWrite},
		{"Calls/Patch", http.MethodPatch, "/im/v2/calls/im/v2/x", "/im/v2.1/calls/im/v2/x", true, PlainWrite},
		{"Calls/Post", http.MethodPost, "/im/v2/calls", "/im/v2/calls", true, PlainWrite},
		{"Calls/Delete", http.MethodDelete, "/im/v2/calls/x", "/im/v2/calls/x", false, PlainWrite},
		{"Calls/DeleteBody", http.MethodDelete, "/im/v2/calls", "/im/v2/calls", true, PlainWrite},
		{"More/Get", http.MethodGet, "/more/x", "/more/x", false, Read},
	}
	for _, version := range []string{V2, V21} {
		table, err := Operations(s.ServiceDescriptors(), version)
		if err != nil {
			t.Fatal(err)
		}
		if len(table) != len(tests) {
			t.Errorf("%d operations, want %d", len(table), len(tests))
		}
		for _, tt := range tests {
			e := table["/test."+tt.rpc]
			if e == nil {
				t.Errorf("%s: no operation", tt.rpc)
				continue
			}
			if e.Verb != tt.verb || e.HasBody != tt.hasBody || e.Class != tt.class {
				t.Errorf("%s: %s, body %t, Class %d", tt.rpc, e.Verb, e.HasBody, e.Class)
			}
			want := tt.path
			if version == V21 {
				want = tt.path21
			}
			target, _, err := e.Encode(s.Message(t, "Call", `{"id":"x"}`))
			if path, _, _ := strings.Cut(target, "?"); path != want || err != nil {
				t.Errorf("%s %s: %s, want %s: %v", version, tt.rpc, path, want, err)
			}
		}
	}
}

// TestOperationsRefused tells what stops the start.
func TestOperationsRefused(t *testing.T) {
	t.Parallel()
	const other = `
message Other
	int32 tag
	string value {json: JSON_VALUE}
`
	tests := []struct{ name, in, want string }{
		{"no option", "message In\n\tstring id\nservice S\n\trpc A(In) In", "test.S.A: the option is missing"},
		{"no verb", "message In\n\tstring id\nservice S\n\trpc A(In) In {v2_1: true}", "the option is missing"},
		{"no slash", schematest.OneMethod("string id", `get: "im/v2/x"`), "must begin with a slash"},
		{"empty segment", schematest.OneMethod("string id", `get: "/im//x"`), "has a segment that cannot be"},
		{"parameter in part of a segment", schematest.OneMethod("string id", `get: "/im/x{id}"`), "has a segment that cannot be"},
		{"parameter not closed", schematest.OneMethod("string id", `get: "/im/{id"`), "has a segment that cannot be"},
		{"query in a path", schematest.OneMethod("string id", `get: "/im?id=1"`), "has a segment that cannot be"},
		{"unknown parameter", schematest.OneMethod("string id", `get: "/im/{ids}"`), "path parameter {ids}"},
		{"message parameter", schematest.OneMethod("Sub sub", `post: "/im/{sub}"`), "path parameter {sub}"},
		{"list parameter", schematest.OneMethod("repeated string ids", `post: "/im/{ids}"`), "path parameter {ids}"},
		{"bool parameter", schematest.OneMethod("bool on", `post: "/im/{on}"`), "path parameter {on}"},
		{"double parameter", schematest.OneMethod("double x", `post: "/im/{x}"`), "path parameter {x}"},
		{"time parameter", schematest.OneMethod("google.protobuf.Timestamp at", `post: "/im/{at}"`), "path parameter {at}"},
		{"unknown query field", schematest.OneMethod("string id", `post: "/im" query: "name"`), `query field "name"`},
		{"message in a query", schematest.OneMethod("Sub sub", `get: "/im"`), "a query cannot hold test.In.sub"},
		{"messages in a query", schematest.OneMethod("repeated Sub subs", `delete: "/im"`), "a query cannot hold test.In.subs"},
		{"message in the query of a POST", schematest.OneMethod("Sub sub", `post: "/im" query: "sub"`), "a query cannot hold test.In.sub"},
		{"inline in a query", "message Deep\n\tSub sub\n" + schematest.OneMethod("Deep deep {inline: true}", `get: "/im"`), "a query cannot hold"},
		{"members of nothing", schematest.OneMethod(`Sub sub {members {field: "size"}}`, `post: "/im"`), `test.Sub has no field "size"`},
		{"members of text", schematest.OneMethod(`string s {members {field: "size"}}`, `post: "/im"`), "option members does not fit"},
		{"into nothing", schematest.OneMethod(`Sub sub {into: "other"}`, `post: "/im"`), `no message is the member "other"`},
		{"into text", schematest.OneMethod("string s\n\tSub sub {into: \"s\"}", `post: "/im"`), `no message is the member "s"`},
		{"rest in a query", schematest.OneMethod("string extra {rest: true}", `get: "/im"`), "a query cannot hold"},
		{"variants in a query", other + schematest.OneMethod("oneof k {tag: \"tag\" value: \"value\"}\n\t\tstring text {variant: 0}\n\t\tOther other", `get: "/im"`), "a query cannot hold"},
		{"constant that is a field", schematest.OneMethod(`int32 n {name: "kind"}`, `post: "/im" constants {name: "kind" number: 1}`), `constant "kind"`},

		{"two fields of a name", schematest.OneMethod("string a\n\tstring b {name: \"a\"}", `post: "/im"`), `member "a" belongs to test.In.a`},
		{"alias that is a field", schematest.OneMethod("string a\n\tstring b {aliases: \"a\"}", `post: "/im"`), `member "a" belongs to test.In.a`},
		{"copy that is a field", schematest.OneMethod("string a {copies: \"b\"}\n\tstring b", `post: "/im"`), `member "b" belongs to test.In.a`},
		{"failures that are a field", "message R\n\tstring id\n\tgoogle.rpc.Status error\n" + schematest.OneMethod("repeated R a {failed: \"b\"}\n\tstring b", `post: "/im"`), `member "b" belongs to test.In.a`},
		{"two rests", schematest.OneMethod("string a {rest: true}\n\tstring b {rest: true}", `post: "/im"`), "the rest belongs to test.In.a"},
		{"map", schematest.OneMethod("google.rpc.ErrorInfo info", `post: "/im"`), "the wire has no form for maps"},
		{"bytes", schematest.OneMethod("bytes b", `post: "/im"`), "test.In.b: the wire has no form for type bytes"},
		{"unsigned", schematest.OneMethod("uint64 u", `post: "/im"`), "no form for type uint64"},
		{"float", schematest.OneMethod("float f", `post: "/im"`), "no form for type float"},
		{"unsupported inside", "message Deep\n\tbytes b\n" + schematest.OneMethod("repeated Deep d", `post: "/im"`), "test.Deep.b: the wire has no form"},
		{"unsupported in the reply", "message Out\n\tbytes b\nmessage In\n\tstring id\nservice S\n\trpc A(In) Out {post: \"/im\"}", "test.Out.b: the wire has no form"},

		{"inline text", schematest.OneMethod("string s {inline: true}", `post: "/im"`), "option inline does not fit"},
		{"inline list", schematest.OneMethod("repeated Sub s {inline: true}", `post: "/im"`), "option inline does not fit"},
		{"inline time", schematest.OneMethod("google.protobuf.Timestamp s {inline: true}", `post: "/im"`), "option inline does not fit"},
		{"rest of numbers", schematest.OneMethod("int64 n {rest: true}", `post: "/im"`), "option rest does not fit"},
		{"json of numbers", schematest.OneMethod("int64 n {json: JSON_VALUE}", `post: "/im"`), "option json does not fit"},
		{"zero_one of numbers", schematest.OneMethod("int64 n {zero_one: true}", `post: "/im"`), "option zero_one does not fit"},
		{"wrapped text", schematest.OneMethod(`string s {wrapper: "w"}`, `post: "/im"`), "option wrapper does not fit"},
		{"failed texts", schematest.OneMethod(`repeated string s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"failed without an error", schematest.OneMethod(`repeated Sub s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"failed without a name", "message R\n\tSub sub\n\tgoogle.rpc.Status error\n" + schematest.OneMethod(`repeated R s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"failed with an error first", "message R\n\tgoogle.rpc.Status error\n\tstring id\n" + schematest.OneMethod(`repeated R s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"enum with a number twice", "enum E\n\tE_NONE = 0\n\tA = 1 {[yunxin.upstream.v1.number]: 2}\n\tB = 2\n" + schematest.OneMethod("E e", `post: "/im"`), "test.B: number 2 is taken"},

		{"variant number twice", other + variants(`string a {variant: 1}`, `string b {variant: 1}`, `Other other`), "variant 1 is taken"},
		{"two variants for others", other + variants(`string a {variant: 1}`, `Other other`, `Other another`), "a variant needs a number"},
		{"text for others", variants(`string a {variant: 1}`, `string b`), "a variant needs a number"},
		{"none for others", variants(`string a {variant: 1}`), "no member for unknown variants"},
		{"others without a number", "message Other\n\tstring value\n" + variants(`Other other`), `test.In.other: no field for "tag"`},
		{"others without a value", "message Other\n\tint32 tag\n" + variants(`Other other`), `test.In.other: no field for "value"`},
		{"tag that is a field", other + schematest.OneMethod("int64 tag\n\toneof k {tag: \"tag\" value: \"value\"}\n\t\tOther other", `post: "/im"`), `member "tag" belongs to test.In.tag`},
		{"two unions", other + schematest.OneMethod("oneof k {tag: \"tag\" value: \"value\"}\n\t\tOther other\n\toneof l {tag: \"tag2\" value: \"value\"}\n\t\tstring s {variant: 1}", `post: "/im"`),
			"the variants of a message are those of test.In.k"},
		{"value that is a field", other + schematest.OneMethod("string value\n\toneof k {tag: \"tag\" value: \"value\"}\n\t\tOther other", `post: "/im"`), `member "value" belongs to test.In.value`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Operations(schematest.New(t, tt.in).ServiceDescriptors(), V2)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// variants is a schema with a union of the fields.
func variants(fields ...string) string {
	return schematest.OneMethod("oneof k {tag: \"tag\" value: \"value\"}\n\t\t"+strings.Join(fields, "\n\t\t"), `post: "/im"`)
}

// TestOperationsAllErrors checks that one start shows all that is wrong.
func TestOperationsAllErrors(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, "message In\n\tstring id\nservice S\n\trpc A(In) In\n\trpc B(In) In {get: \"/{x}\"}\n\trpc C(In) In {get: \"/{id}\"}")
	_, err := Operations(s.ServiceDescriptors(), V2)
	if err == nil || !strings.Contains(err.Error(), "test.S.A: ") || !strings.Contains(err.Error(), "test.S.B: ") || strings.Contains(err.Error(), "test.S.C: ") {
		t.Errorf("error %v", err)
	}
}

// TestRecursiveTypes checks that a message may hold its own type.
func TestRecursiveTypes(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, "message Node\n\tstring id\n\tNode next\n\trepeated Node more")
	p := planOf(t, s, "Node")
	wantDecoded(t, s, p, "Node", `{"id":"a","next":{"id":"b","more":[{"id":"c"}]}}`, `{"id":"a","next":{"id":"b","more":[{"id":"c"}]}}`)

	const depth = 2000
	m, err := p.decode(strings.Repeat(`{"next":`, depth) + `{"id":"z"}` + strings.Repeat("}", depth))
	if err != nil {
		t.Fatal(err)
	}
	node := protoreflect.Message(m)
	for node.Has(p.desc.Fields().ByName("next")) {
		node = node.Get(p.desc.Fields().ByName("next")).Message()
	}
	if id := node.Get(p.desc.Fields().ByName("id")).String(); id != "z" {
		t.Errorf("innermost id %q", id)
	}
}

// TestReference checks what is sent of a message that names another: some members,
// under other names, beside it, with those of a guest, and in a query.
func TestReference(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, `
message Ref
	int32 kind
	string id
	string note
message Body
	string text
message Update
	Ref ref {name: "message" members {field: "kind" name: "type" outside: true} members {field: "id" name: "server_id"}}
	Body body {into: "message"}
message Get
	repeated Ref refs {members {field: "id"}}
message List
	Ref root {inline: true}
message Out
	string id
service S
	rpc Update(Update) Out {post: "/update"}
	rpc Get(Get) Out {post: "/get"}
	rpc List(List) Out read {get: "/list"}
`)
	for _, tt := range []struct{ rpc, in, target, body string }{
		{"Update", `{"ref":{"kind":2,"id":"a","note":"n"},"body":{"text":"t"}}`, "/update", `{"message":{"server_id":"a","text":"t"},"type":2}`},
		{"Update", `{"ref":{"id":"a"}}`, "/update", `{"message":{"server_id":"a"}}`},
		{"Get", `{"refs":[{"id":"a","note":"n"},{"id":"b","kind":1}]}`, "/get", `{"refs":[{"id":"a"},{"id":"b"}]}`},
		{"List", `{"root":{"kind":2,"id":"a b","note":"n"}}`, "/list?id=a+b&kind=2&note=n", ``},
	} {
		o := operationOf(t, s, "/test.S/"+tt.rpc)
		target, body, err := o.Encode(s.Message(t, tt.rpc, tt.in))
		if err != nil || target != tt.target || string(body) != tt.body {
			t.Errorf("%s %s: %s %s, %v", tt.rpc, tt.in, target, body, err)
		}
	}
}

package upstream

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestEndpoints tells what is read off the options of a method.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	s := newSchema(t, `
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
		rpc, method, path, path21 string
		hasBody                   bool
		class                     class
	}{
		{"Calls/Get", http.MethodGet, "/im/v2/calls/x", "/im/v2.1/calls/x", false, read},
		{"Calls/Put", http.MethodPut, "/im/v2/calls/x", "/im/v2/calls/x", true, idempotentWrite},
		{"Calls/Patch", http.MethodPatch, "/im/v2/calls/im/v2/x", "/im/v2.1/calls/im/v2/x", true, plainWrite},
		{"Calls/Post", http.MethodPost, "/im/v2/calls", "/im/v2/calls", true, plainWrite},
		{"Calls/Delete", http.MethodDelete, "/im/v2/calls/x", "/im/v2/calls/x", false, plainWrite},
		{"Calls/DeleteBody", http.MethodDelete, "/im/v2/calls", "/im/v2/calls", true, plainWrite},
		{"More/Get", http.MethodGet, "/more/x", "/more/x", false, read},
	}
	for _, version := range []string{V2, V21} {
		table, err := newEndpoints(s.services(), version, Quotas{})
		if err != nil {
			t.Fatal(err)
		}
		if len(table) != len(tests) {
			t.Errorf("%d endpoints, want %d", len(table), len(tests))
		}
		for _, tt := range tests {
			e := table["/test."+tt.rpc]
			if e == nil {
				t.Errorf("%s: no endpoint", tt.rpc)
				continue
			}
			if e.method != tt.method || e.hasBody != tt.hasBody || e.class != tt.class {
				t.Errorf("%s: %s, body %t, class %d", tt.rpc, e.method, e.hasBody, e.class)
			}
			want := tt.path
			if version == V21 {
				want = tt.path21
			}
			target, _, err := e.encode(s.message(t, "Call", `{"id":"x"}`))
			if path, _, _ := strings.Cut(target, "?"); path != want || err != nil {
				t.Errorf("%s %s: %s, want %s: %v", version, tt.rpc, path, want, err)
			}
		}
	}
}

// TestEndpointsRefused tells what stops the start.
func TestEndpointsRefused(t *testing.T) {
	t.Parallel()
	const other = `
message Other
	int32 tag
	string value {json: JSON_VALUE}
`
	tests := []struct{ name, in, want string }{
		{"no option", "message In\n\tstring id\nservice S\n\trpc A(In) In", "test.S.A: the option is missing"},
		{"no verb", "message In\n\tstring id\nservice S\n\trpc A(In) In {v2_1: true}", "the option is missing"},
		{"no slash", call1("string id", `get: "im/v2/x"`), "must begin with a slash"},
		{"empty segment", call1("string id", `get: "/im//x"`), "has a segment that cannot be"},
		{"parameter in part of a segment", call1("string id", `get: "/im/x{id}"`), "has a segment that cannot be"},
		{"parameter not closed", call1("string id", `get: "/im/{id"`), "has a segment that cannot be"},
		{"query in a path", call1("string id", `get: "/im?id=1"`), "has a segment that cannot be"},
		{"unknown parameter", call1("string id", `get: "/im/{ids}"`), "path parameter {ids}"},
		{"message parameter", call1("Sub sub", `post: "/im/{sub}"`), "path parameter {sub}"},
		{"list parameter", call1("repeated string ids", `post: "/im/{ids}"`), "path parameter {ids}"},
		{"bool parameter", call1("bool on", `post: "/im/{on}"`), "path parameter {on}"},
		{"double parameter", call1("double x", `post: "/im/{x}"`), "path parameter {x}"},
		{"time parameter", call1("google.protobuf.Timestamp at", `post: "/im/{at}"`), "path parameter {at}"},
		{"unknown query field", call1("string id", `post: "/im" query: "name"`), `query field "name"`},
		{"message in a query", call1("Sub sub", `get: "/im"`), "a query cannot hold test.In.sub"},
		{"messages in a query", call1("repeated Sub subs", `delete: "/im"`), "a query cannot hold test.In.subs"},
		{"message in the query of a POST", call1("Sub sub", `post: "/im" query: "sub"`), "a query cannot hold test.In.sub"},
		{"inline in a query", call1("Sub sub {inline: true}", `get: "/im"`), "a query cannot hold"},
		{"rest in a query", call1("string extra {rest: true}", `get: "/im"`), "a query cannot hold"},
		{"variants in a query", other + call1("oneof k {tag: \"tag\" value: \"value\"}\n\t\tstring text {variant: 0}\n\t\tOther other", `get: "/im"`), "a query cannot hold"},
		{"constant that is a field", call1(`int32 n {name: "kind"}`, `post: "/im" constants {name: "kind" number: 1}`), `constant "kind"`},

		{"two fields of a name", call1("string a\n\tstring b {name: \"a\"}", `post: "/im"`), `member "a" belongs to test.In.a`},
		{"alias that is a field", call1("string a\n\tstring b {aliases: \"a\"}", `post: "/im"`), `member "a" belongs to test.In.a`},
		{"copy that is a field", call1("string a {copies: \"b\"}\n\tstring b", `post: "/im"`), `member "b" belongs to test.In.a`},
		{"failures that are a field", "message R\n\tstring id\n\tgoogle.rpc.Status error\n" + call1("repeated R a {failed: \"b\"}\n\tstring b", `post: "/im"`), `member "b" belongs to test.In.a`},
		{"two rests", call1("string a {rest: true}\n\tstring b {rest: true}", `post: "/im"`), "the rest belongs to test.In.a"},
		{"map", call1("google.rpc.ErrorInfo info", `post: "/im"`), "the wire has no form for maps"},
		{"bytes", call1("bytes b", `post: "/im"`), "test.In.b: the wire has no form for type bytes"},
		{"unsigned", call1("uint64 u", `post: "/im"`), "no form for type uint64"},
		{"float", call1("float f", `post: "/im"`), "no form for type float"},
		{"unsupported inside", "message Deep\n\tbytes b\n" + call1("repeated Deep d", `post: "/im"`), "test.Deep.b: the wire has no form"},
		{"unsupported in the reply", "message Out\n\tbytes b\nmessage In\n\tstring id\nservice S\n\trpc A(In) Out {post: \"/im\"}", "test.Out.b: the wire has no form"},

		{"inline text", call1("string s {inline: true}", `post: "/im"`), "option inline does not fit"},
		{"inline list", call1("repeated Sub s {inline: true}", `post: "/im"`), "option inline does not fit"},
		{"inline time", call1("google.protobuf.Timestamp s {inline: true}", `post: "/im"`), "option inline does not fit"},
		{"rest of numbers", call1("int64 n {rest: true}", `post: "/im"`), "option rest does not fit"},
		{"json of numbers", call1("int64 n {json: JSON_VALUE}", `post: "/im"`), "option json does not fit"},
		{"zero_one of numbers", call1("int64 n {zero_one: true}", `post: "/im"`), "option zero_one does not fit"},
		{"wrapped text", call1(`string s {wrapper: "w"}`, `post: "/im"`), "option wrapper does not fit"},
		{"failed texts", call1(`repeated string s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"failed without an error", call1(`repeated Sub s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"failed without a name", "message R\n\tSub sub\n\tgoogle.rpc.Status error\n" + call1(`repeated R s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"failed with an error first", "message R\n\tgoogle.rpc.Status error\n\tstring id\n" + call1(`repeated R s {failed: "f"}`, `post: "/im"`), "option failed does not fit"},
		{"enum with a number twice", "enum E\n\tE_NONE = 0\n\tA = 1 {[yunxin.upstream.v1.number]: 2}\n\tB = 2\n" + call1("E e", `post: "/im"`), "test.B: number 2 is taken"},

		{"variant number twice", other + variants(`string a {variant: 1}`, `string b {variant: 1}`, `Other other`), "variant 1 is taken"},
		{"two variants for others", other + variants(`string a {variant: 1}`, `Other other`, `Other another`), "a variant needs a number"},
		{"text for others", variants(`string a {variant: 1}`, `string b`), "a variant needs a number"},
		{"none for others", variants(`string a {variant: 1}`), "no member for unknown variants"},
		{"others without a number", "message Other\n\tstring value\n" + variants(`Other other`), `test.In.other: no field for "tag"`},
		{"others without a value", "message Other\n\tint32 tag\n" + variants(`Other other`), `test.In.other: no field for "value"`},
		{"tag that is a field", other + call1("int64 tag\n\toneof k {tag: \"tag\" value: \"value\"}\n\t\tOther other", `post: "/im"`), `member "tag" belongs to test.In.tag`},
		{"two unions", other + call1("oneof k {tag: \"tag\" value: \"value\"}\n\t\tOther other\n\toneof l {tag: \"tag2\" value: \"value\"}\n\t\tstring s {variant: 1}", `post: "/im"`),
			"the variants of a message are those of test.In.k"},
		{"value that is a field", other + call1("string value\n\toneof k {tag: \"tag\" value: \"value\"}\n\t\tOther other", `post: "/im"`), `member "value" belongs to test.In.value`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := newEndpoints(newSchema(t, tt.in).services(), V2, Quotas{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// call1 is a schema of one method, with the fields of its request.
func call1(fields, endpoint string) string {
	return "message Sub\n\tstring name\nmessage In\n\t" + fields + "\nmessage Out\n\tstring id\nservice S\n\trpc A(In) Out {" + endpoint + "}"
}

// variants is a schema with a union of the fields.
func variants(fields ...string) string {
	return call1("oneof k {tag: \"tag\" value: \"value\"}\n\t\t"+strings.Join(fields, "\n\t\t"), `post: "/im"`)
}

// TestEndpointsAllErrors tells that one start shows all that is wrong.
func TestEndpointsAllErrors(t *testing.T) {
	t.Parallel()
	s := newSchema(t, "message In\n\tstring id\nservice S\n\trpc A(In) In\n\trpc B(In) In {get: \"/{x}\"}\n\trpc C(In) In {get: \"/{id}\"}")
	_, err := newEndpoints(s.services(), V2, Quotas{})
	if err == nil || !strings.Contains(err.Error(), "test.S.A: ") || !strings.Contains(err.Error(), "test.S.B: ") || strings.Contains(err.Error(), "test.S.C: ") {
		t.Errorf("error %v", err)
	}
}

// TestRecursiveTypes tells that a message may hold its own type.
func TestRecursiveTypes(t *testing.T) {
	t.Parallel()
	s := newSchema(t, "message Node\n\tstring id\n\tNode next\n\trepeated Node more")
	p := s.planOf(t, "Node")
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

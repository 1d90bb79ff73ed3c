package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// jsonValue reads JSON with every digit of its numbers.
func jsonValue(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %s", err, text)
	}
	if d.More() {
		t.Fatalf("more than one value: %s", text)
	}
	return v
}

// TestEncodeBody tells every form of a member in a body.
func TestEncodeBody(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"nothing", `{}`, ``},
		{"text", `{"s":"a\"b\\ \u2028 <&> 中"}`, `{"s":"a\"b\\ \u2028 <&> 中"}`},
		{"absent and zero", `{"os":"","oi":0,"ol":0,"od":0,"ob":false,"zo":false,"s":"","i":0,"b":false}`,
			`{"os":"","oi":0,"ol":0,"od":0,"ob":false,"zo":0}`},
		{"int64 extremes", `{"l":"9223372036854775807","ol":"-9223372036854775808"}`,
			`{"l":9223372036854775807,"ol":-9223372036854775808}`},
		{"int32 extremes", `{"i":2147483647,"oi":-2147483648}`, `{"i":2147483647,"oi":-2147483648}`},
		{"doubles", `{"d":0.1,"od":-180}`, `{"d":0.1,"od":-180}`},
		{"large double", `{"d":1e21,"od":1000000}`, `{"d":1e+21,"od":1000000}`},
		{"booleans", `{"b":true,"ob":true,"zo":true,"rb":[true,false]}`, `{"b":true,"ob":true,"zo":1,"rb":[1,0]}`},
		{"enum under its own number", `{"e":"PLAIN_TWO","oe":"PLAIN_ONE"}`, `{"e":2,"oe":1}`},
		{"enum unknown here", `{"e":77}`, `{"e":77}`},
		{"enum with numbers", `{"c":"CODED_ZERO","oc":"CODED_ONE","rc":["CODED_ONE","CODED_ZERO","CODED_OWN"]}`,
			`{"c":0,"oc":1,"rc":[1,0,9]}`},
		{"zero of an enum is never sent", `{"oe":"PLAIN_NONE","oc":"CODED_NONE","ol":1}`, `{"ol":1}`},
		{"times", `{"t":"2024-01-26T00:00:00.123Z","rt":["1969-12-31T23:59:59.999Z","9999-12-31T23:59:59.999Z"]}`,
			`{"t":1706227200123,"rt":[-1,253402300799999]}`},
		{"message", `{"m":{"id":"a","n":0}}`, `{"m":{"id":"a","n":0}}`},
		{"empty message", `{"m":{}}`, `{"m":{}}`},
		{"lists", `{"rs":["a,b",""],"rl":["-1","0"],"rm":[{},{"id":"x"}]}`, `{"rs":["a,b",""],"rl":[-1,0],"rm":[{},{"id":"x"}]}`},
		{"list as text", `{"packed":["a\"","b,c"],"packed_n":["1","9223372036854775807"]}`,
			`{"packed":"[\"a\\\"\",\"b,c\"]","packed_n":"[1,9223372036854775807]"}`},
		{"json", `{"jo":" {\"a\":1232001762022391810}\n","ja":"[0.1]","jv":"null","rj":["1","{}"]}`,
			`{"jo":{"a":1232001762022391810},"ja":[0.1],"jv":null,"rj":[1,{}]}`},
		{"json as text", `{"jt":"{ \"a\":1.0}"}`, `{"jt":"{ \"a\":1.0}"}`},
		{"empty json is not sent", `{"jt":"","extra":"","jo":"","i":1}`, `{"i":1}`},
		{"names and copies", `{"renamed":"x"}`, `{"re named":"x","twice":"x"}`},
		{"inline", `{"flat":{"flat_name":"n","flat_size":"5"},"s":"x"}`, `{"s":"x","flat_name":"n","fsize":5}`},
		{"empty inline", `{"flat":{}}`, ``},
		{"variant number zero", `{"content":{"text":"hi"}}`, `{"type":0,"text":"hi"}`},
		{"variant of empty text", `{"content":{"text":""}}`, `{"type":0,"text":""}`},
		{"variant with a message", `{"content":{"inner":{"id":"q"},"description":"d","sub_type":3}}`,
			`{"type":1,"value":{"id":"q"},"text":"d","sub_type":3}`},
		{"variant under a name of its own", `{"content":{"tip":"t"}}`, `{"type":10,"text":"t"}`},
		{"variant of JSON", `{"content":{"free":"{\"k\":[1]}"}}`, `{"type":100,"value":{"k":[1]}}`},
		{"rest", `{"i":1,"extra":"{\"z\":1232001762022391810, \"y\": {\"a\":0.10}}"}`, `{"i":1,"z":1232001762022391810,"y":{"a":0.10}}`},
		{"rest alone", `{"extra":"{\"z\":null}"}`, `{"z":null}`},
		{"empty rest", `{"extra":" {} "}`, ``},
		{"rest beside a text", `{"content":{"text":"t"},"extra":"{\"value\":2}"}`, `{"type":0,"text":"t","value":2}`},
		{"rest inside", `{"m":{"id":"a","extra":"{\"w\":\"1\"}"}}`, `{"m":{"id":"a","w":"1"}}`},
	}
	s := schematest.New(t, rich)
	e := operationOf(t, s, "/test.RichService/Put")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target, body, err := e.Encode(s.Message(t, "Rich", tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if target != "/im/v2/rich" {
				t.Errorf("target %s", target)
			}
			if tt.want == "" {
				if body != nil {
					t.Errorf("body %s, want none", body)
				}
				return
			}
			if diff := cmp.Diff(jsonValue(t, []byte(tt.want)), jsonValue(t, body)); diff != "" {
				t.Errorf("body %s\n%s", body, diff)
			}
		})
	}
}

// TestEncodeBodyExact tells what must be on the wire byte by byte: free JSON and
// the digits of numbers.
func TestEncodeBodyExact(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, rich)
	_, body, err := operationOf(t, s, "/test.RichService/Put").Encode(s.Message(t, "Rich",
		`{"d":0.1,"jo":"{\"a\" : 1232001762022391810,\"b\":1.10e-1}","extra":"{\"<r\\u0065\" : [ 0.10 ,\"\\u4e2d\"]}"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(body), `{"d":0.1,"jo":{"a" : 1232001762022391810,"b":1.10e-1},"<r\u0065":[ 0.10 ,"\u4e2d"]}`; got != want {
		t.Errorf("body\n%s, want\n%s", got, want)
	}
}

// TestEncodeRefused tells what cannot be sent, and the path that names it.
func TestEncodeRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, path, rule string }{
		{"json that is none", `{"jo":"{"}`, "jo", "must be JSON"},
		{"two values", `{"jv":"1 2"}`, "jv", "must be JSON"},
		{"array for an object", `{"jo":"[]"}`, "jo", "must be a JSON object"},
		{"object for an array", `{"ja":" {}"}`, "ja", "must be a JSON array"},
		{"text for an object", `{"jt":"\"x\""}`, "jt", "must be a JSON object"},
		{"json in a list", `{"rj":["1","","3"]}`, "rj[1]", "must be JSON"},
		{"finer than milliseconds", `{"t":"2024-01-26T00:00:00.000001Z"}`, "t", "must be a whole number of milliseconds"},
		{"finer in a list", `{"rt":["2024-01-26T00:00:00Z","2024-01-26T00:00:00.0001Z"]}`, "rt[1]", "must be a whole number of milliseconds"},
		{"no number", `{"d":"NaN"}`, "d", "must be a finite number"},
		{"infinite, inside", `{"m":{"x":"-Infinity"}}`, "m.x", "must be a finite number"},
		{"inside a list", `{"rm":[{},{},{},{"x":"Infinity"}]}`, "rm[3].x", "must be a finite number"},
		{"unknown variant", `{"content":{"other":{"type":9}}}`, "content.other", "cannot be sent"},
		{"variant of bad JSON", `{"content":{"free":"{]"}}`, "content.free", "must be JSON"},
		{"variant of no JSON", `{"content":{"free":""}}`, "content.free", "must be JSON"},
		{"variant inside", `{"content":{"inner":{"x":"NaN"}}}`, "content.inner.x", "must be a finite number"},
		{"text twice", `{"content":{"tip":"t","description":"d"}}`, "content.description", "cannot go with tip"},
		{"rest is no object", `{"extra":"[]"}`, "extra", "must be a JSON object"},
		{"rest is no JSON", `{"extra":"{\"a\":}"}`, "extra", "must be a JSON object"},
		{"rest names a field that is set", `{"i":1,"extra":"{\"i\":2}"}`, "extra", `must not hold "i", which is i`},
		{"rest names an alias", `{"renamed":"x","extra":"{\"renamed\":2}"}`, "extra", `must not hold "renamed", which is renamed`},
		{"rest names a variant's tag", `{"content":{"text":"t"},"extra":"{\"type\":2}"}`, "extra", `must not hold "type", which is content`},
		{"rest names a variant's value", `{"content":{"inner":{}},"extra":"{\"value\":2}"}`, "extra", `must not hold "value", which is content`},
		{"rest names a variant's text", `{"content":{"tip":""},"extra":"{\"text\":2}"}`, "extra", `must not hold "text", which is content`},
		{"rest names an inline field", `{"flat":{"flat_size":"1"},"extra":"{\"fsize\":2}"}`, "extra", `must not hold "fsize", which is flat`},
		{"rest inside a list", `{"rm":[{},{"n":1,"extra":"{\"n\":2}"}]}`, "rm[1].extra", `must not hold "n", which is n`},
		{"zero of an enum in a list", `{"rc":["CODED_ZERO","CODED_NONE"]}`, "rc[1]", "must be given"},
	}
	s := schematest.New(t, rich)
	e := operationOf(t, s, "/test.RichService/Put")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := e.Encode(s.Message(t, "Rich", tt.in))
			wantFieldError(t, err, tt.path, tt.rule)
		})
	}
}

func wantFieldError(t *testing.T, err error, path, rule string) {
	t.Helper()
	field, ok := errors.AsType[*FieldError](err)
	if !ok {
		t.Fatalf("error %v, want one of field %s", err, path)
	}
	if field.Path != path || !strings.Contains(field.Rule, rule) {
		t.Errorf("error %q: %q, want %q: %q", field.Path, field.Rule, path, rule)
	}
}

// TestEncodeTimesOutOfRange tells times that a caller can give only in Go.
func TestEncodeTimesOutOfRange(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, rich)
	e := operationOf(t, s, "/test.RichService/Put")
	for _, tt := range []struct {
		name    string
		seconds int64
		nanos   int32
	}{
		{"before the year 1", -62135596801, 0},
		{"after the year 9999", 253402300800, 0},
		{"beyond any calendar", 1<<63 - 1, 0},
		{"negative part", 0, -1000000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := s.Message(t, "Rich", `{"t":"2024-01-26T00:00:00Z"}`)
			ts := m.Mutable(m.Descriptor().Fields().ByName("t")).Message()
			schematest.Set(ts, "seconds", tt.seconds)
			schematest.Set(ts, "nanos", tt.nanos)
			_, _, err := e.Encode(m)
			wantFieldError(t, err, "t", "must be a time between the years 1 and 9999")
		})
	}
}

const calls = `
enum Level
	LEVEL_NONE = 0
	LOW = 1 {[yunxin.upstream.v1.number]: 0}
	HIGH = 2 {[yunxin.upstream.v1.number]: 1}
message Call
	string id
	int64 number
	Level level
	optional string text
	optional bool flag
	optional bool bit {zero_one: true}
	repeated string ids
	repeated int64 numbers
	repeated Level levels
	repeated string words {name: "word_list" as_text: true}
	google.protobuf.Timestamp time {name: "at" copies: "at_too"}
	repeated google.protobuf.Timestamp times
	optional double degree
	string json {json: JSON_OBJECT}
service Calls
	rpc Get(Call) Call read {get: "/im/v2/calls/{id}" constants {name: "kind" number: 3}}
	rpc GetNumber(Call) Call read {get: "/im/v2/calls/{number}/levels/{level}/end"}
	rpc Delete(Call) Call {delete: "/im/v2/calls/{id}"}
	rpc DeleteBody(Call) Call {delete: "/im/v2/calls/{id}" body: true}
	rpc Post(Call) Call {post: "/im/v2/calls/{id}" query: "text" query: "time" constants {name: "kind" number: -1}}
	rpc PostPlain(Call) Call {post: "/im/v2/calls/{id}"}
`

// TestEncodePlaces tells where the fields of a call go: path, query, body.
func TestEncodePlaces(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, rpc, in, path, query, body string }{
		{"get", "Get", `{"id":"a"}`, "/im/v2/calls/a", `kind=3`, ``},
		{"get with everything", "Get",
			`{"id":"a","text":"1 &,?","flag":false,"bit":true,"number":"-5","level":"LOW","ids":["x|1|y","z"],
			"numbers":["1","9223372036854775807"],"levels":["HIGH","LOW"],"words":["a,b","\""],
			"time":"1970-01-01T00:00:01Z","times":["1970-01-01T00:00:02Z","1970-01-01T00:00:03Z"],"degree":1000000,"json":"{\"a\": 1}"}`,
			"/im/v2/calls/a",
			`kind=3&text=1+%26%2C%3F&flag=false&bit=1&number=-5&level=0&ids=x%7C1%7Cy%2Cz&numbers=1%2C9223372036854775807` +
				`&levels=1%2C0&word_list=%5B%22a%2Cb%22%2C%22%5C%22%22%5D&at=1000&at_too=1000&times=2000%2C3000&degree=1000000&json=%7B%22a%22%3A+1%7D`, ``},
		{"empty text in a query", "Get", `{"id":"a","text":""}`, "/im/v2/calls/a", `kind=3&text=`, ``},
		{"number and enum in a path", "GetNumber", `{"number":"-9223372036854775808","level":"LOW"}`,
			"/im/v2/calls/-9223372036854775808/levels/0/end", ``, ``},
		{"delete", "Delete", `{"id":"a","text":"t"}`, "/im/v2/calls/a", `text=t`, ``},
		{"delete with a body", "DeleteBody", `{"id":"a","text":"t"}`, "/im/v2/calls/a", ``, `{"text":"t"}`},
		{"delete with an empty body", "DeleteBody", `{"id":"a"}`, "/im/v2/calls/a", ``, ``},
		{"post", "Post", `{"id":"a","text":"t","flag":true,"time":"1970-01-01T00:00:01Z"}`,
			"/im/v2/calls/a", `text=t&at=1000&at_too=1000`, `{"kind":-1,"flag":true}`},
		{"post without members", "PostPlain", `{"id":"a"}`, "/im/v2/calls/a", ``, ``},
		{"copies in a body", "PostPlain", `{"id":"a","time":"1970-01-01T00:00:01Z"}`, "/im/v2/calls/a", ``, `{"at":1000,"at_too":1000}`},
		{"escaped", "PostPlain", `{"id":"a/b?c#d%e|f g;h,中"}`, "/im/v2/calls/a%2Fb%3Fc%23d%25e%7Cf%20g%3Bh%2C%E4%B8%AD", ``, ``},
		{"dots inside", "PostPlain", `{"id":"..."}`, "/im/v2/calls/...", ``, ``},
		{"dots and a slash", "PostPlain", `{"id":"../x"}`, "/im/v2/calls/..%2Fx", ``, ``},
		{"an asterisk", "PostPlain", `{"id":"*"}`, "/im/v2/calls/%2A", ``, ``},
	}
	s := schematest.New(t, calls)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target, body, err := operationOf(t, s, "/test.Calls/"+tt.rpc).Encode(s.Message(t, "Call", tt.in))
			if err != nil {
				t.Fatal(err)
			}
			path, query, _ := strings.Cut(target, "?")
			if path != tt.path {
				t.Errorf("path %s, want %s", path, tt.path)
			}
			got, err := url.ParseQuery(query)
			want, _ := url.ParseQuery(tt.query)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("query %s: %v\n%s", query, err, diff)
			}
			if tt.body == "" && body != nil || tt.body != string(body) {
				t.Errorf("body %s, want %s", body, tt.body)
			}
		})
	}
}

func TestEncodePlacesRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, rpc, in, path, rule string }{
		{"no id", "Get", `{}`, "id", "must not be empty"},
		{"dot", "Get", `{"id":"."}`, "id", "must not be empty"},
		{"two dots", "Get", `{"id":".."}`, "id", "must not be empty"},
		{"no enum", "GetNumber", `{"number":1}`, "level", "must be given"},
		{"comma in a list", "Get", `{"id":"a","ids":["a","b","c","d,e"]}`, "ids[3]", "comma"},
		{"empty in a list", "Get", `{"id":"a","ids":["a",""]}`, "ids[1]", "empty"},
		{"zero of an enum in a list", "Get", `{"id":"a","levels":["LOW","LEVEL_NONE"]}`, "levels[1]", "must be given"},
		{"time", "Get", `{"id":"a","time":"1970-01-01T00:00:00.0000001Z"}`, "time", "milliseconds"},
		{"time in a list", "Get", `{"id":"a","times":["1970-01-01T00:00:00.0000001Z"]}`, "times[0]", "milliseconds"},
		{"json in a query", "Get", `{"id":"a","json":"[]"}`, "json", "must be a JSON object"},
		{"no number in a query", "Get", `{"id":"a","degree":"NaN"}`, "degree", "finite"},
	}
	s := schematest.New(t, calls)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := operationOf(t, s, "/test.Calls/"+tt.rpc).Encode(s.Message(t, "Call", tt.in))
			wantFieldError(t, err, tt.path, tt.rule)
		})
	}
}

package codec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

const max64, min64 = "9223372036854775807", "-9223372036854775808"

// TestDecode tells every form in which a member may come.
func TestDecode(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"nothing", `{}`, `{}`},
		{"space", "{\n \"s\"\t:\r\"x\" , \"i\" : 1 }", `{"s":"x","i":1}`},
		{"null is absent", `{"s":null,"oi":null,"ol":null,"od":null,"ob":null,"oe":null,"t":null,"m":null,"rs":null,"jo":null,"jv":null,"extra":null}`, `{}`},
		{"empty text is absent", `{"oi":"","ol":"","od":"","ob":"","oe":"","oc":"","t":"","m":"","rl":"","rm":"","rs":"","jo":"","ja":"","jt":"","flat":""}`,
			`{"extra":"{\"flat\":\"\"}"}`},
		{"empty object is absent", `{"oi":{},"ol":{},"od":{},"ob":{},"oe":{},"t":{ },"m":{},"rl":{},"rm":{}}`, `{}`},
		{"text that is empty", `{"os":"","jv":""}`, `{"os":"","jv":"\"\""}`},
		{"zero is not absent", `{"oi":0,"ol":"0","od":0,"ob":false,"oe":0,"t":0}`,
			`{"oi":0,"ol":"0","od":0,"ob":false,"oe":"PLAIN_NONE","t":"1970-01-01T00:00:00Z"}`},

		{"int64 as numbers", `{"l":` + max64 + `,"ol":` + min64 + `}`, `{"l":"` + max64 + `","ol":"` + min64 + `"}`},
		{"int64 as text", `{"l":"` + max64 + `","ol":"` + min64 + `","rl":["1",-2]}`, `{"l":"` + max64 + `","ol":"` + min64 + `","rl":["1","-2"]}`},
		{"int64 above 2^53", `{"l":1232001762022391811}`, `{"l":"1232001762022391811"}`},
		{"int32 extremes", `{"i":2147483647,"oi":"-2147483648"}`, `{"i":2147483647,"oi":-2147483648}`},
		{"whole number with a point", `{"i":1.0,"l":"32.0","ol":-0}`, `{"i":1,"l":"32","ol":"0"}`},
		{"integer as a boolean", `{"i":true,"oi":"false"}`, `{"i":1,"oi":0}`},
		{"doubles", `{"d":0.1,"od":"-1e3"}`, `{"d":0.1,"od":-1000}`},
		{"booleans", `{"b":"true","ob":1,"zo":"0","rb":[true,"1",0,"false"]}`, `{"b":true,"ob":true,"zo":false,"rb":[true,true,false,false]}`},
		{"text of another type", `{"s":12.0,"os":true}`, `{"s":"12.0","os":"true"}`},
		{"text of an object", `{"s":{"a": 1}}`, `{"s":"{\"a\": 1}"}`},
		{"escapes", `{"s":"\u4e2d\ud83d\ude00\n\"\/","os":"\ud800x"}`, `{"s":"中😀\n\"/","os":"` + "\ufffd" + `x"}`},
		{"invalid UTF-8", "{\"s\":\"a\xffb\",\"os\":\"\\n\xff\",\"jo\":{\"k\xff\":1}}", "{\"s\":\"a\ufffdb\",\"os\":\"\\n\ufffd\",\"jo\":\"{\\\"k\ufffd\\\":1}\"}"},

		{"enum", `{"e":2,"oe":"1"}`, `{"e":"PLAIN_TWO","oe":"PLAIN_ONE"}`},
		{"enum unknown here", `{"e":77}`, `{"e":77}`},
		{"enum beyond 32 bits", `{"oe":4294967297}`, `{"oe":"PLAIN_NONE"}`},
		{"enum with numbers", `{"c":0,"rc":[1,"0",9]}`, `{"c":"CODED_ZERO","rc":["CODED_ONE","CODED_ZERO","CODED_OWN"]}`},
		{"enum with numbers, unknown", `{"oc":2,"c":77}`, `{"oc":"CODED_NONE"}`},

		{"times", `{"t":"1706227200123","rt":[-1,253402300799999,-62135596800000]}`,
			`{"t":"2024-01-26T00:00:00.123Z","rt":["1969-12-31T23:59:59.999Z","9999-12-31T23:59:59.999Z","0001-01-01T00:00:00Z"]}`},
		{"lists with null", `{"rs":["a",null,"b"],"rm":[null,{}]}`, `{"rs":["a","b"],"rm":[{}]}`},
		{"empty list", `{"rs":[ ]}`, `{}`},
		{"list as text", `{"packed":" [\"a,b\", \"c\"]","packed_n":"[1,\"2\"]"}`, `{"packed":["a,b","c"],"packed_n":["1","2"]}`},
		{"list as text that is a list", `{"packed":["a"]}`, `{"packed":["a"]}`},

		{"free JSON", `{"jo":{"id": 1232001762022391810,"f":[0.10, 1e400]},"jv":0.1,"ja":[ ],"rj":[1.0,"x",{}]}`,
			`{"jo":"{\"id\": 1232001762022391810,\"f\":[0.10, 1e400]}","jv":"0.1","ja":"[ ]","rj":["1.0","\"x\"","{}"]}`},
		{"JSON as text", `{"jt":"{\"a\":\"\u4e2d\"}"}`, `{"jt":"{\"a\":\"中\"}"}`},
		{"JSON as text that is JSON", `{"jt":{"a": 1}}`, `{"jt":"{\"a\": 1}"}`},

		{"alias", `{"renamed":"x"}`, `{"renamed":"x"}`},
		{"copy", `{"twice":"x"}`, `{"renamed":"x"}`},
		{"alias before the name", `{"renamed":"alias","re named":"name"}`, `{"renamed":"name"}`},
		{"alias behind the name", `{"re named":"name","renamed":"alias"}`, `{"renamed":"name"}`},
		{"alias behind an empty name", `{"re named":"","renamed":"alias"}`, `{}`},
		{"alias before an empty name", `{"renamed":"alias","re named":""}`, `{}`},
		{"alias beside null", `{"re named":null,"renamed":"alias"}`, `{"renamed":"alias"}`},
		{"names with space", `{" s\t":"x"," renamed ":"y","flat_name\n":"z"}`, `{"s":"x","renamed":"y","flat":{"flat_name":"z"}}`},
		{"members that come twice", `{"i":1,"i":2,"rs":["a"],"rs":["b"],"m":{"id":"x"},"m":{"n":1}}`, `{"i":2,"rs":["b"],"m":{"n":1}}`},

		{"inline", `{"fsize":"5","flat_name":"","s":"x"}`, `{"s":"x","flat":{"flat_name":"","flat_size":"5"}}`},
		{"rest", `{"s":"x","n":null,"z" : {"a": 1.0} ,"<&>\u4e2d":[ ],"flat_name":"f"}`,
			`{"s":"x","flat":{"flat_name":"f"},"extra":"{\"z\":{\"a\": 1.0},\"<&>\\u4e2d\":[ ]}"}`},
		{"rest keeps names as they are", `{"client_id\t":"x"," y ":1}`, `{"extra":"{\"client_id\\t\":\"x\",\" y \":1}"}`},
		{"rest keeps what comes twice", `{"z":1,"z":2}`, `{"extra":"{\"z\":1,\"z\":2}"}`},
		{"rest inside", `{"m":{"id":"a","w":0.10}}`, `{"m":{"id":"a","extra":"{\"w\":0.10}"}}`},
	}
	s := schematest.New(t, rich)
	p := planOf(t, s, "Rich")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantDecoded(t, s, p, "Rich", tt.in, tt.want)
		})
	}
}

func wantDecoded(t *testing.T, s schematest.Schema, p *plan, name, in, want string) {
	t.Helper()
	got, err := p.decode(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.Message(t, name, want), got, protocmp.Transform()); diff != "" {
		t.Errorf("%s\n%s", in, diff)
	}
}

// TestDecodeVariants tells what the members of a union may come with.
func TestDecodeVariants(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"none", `{"text":"d"}`, `{"content":{"description":"d"}}`},
		{"number zero", `{"type":0,"text":"hi"}`, `{"content":{"text":"hi"}}`},
		{"number as text", `{"text":"hi","type":"0"}`, `{"content":{"text":"hi"}}`},
		{"text under the variant's name", `{"type":10,"text":"t","sub_type":3}`, `{"content":{"tip":"t","sub_type":3}}`},
		{"no text", `{"type":0}`, `{"content":{"text":""}}`},
		{"null text", `{"type":0,"text":null,"value":{}}`, `{"content":{"text":""}}`},
		{"text beside a value", `{"type":0,"text":"t","value":{"a": 0.10},"z":1}`, `{"content":{"text":"t"},"extra":"{\"value\":{\"a\": 0.10},\"z\":1}"}`},
		{"text beside an empty value", `{"type":0,"text":"t","value":{}}`, `{"content":{"text":"t"}}`},
		{"text missing beside a value", `{"type":0,"value":{"msg":"t"}}`, `{"content":{"other":{"type":0,"value":"{\"msg\":\"t\"}"}}}`},
		{"message", `{"type":1,"value":{"id":"q","w":1},"text":"d"}`, `{"content":{"inner":{"id":"q","extra":"{\"w\":1}"},"description":"d"}}`},
		{"message that is missing", `{"type":1}`, `{"content":{"inner":{}}}`},
		{"message that is empty", `{"type":1,"value":{}}`, `{"content":{"inner":{}}}`},
		{"message that is empty text", `{"type":1,"value":""}`, `{"content":{"inner":{}}}`},
		{"malformed message", `{"type":1,"value":{"n":"many","id":"i"},"text":"d"}`,
			`{"content":{"other":{"type":1,"value":"{\"n\":\"many\",\"id\":\"i\"}"},"description":"d"}}`},
		{"list for a message", `{"type":1,"value":[ 1]}`, `{"content":{"other":{"type":1,"value":"[ 1]"}}}`},
		{"JSON", `{"type":100,"value":{"k": [1232001762022391810]}}`, `{"content":{"free":"{\"k\": [1232001762022391810]}"}}`},
		{"JSON of another kind", `{"type":100,"value":"{\"k\":1}"}`, `{"content":{"other":{"type":100,"value":"\"{\\\"k\\\":1}\""}}}`},
		{"unknown number", `{"type":11,"value":{"r": 0.10},"text":"d"}`, `{"content":{"other":{"type":11,"value":"{\"r\": 0.10}"},"description":"d"}}`},
		{"unknown number alone", `{"type":11}`, `{"content":{"other":{"type":11}}}`},
		{"value alone", `{"value":{"r":1}}`, `{"content":{"other":{"value":"{\"r\":1}"}}}`},
		{"empty value alone", `{"value":{}}`, `{}`},
		{"number that is none", `{"type":"image","value":1}`, `{"content":{"other":{"value":"1"}}}`},
		{"number of 64 bits", `{"type":4294967296,"value":1}`, `{"content":{"other":{"value":"1"}}}`},
	}
	s := schematest.New(t, rich)
	p := planOf(t, s, "Rich")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantDecoded(t, s, p, "Rich", tt.in, tt.want)
		})
	}
}

// TestDecodeUnionWithoutInline checks that a union keeps what it does not read
// also where it stands in the object of the rest.
func TestDecodeUnionWithoutInline(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, `
message Other
	optional int32 type
	string value {json: JSON_VALUE}
message Mixed
	oneof kind {tag: "type" value: "value"}
		string text {variant: 0}
		Other other
	string extra {rest: true}
`)
	p := planOf(t, s, "Mixed")
	wantDecoded(t, s, p, "Mixed", `{"type":0,"text":"t","value":[1],"z":2}`, `{"text":"t","extra":"{\"value\":[1],\"z\":2}"}`)
	wantDecoded(t, s, p, "Mixed", `{"type":5,"value":[1],"z":2}`, `{"other":{"type":5,"value":"[1]"},"extra":"{\"z\":2}"}`)
}

const lists = `
message Thing
	string name
	optional int32 size
	repeated int64 tags {aliases: "labels" aliases: "marks"}
	string note {name: "notes" aliases: "note"}
message Result
	string name
	oneof result
		Thing thing {inline: true}
		google.rpc.Status error
message NumberResult
	int64 id
	google.rpc.Status error
message Reply
	repeated Result results {name: "success_list" aliases: "ok_list" failed: "failed_list" failed: "fail_list"}
	repeated NumberResult numbers {name: "done" failed: "undone"}
	repeated NumberResult sizes {failed: "undone.sizes"}
	string token {only_if: "more"}
	string next {name: "next_token" only_if: "has_more"}
	Thing last {wrapper: "message"}
	repeated Thing page {wrapper: "message"}
	Open open {wrapper: "message"}
message Open
	string name
	optional string more {rest: true}
`

// TestDecodeLists tells the forms of batches and pages.
func TestDecodeLists(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"succeeded", `{"success_list":[{"name":"a","size":"1"}]}`, `{"results":[{"name":"a","thing":{"name":"a","size":1}}]}`},
		{"failed", `{"failed_list":[{"name":"a","error_code":404,"error_msg":"gone"}]}`, `{"results":[{"name":"a","error":{"code":404,"message":"gone"}}]}`},
		{"failed, other names", `{"fail_list":[{"name":"a","code":"404","msg":"gone"}]}`, `{"results":[{"name":"a","error":{"code":404,"message":"gone"}}]}`},
		{"failed, no reason", `{"fail_list":[{"name":"a","code":null,"msg":null}]}`, `{"results":[{"name":"a","error":{}}]}`},
		{"failed, in lists by kind", `{"failed_list":{"names":[{"name":"a","code":404}],"n":1}}`, `{"results":[{"name":"a","error":{"code":404}}]}`},
		{"failed, in a list of lists by kind", `{"failed_list":[{"names":[{"name":"a","code":404}],"others":[]},{"name":"b","list":[1]}]}`,
			`{"results":[{"name":"a","error":{"code":404}},{"name":"b","error":{}}]}`},
		{"failed, a kind with a field of its own", `{"undone":{"sizes":[{"id":7,"code":404}],"ids":[{"id":8}]}}`,
			`{"numbers":[{"id":"8","error":{}}],"sizes":[{"id":"7","error":{"code":404}}]}`},
		{"bare items", `{"success_list":["a",7],"failed_list":["b"]}`, `{"results":[{"name":"a"},{"name":"7"},{"name":"b","error":{}}]}`},
		{"bare numbers", `{"done":[1,"2"],"undone":["` + max64 + `",{"id":4,"code":5}]}`,
			`{"numbers":[{"id":"1"},{"id":"2"},{"id":"` + max64 + `","error":{}},{"id":"4","error":{"code":5}}]}`},
		{"nothing among items", `{"success_list":[null,"a"],"undone":[null,""]}`, `{"results":[{"name":"a"}],"numbers":[{"error":{}}]}`},
		{"both", `{"failed_list":[{"name":"b"}],"success_list":[{"name":"a","size":0}]}`,
			`{"results":[{"name":"b","error":{}},{"name":"a","thing":{"name":"a","size":0}}]}`},
		{"failed before an alias", `{"failed_list":[{"name":"b"}],"ok_list":[{"name":"a"}]}`,
			`{"results":[{"name":"b","error":{}},{"name":"a","thing":{"name":"a"}}]}`},
		{"absent", `{"success_list":null,"failed_list":{},"fail_list":""}`, `{}`},

		{"more", `{"has_more":true,"next_token":"t"}`, `{"next":"t"}`},
		{"more as text", `{"next_token":"t","has_more":"true"}`, `{"next":"t"}`},
		{"no more", `{"next_token":"t","has_more":false}`, `{}`},
		{"no more as text", `{"has_more":"0","next_token":"t"}`, `{}`},
		{"more not said", `{"next_token":"t"}`, `{"next":"t"}`},
		{"more null", `{"next_token":"t","has_more":null}`, `{"next":"t"}`},
		{"more unclear", `{"next_token":"t","has_more":"perhaps"}`, `{"next":"t"}`},

		{"plain shape", `{"last":{"name":"a","size":2}}`, `{"last":{"name":"a","size":2}}`},
		{"wrapped shape", `{"last":{"size":1,"message":{"name":"a","size":2}}}`, `{"last":{"name":"a","size":2}}`},
		{"wrapped shape, wrapper first", `{"last":{"message":{"name":"a"},"size":1}}`, `{"last":{"name":"a","size":1}}`},
		{"wrapped nothing", `{"last":{"message":{}}}`, `{"last":{}}`},
		{"wrapped text", `{"last":{"message":"m","name":"a"}}`, `{"last":{"name":"a"}}`},
		{"wrapped null", `{"last":{"message":null,"name":"a"}}`, `{"last":{"name":"a"}}`},
		{"wrapped in a list", `{"page":[{"message":{"name":"a"}},{"name":"b"}]}`, `{"page":[{"name":"a"},{"name":"b"}]}`},

		{"wrapped with a rest", `{"open":{"a":1,"message":{"name":"x","b": 2}}}`, `{"open":{"name":"x","more":"{\"a\":1,\"b\":2}"}}`},
		{"wrapped text with a rest", `{"open":{"message":"m"}}`, `{"open":{"more":"{\"message\":\"m\"}"}}`},

		{"alias of a list", `{"last":{"labels":[1]}}`, `{"last":{"tags":["1"]}}`},
		{"list behind its alias", `{"last":{"labels":[1],"tags":[2]}}`, `{"last":{"tags":["2"]}}`},
		{"list before its alias", `{"last":{"tags":[2],"labels":[1]}}`, `{"last":{"tags":["2"]}}`},
		{"empty list before its alias", `{"last":{"tags":[],"labels":[1]}}`, `{"last":{}}`},
		{"empty list behind its alias", `{"last":{"labels":[1],"tags":[]}}`, `{"last":{}}`},
		{"alias beside an empty object", `{"last":{"tags":{},"labels":[1]}}`, `{"last":{"tags":["1"]}}`},
		{"alias named like the field", `{"last":{"note":"n"}}`, `{"last":{"note":"n"}}`},
	}
	s := schematest.New(t, lists)
	p := planOf(t, s, "Reply")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantDecoded(t, s, p, "Reply", tt.in, tt.want)
		})
	}
}

// TestDecodeRefused tells what is not read, and the path that names it.
func TestDecodeRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, typ, in, want string }{
		{"array for an object", "Rich", `[]`, "want an object, have []"},
		{"text for a message", "Rich", `{"m":"x"}`, `m: want an object, have "x"`},
		{"message in a list", "Rich", `{"rm":[{},{"n":"x"}]}`, `rm: [1]: n: want an integer`},
		{"object for a list", "Rich", `{"rs":{"a":1}}`, `rs: want an array, have {"a":1}`},
		{"text for a list", "Rich", `{"rs":"a,b"}`, `rs: want an array, have "a,b"`},
		{"text that holds no list", "Rich", `{"packed":"a,b"}`, `packed: want an array`},
		{"text for a number", "Rich", `{"i":"x"}`, `i: want an integer of 32 bits, have "x"`},
		{"fraction", "Rich", `{"l":1.5}`, `l: want an integer of 64 bits, have 1.5`},
		{"exponent", "Rich", `{"l":1e3}`, `l: want an integer of 64 bits, have 1e3`},
		{"above 64 bits", "Rich", `{"l":9223372036854775808}`, `l: want an integer of 64 bits`},
		{"below 64 bits", "Rich", `{"rl":[0,-9223372036854775809]}`, `rl: [1]: want an integer of 64 bits`},
		{"above 32 bits", "Rich", `{"oi":2147483648}`, `oi: want an integer of 32 bits`},
		{"object for a number", "Rich", `{"i":{"a":1}}`, `i: want an integer`},
		{"word for a boolean", "Rich", `{"b":"yes"}`, `b: want a boolean, have "yes"`},
		{"two for a boolean", "Rich", `{"zo":2}`, `zo: want a boolean, have 2`},
		{"text for a double", "Rich", `{"d":"x"}`, `d: want a number, have "x"`},
		{"not a number", "Rich", `{"d":"NaN"}`, `d: want a number`},
		{"infinite", "Rich", `{"m":{"x":1e999}}`, `m: x: want a number, have 1e999`},
		{"word for an enum", "Rich", `{"e":"PLAIN_ONE"}`, `e: want an integer`},
		{"word for a time", "Rich", `{"t":"2024-01-26"}`, `t: want an integer`},
		{"time out of range", "Rich", `{"t":253402300800000}`, `t: `},
		{"time far out of range", "Rich", `{"rt":[0,` + min64 + `]}`, `rt: [1]: `},
		{"array for JSON of an object", "Rich", `{"jo":[]}`, `jo: want JSON_OBJECT, have []`},
		{"object for JSON of an array", "Rich", `{"ja":{}}`, `ja: want JSON_ARRAY, have {}`},
		{"inline", "Rich", `{"flat_name":"x","fsize":"big"}`, `fsize: want an integer`},
		{"long value", "Rich", `{"i":"` + strings.Repeat("9", 1000) + `"}`, `9999...`},
		{"object for results", "Reply", `{"success_list":{"a":1}}`, `success_list: want an array`},
		{"result", "Reply", `{"failed_list":[{},{"name":"a"}],"success_list":[{"size":"x"}]}`, `success_list: [2]: size: want an integer`},
		{"failed result", "Reply", `{"undone":[{"id":"x"}]}`, `undone: [0]: id: want an integer`},
		{"bare result", "Reply", `{"done":["x"]}`, `done: [0]: want an integer`},
		{"wrapped", "Reply", `{"last":{"message":{"size":"x"}}}`, `last: size: want an integer`},
		{"more, but not where", "Reply", `{"more":true}`, `more without token`},
		{"more, but nowhere", "Reply", `{"more":"1","token":""}`, `more without token`},
	}
	s := schematest.New(t, rich+lists)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := planOf(t, s, tt.typ).decode(tt.in)
			if err == nil {
				t.Fatalf("read as %v", m)
			}
			if !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 200 {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

// TestDecodeResets checks that a reply holds nothing of what it held before.
func TestDecodeResets(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, rich)
	m := s.Message(t, "Rich", `{"s":"old","rs":["old"]}`)
	if err := new(decoder).decode(planOf(t, s, "Rich"), []byte(`{"i":1}`), m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.Message(t, "Rich", `{"i":1}`), m, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

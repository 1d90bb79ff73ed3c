package codec

import (
	"testing"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// rich has one field of every form that the wire knows. It can be written and
// read, so what is sent of it comes back.
const rich = `
enum Plain
	PLAIN_NONE = 0
	PLAIN_ONE = 1
	PLAIN_TWO = 2
enum Coded
	CODED_NONE = 0
	CODED_ZERO = 1 {[yunxin.upstream.v1.number]: 0}
	CODED_ONE = 2 {[yunxin.upstream.v1.number]: 1}
	CODED_OWN = 9
message Inner
	string id
	optional int32 n
	optional double x
	optional string extra {rest: true}
message Other
	optional int32 type
	optional string value {json: JSON_VALUE}
message Content
	oneof kind {tag: "type" value: "value"}
		string text {variant: 0}
		Inner inner {variant: 1}
		string tip {name: "text" variant: 10}
		string free {json: JSON_OBJECT variant: 100}
		Other other
	optional string description {name: "text"}
	optional int32 sub_type
message Flat
	optional string flat_name
	optional int64 flat_size {name: "fsize"}
message Rich
	string s
	optional string os
	int32 i
	optional int32 oi
	int64 l
	optional int64 ol
	double d
	optional double od
	bool b
	optional bool ob
	optional bool zo {zero_one: true}
	Plain e
	optional Plain oe
	Coded c
	optional Coded oc
	google.protobuf.Timestamp t
	Inner m
	repeated string rs
	repeated int64 rl
	repeated bool rb {zero_one: true}
	repeated Coded rc
	repeated google.protobuf.Timestamp rt
	repeated Inner rm
	repeated string packed {as_text: true}
	repeated int64 packed_n {as_text: true}
	string jo {json: JSON_OBJECT}
	string ja {json: JSON_ARRAY}
	string jv {json: JSON_VALUE}
	optional string jt {json: JSON_OBJECT as_text: true}
	repeated string rj {json: JSON_VALUE}
	string renamed {name: "re named" aliases: "renamed" copies: "twice"}
	Content content {inline: true}
	Flat flat {inline: true}
	optional string extra {rest: true}
service RichService
	rpc Put(Rich) Rich idempotent {put: "/im/v2/rich"}
`

// endpointOf resolves the endpoint of the schema's method.
func operationOf(t testing.TB, s schematest.Schema, method string) *Operation {
	t.Helper()
	table, err := Operations(s.ServiceDescriptors(), V2)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := table[method]
	if !ok {
		t.Fatalf("no endpoint for %s", method)
	}
	return e
}

// planOf makes the plan of the schema's message.
func planOf(t testing.TB, s schematest.Schema, name string) *plan {
	t.Helper()
	p, err := make(plans).of(s.Empty(name).Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// decode reads JSON into a new message of the plan's type. An item that failed
// shows code and message as they were read.
func (p *plan) decode(json string) (*dynamicpb.Message, error) {
	d := decoder{status: func(code int64, message string) *statuspb.Status {
		return &statuspb.Status{Code: int32(code), Message: message}
	}}
	m := dynamicpb.NewMessage(p.desc)
	return m, d.decode(p, []byte(json), m)
}

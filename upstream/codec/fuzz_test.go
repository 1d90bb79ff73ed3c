package codec

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// FuzzDecode checks that no answer does harm: what is read is a sound message,
// and if it can be sent, it comes back as it was.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"s":"x","os":"","i":1,"oi":"-5","l":9223372036854775807,"d":0.1,"b":"true","zo":1,"e":2,"oe":77,"c":0,"rc":[1,"9"]}`,
		`{"t":1706227200123,"rt":["0",-1],"m":{"id":"a","n":0,"x":1.5,"w":{}},"rm":[{},{"id":1}],"rs":["a",null],"packed":"[\"a\"]","packed_n":[1]}`,
		`{"jo":{"a":1232001762022391810},"ja":[ ],"jv":0.1,"jt":"{\"a\":1}","rj":[null,1,"",{}],"renamed":"x","twice":"y","flat_name":"f","z":[1e999]}`,
		`{"type":0,"text":"t","value":{"a":1}}`, `{"type":"1","value":{"id":"x"},"text":"d"}`, `{"type":100,"value":[]}`, `{"type":10}`, `{"value":""}`,
		`{"success_list":["a",{"name":"b","size":1}],"failed_list":[{"name":"c","code":"4","msg":"m"},null,7],"done":[1],"has_more":0,"next_token":"x"}`,
		`{"last":{"message":{"name":"a"},"labels":[1],"tags":{}},"page":[{"message":{}}]}`, "{\"s\":\"\xff\",\"\xfe\":1,\"jo\":{\"\xfd\":1}}",
	} {
		f.Add([]byte(seed))
	}
	s := schematest.New(f, rich+lists)
	e := operationOf(f, s, "/test.RichService/Put")
	reply := planOf(f, s, "Reply")
	f.Fuzz(func(t *testing.T, text []byte) {
		data := valid(text)
		if data == nil {
			return
		}
		if m, err := reply.decode(string(data)); err == nil {
			if _, err := proto.Marshal(m); err != nil {
				t.Fatalf("unsound: %v", err)
			}
		}
		m, err := e.in.decode(string(data))
		if err != nil {
			if !utf8.ValidString(err.Error()) {
				t.Fatalf("error %q", err)
			}
			return
		}
		if _, err := proto.Marshal(m); err != nil {
			t.Fatalf("unsound: %v", err)
		}
		// Neither the zero of an enum nor an empty message can be told from none.
		for _, name := range []protoreflect.Name{"oe", "oc", "m"} {
			fd := m.Descriptor().Fields().ByName(name)
			if v := m.Get(fd); fd.Message() != nil && proto.Size(v.Message().Interface()) == 0 || fd.Enum() != nil && v.Enum() == 0 {
				m.Clear(fd)
			}
		}
		_, body, err := e.Encode(m)
		if _, refused := errors.AsType[*FieldError](err); refused {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if body == nil {
			body = []byte("{}")
		}
		if !json.Valid(body) {
			t.Fatalf("sent %q", body)
		}
		again, err := e.in.decode(string(body))
		if err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if diff := cmp.Diff(m, again, protocmp.Transform()); diff != "" {
			t.Fatalf("%s\n%s", body, diff)
		}
	})
}

// FuzzEncode checks that no text breaks out of its member.
func FuzzEncode(f *testing.F) {
	f.Add("", "{}", `{"z":1}`)
	f.Add(`a","i":1,"`, `{"a":1},"i":1`, `{"s":1}`)
	f.Add("\x00\u2028<\U0001f600", ` {"a":[1]} `, `{"s ":1, "z":{"i":1}}`)
	f.Add("x", `{"a":1}}`, `{"\u0073":1}`)
	s := schematest.New(f, rich)
	e := operationOf(f, s, "/test.RichService/Put")
	f.Fuzz(func(t *testing.T, text, object, rest string) {
		if !utf8.ValidString(text + "|" + object + "|" + rest) {
			return // no caller can send it
		}
		m := s.Empty("Rich")
		schematest.Set(m, "os", text)
		schematest.Set(m, "jo", object)
		schematest.Set(m, "extra", rest)
		_, body, err := e.Encode(m)
		if refused, ok := errors.AsType[*FieldError](err); ok {
			if refused.Path != "jo" && refused.Path != "extra" || refused.Path == "jo" && json.Valid([]byte(object)) && strings.TrimSpace(object)[0] == '{' {
				t.Fatal(refused)
			}
			return
		} else if err != nil {
			t.Fatal(err)
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%v: %q", err, body)
		}
		var gotText string
		if err := json.Unmarshal(got["os"], &gotText); err != nil || gotText != text {
			t.Fatalf("%q became %q: %v", text, gotText, err)
		}
		if object != "" && strings.TrimSpace(object) != strings.TrimSpace(string(got["jo"])) {
			t.Fatalf("%q became %q", object, got["jo"])
		}
		var more map[string]json.RawMessage
		if rest != "" {
			if err := json.Unmarshal([]byte(rest), &more); err != nil {
				t.Fatalf("sent %q", rest)
			}
		}
		delete(got, "os")
		if object != "" {
			delete(got, "jo")
		}
		if diff := cmp.Diff(more, got); diff != "" && len(more)+len(got) > 0 {
			t.Fatalf("rest %q\n%s", body, diff)
		}
	})
}

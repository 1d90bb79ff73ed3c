package codec

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// FuzzScan compares the scanner with encoding/json, value by value.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, `0`, `""`, ` { } `, "\t[\r\n]\n", `{"a":1}`, `[1,2.5e-3,-0]`, `{"a":{"b":[{"c":"}"}]},"d":"]"}`,
		`{"a\tb ":1, " c":2}`, `{"\u0061":"\\\"","":"\ud83d\ude00\ud800"}`, `[true,false,null,"x"]`, `{"a":1,"a":2}`,
		"{\"\xff\":\"\xfe\"}", `[[[[[]]]]]`, `["\\","\\\\\"]"]`, `{"a" : 1 ,"b": [ ] , "c":{ }}`, ` 12 `, `{"code":200,"msg":"success","data":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value := valid(text)
		if (value != nil) != json.Valid(text) {
			t.Fatalf("valid: %q", value)
		}
		if value != nil {
			compareScan(t, value)
		}
	})
}

// compareScan walks a value with the scanner and with encoding/json.
func compareScan(t *testing.T, value []byte) {
	t.Helper()
	if end := valueEnd(value, 0); end != len(value) {
		t.Fatalf("%q ends at %d", value, end)
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	if isNull(value) != (first == nil) {
		t.Fatalf("null: %q", value)
	}
	next := func() []byte {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			t.Fatalf("%v in %q", err, value)
		}
		return raw
	}
	switch first {
	case json.Delim('{'):
		for name, v := range members(value) {
			want, err := d.Token()
			if text, ok := want.(string); err != nil || !ok || strings.TrimSpace(text) != name {
				t.Fatalf("name %q, want %q: %v", name, want, err)
			}
			if raw := next(); !bytes.Equal(raw, v) {
				t.Fatalf("member %q: %q, want %q", name, v, raw)
			}
			compareScan(t, v)
		}
	case json.Delim('['):
		for v := range elements(value) {
			if raw := next(); !bytes.Equal(raw, v) {
				t.Fatalf("element %q, want %q", v, raw)
			}
			compareScan(t, v)
		}
	default:
		if s, ok := first.(string); ok && unquote(value) != s {
			t.Fatalf("text %q, want %q", unquote(value), s)
		}
		return
	}
	if _, err := d.Token(); err != nil {
		t.Fatalf("the scanner stopped early in %q: %v", value, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("the scanner stopped early in %q", value)
	}
}

// TestScanStops checks that a walk can be left early.
func TestScanStops(t *testing.T) {
	t.Parallel()
	for range members([]byte(`{"a":1,"b":2}`)) {
		break
	}
	for range elements([]byte(`[1,2]`)) {
		break
	}
	if v := member([]byte(`{"a":null,"b":{"a":1},"a":2,"a":3}`), "a"); string(v) != "2" {
		t.Errorf("first a that is not null: %s", v)
	}
	if v := member([]byte(`{"a":null,"b":{"c":1}}`), "c"); v != nil {
		t.Errorf("c: %s", v)
	}
}

// FuzzEnvelope compares the envelope with what encoding/json makes of the body.
func FuzzEnvelope(f *testing.F) {
	for _, seed := range []string{
		`{"code":200,"msg":"success","data":{}}`, `{"code":"414","msg":null,"data":null}`, `{"code":200,"data":""}`, `{"code":200,"data":[1]}`,
		`{"code":200`, ``, `[]`, `null`, `{}`, `{"code":null}`, `{"code":1e3}`, `{"code":200.0,"code ":1}`, `<html>502</html>`,
		`{"code":9223372036854775808}`, `{"msg":"a","code":true,"data":{"a":1},"data":{}}`, "{\"code\":200,\"msg\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := ReadEnvelope(body)
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil || object == nil {
			if err == nil {
				t.Fatalf("read %q as %+v", body, e)
			}
			return
		}
		if err != nil {
			return
		}
		if !json.Valid(e.Data) || bytes.Equal(e.Data, []byte("null")) {
			t.Fatalf("data %q", e.Data)
		}
		exact := true // encoding/json knows no names with space
		for name := range object {
			exact = exact && name == strings.TrimSpace(name)
		}
		if !exact {
			return
		}
		var want struct{ Code json.Number }
		if code := object["code"]; json.Unmarshal(code, &want.Code) == nil && want.Code != "" {
			if n, err := want.Code.Int64(); err == nil && n != e.Code {
				t.Fatalf("code %d, want %d", e.Code, n)
			}
		} else if object["code"] == nil {
			t.Fatalf("code %d of none", e.Code)
		}
	})
}

package codec

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/yunxin-facade/yunxin-facade/upstream/internal/schematest"
)

// TestProperties draws random messages together with two forms of their JSON,
// both made without the codec: the one that must be sent, and one of the many
// that may be answered.
func TestProperties(t *testing.T) {
	t.Parallel()
	s := schematest.New(t, rich)
	e := operationOf(t, s, "/test.RichService/Put")
	p := planOf(t, s, "Rich")
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t, s.Empty("Rich"))
		_, body, err := e.Encode(d.m.Interface())
		if err != nil {
			t.Fatal(err)
		}
		if body == nil {
			body = []byte("{}")
		}
		want, _ := json.Marshal(d.sent)
		if diff := cmp.Diff(drawnValue(t, want), drawnValue(t, body)); diff != "" {
			t.Fatalf("sent %s\n%s", body, diff)
		}
		for _, text := range []string{string(body), "{" + strings.Join(rapid.Permutation(d.loose).Draw(t, "order"), " , ") + "\n}"} {
			m, err := p.decode(text)
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if diff := cmp.Diff(d.m.Interface(), proto.Message(m), protocmp.Transform()); diff != "" {
				t.Fatalf("%s\n%s", text, diff)
			}
		}
	})
}

func drawnValue(t *rapid.T, text []byte) any {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %s", err, text)
	}
	return v
}

// drawn is a random message, the members that must be sent for it, and members
// from which it must be read.
type drawn struct {
	*rapid.T
	m     protoreflect.Message
	sent  map[string]any
	loose []string
}

func draw(t *rapid.T, m protoreflect.Message) *drawn {
	d := &drawn{T: t, m: m, sent: make(map[string]any)}
	d.scalars()
	d.lists()
	d.json()
	d.content()
	if d.maybe("flat") {
		flat := m.Mutable(d.field("flat")).Message()
		size := rapid.Int64().Draw(t, "fsize")
		schematest.Set(flat, "flat_size", size)
		d.member("fsize", number(size), d.integer(size))
	}
	if d.maybe("m") {
		inner, sent := d.inner()
		d.set("m", protoreflect.ValueOfMessage(inner))
		d.member("m", sent, string(schematest.Must(json.Marshal(sent))))
	}
	if d.maybe("extra") {
		// Null is absent, so the value is an array.
		rest := map[string]any{"~" + rapid.String().Draw(t, "name"): []any{drawJSON(t, 2)}}
		text := string(schematest.Must(json.Marshal(rest)))
		d.set("extra", protoreflect.ValueOfString(text))
		for name, value := range rest {
			d.member(name, value, "")
		}
		d.loose[len(d.loose)-1] = strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}")
	}
	return d
}

func (d *drawn) field(name string) protoreflect.FieldDescriptor {
	return d.m.Descriptor().Fields().ByName(protoreflect.Name(name))
}

func (d *drawn) set(name string, v protoreflect.Value) { d.m.Set(d.field(name), v) }

func (d *drawn) maybe(what string) bool { return rapid.Bool().Draw(d.T, what) }

// member notes the member that must be sent, and a form in which it may come.
func (d *drawn) member(name string, sent any, form string) {
	d.sent[name] = sent
	literal := string(schematest.Must(json.Marshal(name)))
	space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(d.T, "space")
	if rapid.IntRange(0, 9).Draw(d.T, "space in the name") == 0 {
		literal = `"` + strings.Trim(literal, `"`) + `\t"`
	}
	d.loose = append(d.loose, literal+space+":"+space+form)
}

// put sets a field that is drawn as present and notes its member. Zero in a
// field without presence is absent.
func (d *drawn) put(name, wire string, v, sent any, form string) {
	fd := d.field(name)
	value := protoreflect.ValueOf(v)
	d.m.Set(fd, value)
	if d.m.Has(fd) {
		d.member(wire, sent, form)
	} else if d.maybe("null") {
		d.loose = append(d.loose, fmt.Sprintf(`%q:null`, wire))
	}
}

func (d *drawn) scalars() {
	for _, name := range []string{"s", "os"} {
		if d.maybe(name) {
			v := rapid.String().Draw(d.T, name)
			d.put(name, name, v, v, d.text(v))
		}
	}
	for _, name := range []string{"i", "oi"} {
		if d.maybe(name) {
			v := rapid.Int32().Draw(d.T, name)
			d.put(name, name, v, number(int64(v)), d.integer(int64(v)))
		}
	}
	for _, name := range []string{"l", "ol"} {
		if d.maybe(name) {
			v := rapid.Int64().Draw(d.T, name)
			d.put(name, name, v, number(v), d.integer(v))
		}
	}
	for _, name := range []string{"d", "od"} {
		if d.maybe(name) {
			v := rapid.Float64().Draw(d.T, name)
			text := string(schematest.Must(json.Marshal(v)))
			d.put(name, name, v, json.Number(text), d.oneOf(text, strconv.Quote(text)))
		}
	}
	for _, name := range []string{"b", "ob"} {
		if d.maybe(name) {
			v := d.maybe("value")
			d.put(name, name, v, v, d.boolean(v))
		}
	}
	if d.maybe("zo") {
		v := d.maybe("value")
		d.put("zo", "zo", v, zeroOne(v), d.boolean(v))
	}
	if d.maybe("e") {
		v := rapid.Int32().Draw(d.T, "e")
		d.put("e", "e", protoreflect.EnumNumber(v), number(int64(v)), d.integer(int64(v)))
	}
	if d.maybe("c") {
		v := rapid.SampledFrom([]protoreflect.EnumNumber{1, 2, 9}).Draw(d.T, "c")
		d.put("c", "c", v, number(coded[v]), d.integer(coded[v]))
	}
	if d.maybe("t") {
		ts, ms := d.time()
		d.put("t", "t", ts, number(ms), d.integer(ms))
	}
	if d.maybe("renamed") {
		v := rapid.StringN(1, -1, -1).Draw(d.T, "renamed")
		d.put("renamed", "re named", v, v, d.text(v))
		d.sent["twice"] = v
		d.loose = append(d.loose, `"renamed":"another"`)
	}
}

// coded is what stands on the wire for the values of the enum Coded.
var coded = map[protoreflect.EnumNumber]int64{1: 0, 2: 1, 9: 9}

func (d *drawn) lists() {
	list := func(name string, items []any, sent []any, forms []string) {
		if len(items) == 0 {
			return
		}
		l := d.m.Mutable(d.field(name)).List()
		for _, item := range items {
			l.Append(protoreflect.ValueOf(item))
		}
		text := "[" + strings.Join(forms, ",") + "]"
		switch name {
		case "packed", "packed_n":
			d.member(name, string(schematest.Must(json.Marshal(sent))), d.oneOf(text, d.text(text)))
		default:
			d.member(name, sent, text)
		}
	}
	for _, name := range []string{"rs", "packed"} {
		var items, sent []any
		var forms []string
		for _, v := range rapid.SliceOfN(rapid.String(), 0, 3).Draw(d.T, name) {
			items, sent, forms = append(items, v), append(sent, v), append(forms, d.text(v))
		}
		list(name, items, sent, forms)
	}
	for _, name := range []string{"rl", "packed_n"} {
		var items, sent []any
		var forms []string
		for _, v := range rapid.SliceOfN(rapid.Int64(), 0, 3).Draw(d.T, name) {
			items, sent, forms = append(items, v), append(sent, number(v)), append(forms, d.integer(v))
		}
		list(name, items, sent, forms)
	}
	var items, sent []any
	var forms []string
	for range rapid.IntRange(0, 3).Draw(d.T, "rm") {
		inner, s := d.inner()
		items, sent, forms = append(items, inner), append(sent, s), append(forms, string(schematest.Must(json.Marshal(s))))
	}
	list("rm", items, sent, forms)
	items, sent, forms = nil, nil, nil
	for range rapid.IntRange(0, 3).Draw(d.T, "rt") {
		ts, ms := d.time()
		items, sent, forms = append(items, ts), append(sent, number(ms)), append(forms, d.integer(ms))
	}
	list("rt", items, sent, forms)
}

func (d *drawn) json() {
	free := func(name string, v any) {
		text := string(schematest.Must(json.Marshal(v)))
		d.put(name, name, text, v, text)
	}
	if d.maybe("jo") {
		free("jo", map[string]any{"k": drawJSON(d.T, 2)})
	}
	if d.maybe("ja") {
		free("ja", []any{drawJSON(d.T, 2)})
	}
	if d.maybe("jv") {
		if v := drawJSON(d.T, 2); v != nil { // null cannot be told from absent
			free("jv", v)
		}
	}
	if d.maybe("jt") {
		text := string(schematest.Must(json.Marshal(map[string]any{"k": drawJSON(d.T, 2)})))
		d.put("jt", "jt", text, text, d.text(text))
	}
}

func (d *drawn) content() {
	c := d.m.Mutable(d.field("content")).Message()
	kind := rapid.SampledFrom([]string{"", "text", "tip", "inner", "free"}).Draw(d.T, "kind")
	typed := func(n int64, name string, sent any, form string) {
		d.member("type", number(n), d.integer(n))
		d.member(name, sent, form)
	}
	switch kind {
	case "":
		d.m.Clear(d.field("content"))
		return
	case "text", "tip":
		v := rapid.String().Draw(d.T, kind)
		schematest.Set(c, kind, v)
		typed(map[string]int64{"text": 0, "tip": 10}[kind], "text", v, d.text(v))
	case "inner":
		inner, sent := d.inner()
		schematest.Set(c, kind, inner)
		typed(1, "value", sent, string(schematest.Must(json.Marshal(sent))))
	case "free":
		v := map[string]any{"k": drawJSON(d.T, 2)}
		text := string(schematest.Must(json.Marshal(v)))
		schematest.Set(c, kind, text)
		typed(100, "value", v, text)
	}
	if (kind == "inner" || kind == "free") && d.maybe("description") {
		v := rapid.String().Draw(d.T, "description")
		schematest.Set(c, "description", v)
		d.member("text", v, d.text(v))
	}
}

// inner draws a message inside the message. It is never empty: {} is absent.
func (d *drawn) inner() (protoreflect.Message, map[string]any) {
	m := d.m.NewField(d.field("m")).Message()
	n := rapid.Int32().Draw(d.T, "n")
	schematest.Set(m, "n", n)
	sent := map[string]any{"n": number(int64(n))}
	if id := rapid.String().Draw(d.T, "id"); id != "" {
		schematest.Set(m, "id", id)
		sent["id"] = id
	}
	return m, sent
}

func (d *drawn) time() (protoreflect.Message, int64) {
	ms := rapid.Int64Range(-62135596800000, 253402300799999).Draw(d.T, "ms")
	return timestamppb.New(time.UnixMilli(ms)).ProtoReflect(), ms
}

func (d *drawn) oneOf(forms ...string) string { return rapid.SampledFrom(forms).Draw(d.T, "form") }

func (d *drawn) integer(v int64) string {
	n := strconv.FormatInt(v, 10)
	return d.oneOf(n, `"`+n+`"`, n+".0", `"`+n+`.0"`)
}

func (d *drawn) boolean(v bool) string {
	if v {
		return d.oneOf("true", `"true"`, "1", `"1"`)
	}
	return d.oneOf("false", `"false"`, "0", `"0"`)
}

// text writes a string as JSON, plainly or with every unit of it escaped.
func (d *drawn) text(s string) string {
	var escaped strings.Builder
	for _, unit := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&escaped, `\u%04x`, unit)
	}
	return d.oneOf(string(schematest.Must(json.Marshal(s))), `"`+escaped.String()+`"`)
}

func number(v int64) json.Number { return json.Number(strconv.FormatInt(v, 10)) }

func zeroOne(v bool) json.Number {
	if v {
		return "1"
	}
	return "0"
}

// drawJSON draws free JSON, with numbers that no float64 holds.
func drawJSON(t *rapid.T, depth int) any {
	kinds := []string{"null", "bool", "number", "text"}
	if depth > 0 {
		kinds = append(kinds, "array", "object")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "json") {
	case "bool":
		return rapid.Bool().Draw(t, "bool")
	case "number":
		return json.Number(rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?`).Draw(t, "number"))
	case "text":
		return rapid.String().Draw(t, "text")
	case "array":
		a := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			a = append(a, drawJSON(t, depth-1))
		}
		return a
	case "object":
		o := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			o[rapid.String().Draw(t, "name")] = drawJSON(t, depth-1)
		}
		return o
	default:
		return nil
	}
}

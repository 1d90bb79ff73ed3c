package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// FieldError says which field of a request cannot be sent, and why.
type FieldError struct {
	// Path is the path of the field.
	Path string
	// Rule is what the field must be.
	Rule string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Path + ": " + e.Rule }

func broken(f protoreflect.FieldDescriptor, format string, args ...any) error {
	return &FieldError{Path: string(f.Name()), Rule: fmt.Sprintf(format, args...)}
}

// within places an error of a field inside the field that holds it.
func within(f *field, err error) error {
	if e, ok := errors.AsType[*FieldError](err); ok {
		return &FieldError{Path: string(f.Name()) + "." + e.Path, Rule: e.Rule}
	}
	return err
}

// item places an error of a list's field at the item that it concerns.
func item(f *field, i int, err error) error {
	name := string(f.Name())
	if e, ok := errors.AsType[*FieldError](err); ok {
		return &FieldError{Path: fmt.Sprintf("%s[%d]%s", name, i, strings.TrimPrefix(e.Path, name)), Rule: e.Rule}
	}
	return err
}

// Encode writes a request: the target, which is path and query, and the body, which
// is nil if there is none. What cannot be sent is a *FieldError.
func (o *Operation) Encode(request proto.Message) (target string, body []byte, err error) {
	m := request.ProtoReflect()
	target, err = o.path(m)
	if err != nil {
		return "", nil, err
	}
	query := url.Values{}
	body = []byte{'{'}
	for _, c := range o.constants {
		if o.HasBody {
			body = appendMember(body, c.GetName())
			body = strconv.AppendInt(body, c.GetNumber(), 10)
		} else {
			query.Set(c.GetName(), strconv.FormatInt(c.GetNumber(), 10))
		}
	}
	for _, f := range o.in.fields {
		switch {
		case f.opts != nil && f.opts.Fallback != nil && !f.isSent(m):
			err = addQuery(query, f, f.fallback())
		case o.inPath[f.Number()] || !f.isSent(m):
		case o.inQuery[f.Number()] || !o.HasBody:
			err = addQuery(query, f, m.Get(f.FieldDescriptor))
		default:
			body, err = appendField(body, o.in, f, m)
		}
		if err != nil {
			return "", nil, err
		}
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	if len(body) == 1 {
		return target, nil, nil
	}
	return target, append(body, '}'), nil
}

// path fills the endpoint's path. An id is one segment whatever it holds; only
// "." and ".." cannot be: every proxy on the way would resolve them.
func (o *Operation) path(m protoreflect.Message) (string, error) {
	var b strings.Builder
	for _, s := range o.segments {
		b.WriteByte('/')
		if s.field == nil {
			b.WriteString(s.literal)
			continue
		}
		value, err := bare(s.field, m.Get(s.field.FieldDescriptor))
		if err != nil {
			return "", err
		}
		if value == "" || value == "." || value == ".." {
			return "", broken(s.field, "must not be empty, \".\" or \"..\"")
		}
		b.WriteString(url.PathEscape(value))
	}
	return b.String(), nil
}

// isSent reports whether a message has something to send in a field. Empty text
// where JSON is meant, and the zero value of an enum, are nothing to send.
func (f *field) isSent(m protoreflect.Message) bool {
	switch {
	case !m.Has(f.FieldDescriptor):
		return false
	case !f.HasOptionalKeyword():
		return true
	case f.Kind() == protoreflect.EnumKind:
		return m.Get(f.FieldDescriptor).Enum() != 0
	case f.opts.GetRest() || f.opts.GetJson() != upstreamv1.Json_JSON_UNSPECIFIED:
		return m.Get(f.FieldDescriptor).String() != ""
	default:
		return true
	}
}

func addQuery(query url.Values, f *field, value protoreflect.Value) (err error) {
	if f.opts.GetInline() {
		for _, part := range f.message.fields {
			if m := value.Message(); err == nil && part.isSent(m) {
				err = within(f, addQuery(query, part, m.Get(part.FieldDescriptor)))
			}
		}
		return err
	}
	var text string
	switch {
	case f.IsList() && f.opts.GetAsText():
		var array []byte
		array, err = appendList(nil, f, value.List())
		text = string(array)
	case f.IsList():
		text, err = commaList(f, value.List())
	default:
		text, err = bare(f, value)
	}
	for _, name := range f.names {
		query.Set(name, text)
	}
	return err
}

// commaList joins the items of a list. Each must come out again as it went in.
func commaList(f *field, list protoreflect.List) (string, error) {
	items := make([]string, list.Len())
	for i := range items {
		text, err := bare(f, list.Get(i))
		if err == nil && (text == "" || strings.Contains(text, ",")) {
			err = broken(f, "must not be empty or contain a comma")
		}
		if err != nil {
			return "", item(f, i, err)
		}
		items[i] = text
	}
	return strings.Join(items, ","), nil
}

// bare writes a value as it stands in a path or a query: a text without quotes,
// anything else as in a body.
func bare(f *field, value protoreflect.Value) (string, error) {
	if f.Kind() == protoreflect.StringKind {
		return value.String(), checkJSON(f, value)
	}
	b, err := appendValue(nil, f, value)
	return string(b), err
}

// appendObject appends a message as a JSON object.
func appendObject(b []byte, p *plan, m protoreflect.Message) ([]byte, error) {
	b, err := appendMembers(append(b, '{'), p, m)
	return append(b, '}'), err
}

func appendMembers(b []byte, p *plan, m protoreflect.Message) ([]byte, error) {
	for _, f := range p.fields {
		if !f.isSent(m) {
			continue
		}
		var err error
		if b, err = appendField(b, p, f, m); err != nil {
			return b, err
		}
	}
	return b, nil
}

// appendField appends the members that a field stands for: mostly one.
func appendField(b []byte, p *plan, f *field, m protoreflect.Message) ([]byte, error) {
	value := m.Get(f.FieldDescriptor)
	switch {
	case f.opts.GetRest():
		return appendRest(b, p, f, m)
	case f.opts.GetInline():
		b, err := appendMembers(b, f.message, value.Message())
		return b, within(f, err)
	case p.union != nil && f.ContainingOneof() == p.union.oneof:
		return appendVariant(b, p, f, m)
	}
	for _, name := range f.names {
		var err error
		b = appendMember(b, name)
		switch {
		case f.IsList() && f.opts.GetAsText():
			var array []byte
			array, err = appendList(nil, f, value.List())
			b = appendString(b, string(array))
		case f.IsList():
			b, err = appendList(b, f, value.List())
		case f.guests != nil:
			b, err = appendHost(b, f, m)
		default:
			b, err = appendValue(b, f, value)
		}
		if err != nil {
			return b, err
		}
	}
	if f.outside == nil {
		return b, nil
	}
	b, err := appendMembers(b, &plan{fields: f.outside}, value.Message())
	return b, within(f, err)
}

// appendHost appends an object that holds the members of other messages too.
func appendHost(b []byte, f *field, m protoreflect.Message) ([]byte, error) {
	b = append(b, '{')
	for _, part := range append([]*field{f}, f.guests...) {
		var err error
		if b, err = appendMembers(b, part.message, m.Get(part.FieldDescriptor).Message()); err != nil {
			return b, within(part, err)
		}
	}
	return append(b, '}'), nil
}

// appendVariant appends what tells the variant, and its value.
func appendVariant(b []byte, p *plan, f *field, m protoreflect.Message) ([]byte, error) {
	if f == p.union.other {
		return b, broken(f, "cannot be sent")
	}
	name := p.union.member(f)
	if s, ok := p.slots[name]; ok && s.isSent(m) {
		return b, broken(s, "cannot go with %s", f.Name())
	}
	b = strconv.AppendInt(appendMember(b, p.union.tag), int64(f.opts.GetVariant()), 10)
	return appendValue(appendMember(b, name), f, m.Get(f.FieldDescriptor))
}

// appendRest appends the members of a JSON object given as text.
func appendRest(b []byte, p *plan, f *field, m protoreflect.Message) ([]byte, error) {
	object := valid([]byte(m.Get(f.FieldDescriptor).String()))
	if len(object) == 0 || object[0] != '{' {
		return b, broken(f, "must be a JSON object")
	}
	for literal, value := range pairs(object) {
		name := unquote(literal)
		if other := p.writer(strings.TrimSpace(name), m); other != nil {
			return b, broken(f, "must not hold %q, which is %s", name, other.Name())
		}
		b = append(append(append(appendComma(b), literal...), ':'), value...)
	}
	return b, nil
}

// writer returns the field of a message that stands under a name, if any does.
func (p *plan) writer(name string, m protoreflect.Message) *field {
	if s, ok := p.slots[name]; ok && s.isSent(m) {
		return s.field
	}
	if p.union != nil {
		if f := p.union.set(m); f != nil && (name == p.union.tag || name == p.union.member(f)) {
			return f
		}
	}
	for _, f := range p.inline {
		if f.message.writer(name, m.Get(f.FieldDescriptor).Message()) != nil {
			return f
		}
	}
	return nil
}

func appendList(b []byte, f *field, list protoreflect.List) ([]byte, error) {
	b = append(b, '[')
	for i := range list.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, f, list.Get(i)); err != nil {
			return b, item(f, i, err)
		}
	}
	return append(b, ']'), nil
}

func appendValue(b []byte, f *field, value protoreflect.Value) ([]byte, error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		if err := checkJSON(f, value); err != nil {
			return b, err
		}
		if f.opts.GetJson() != upstreamv1.Json_JSON_UNSPECIFIED && !f.opts.GetAsText() {
			return append(b, value.String()...), nil
		}
		return appendString(b, value.String()), nil
	case protoreflect.DoubleKind:
		number, err := json.Marshal(value.Float())
		if err != nil {
			return b, broken(f, "must be a finite number")
		}
		return append(b, number...), nil
	case protoreflect.MessageKind:
		if f.message == nil {
			ms, err := milliseconds(f, value)
			return strconv.AppendInt(b, ms, 10), err
		}
		b, err := appendObject(b, f.message, value.Message())
		return b, within(f, err)
	case protoreflect.EnumKind:
		if value.Enum() == 0 {
			return b, broken(f, "must be given")
		}
		return strconv.AppendInt(b, f.numbers.toWire(value.Enum()), 10), nil
	case protoreflect.BoolKind:
		switch {
		case !f.opts.GetZeroOne():
			return strconv.AppendBool(b, value.Bool()), nil
		case value.Bool():
			return append(b, '1'), nil
		default:
			return append(b, '0'), nil
		}
	default:
		return strconv.AppendInt(b, value.Int(), 10), nil
	}
}

// checkJSON checks a text that must be JSON.
func checkJSON(f *field, value protoreflect.Value) error {
	if f.opts.GetJson() == upstreamv1.Json_JSON_UNSPECIFIED || f.Kind() != protoreflect.StringKind {
		return nil
	}
	v := valid([]byte(value.String()))
	switch {
	case v == nil:
		return broken(f, "must be JSON")
	case f.opts.GetJson() == upstreamv1.Json_JSON_OBJECT && v[0] != '{':
		return broken(f, "must be a JSON object")
	case f.opts.GetJson() == upstreamv1.Json_JSON_ARRAY && v[0] != '[':
		return broken(f, "must be a JSON array")
	default:
		return nil
	}
}

// milliseconds reads a google.protobuf.Timestamp. A finer time is refused: the
// upstream would be told another one than the caller gave.
func milliseconds(f *field, value protoreflect.Value) (int64, error) {
	ts, ok := value.Message().Interface().(*timestamppb.Timestamp)
	if !ok {
		return 0, broken(f, "must be a google.protobuf.Timestamp")
	}
	if err := ts.CheckValid(); err != nil {
		return 0, broken(f, "must be a time between the years 1 and 9999")
	}
	if ts.GetNanos()%1e6 != 0 {
		return 0, broken(f, "must be a whole number of milliseconds")
	}
	return ts.AsTime().UnixMilli(), nil
}

func appendMember(b []byte, name string) []byte {
	return append(appendString(appendComma(b), name), ':')
}

// appendComma appends the comma before a member that is not its object's first.
func appendComma(b []byte) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return b
}

func appendString(b []byte, s string) []byte {
	literal, err := json.Marshal(s)
	if err != nil {
		panic("upstream: a string has no JSON: " + err.Error())
	}
	return append(b, literal...)
}

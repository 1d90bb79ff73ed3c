package upstream

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

// A fieldError says which field of a request cannot be sent, and why.
type fieldError struct {
	path string
	rule string
}

func (e *fieldError) Error() string { return e.path + ": " + e.rule }

func broken(f protoreflect.FieldDescriptor, format string, args ...any) error {
	return &fieldError{path: string(f.Name()), rule: fmt.Sprintf(format, args...)}
}

// within places an error of a field inside the field that holds it.
func within(outer string, err error) error {
	if e, ok := errors.AsType[*fieldError](err); ok {
		return &fieldError{path: outer + "." + e.path, rule: e.rule}
	}
	return err
}

// encode writes a request: the target, which is path and query, and the body,
// nil if there is none.
func (e *endpoint) encode(request proto.Message) (target string, body []byte, err error) {
	m := request.ProtoReflect()
	target, err = e.path(m)
	if err != nil {
		return "", nil, err
	}
	query := url.Values{}
	body = []byte{'{'}
	for _, c := range e.constants {
		if e.hasBody {
			body = appendMember(body, c.GetName())
			body = strconv.AppendInt(body, c.GetNumber(), 10)
		} else {
			query.Set(c.GetName(), strconv.FormatInt(c.GetNumber(), 10))
		}
	}
	for _, f := range e.in.fields {
		switch {
		case e.inPath[f.Number()] || !m.Has(f.FieldDescriptor):
		case e.inQuery[f.Number()] || !e.hasBody:
			err = addQuery(query, f, m.Get(f.FieldDescriptor))
		default:
			body, err = appendField(body, e.in, f, m)
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
func (e *endpoint) path(m protoreflect.Message) (string, error) {
	var b strings.Builder
	for _, s := range e.segments {
		b.WriteByte('/')
		if s.field == nil {
			b.WriteString(s.literal)
			continue
		}
		value := scalar(s.field, m.Get(s.field.FieldDescriptor))
		if value == "" || value == "." || value == ".." {
			return "", broken(s.field, "must not be empty, \".\" or \"..\"")
		}
		b.WriteString(url.PathEscape(value))
	}
	return b.String(), nil
}

func addQuery(query url.Values, f *field, value protoreflect.Value) error {
	text := ""
	switch {
	case f.opts.GetRest() || f.opts.GetInline() || f.message != nil:
		return broken(f, "cannot be sent in a query") // New refuses such endpoints
	case f.IsList() && f.opts.GetAsText():
		array, err := appendList(nil, f, value.List())
		if err != nil {
			return err
		}
		text = string(array)
	case f.IsList():
		items := make([]string, value.List().Len())
		for i := range items {
			items[i] = scalar(f, value.List().Get(i))
			if strings.Contains(items[i], ",") {
				return &fieldError{fmt.Sprintf("%s[%d]", f.Name(), i), "must not contain a comma"}
			}
		}
		text = strings.Join(items, ",")
	case f.Message() != nil:
		ms, err := milliseconds(f, value)
		if err != nil {
			return err
		}
		text = strconv.FormatInt(ms, 10)
	default:
		if err := checkJSON(f, value); err != nil {
			return err
		}
		text = scalar(f, value)
	}
	for _, name := range append([]string{f.wire}, f.opts.GetCopies()...) {
		query.Set(name, text)
	}
	return nil
}

// scalar writes a value as it stands in a path or a query.
func scalar(f *field, value protoreflect.Value) string {
	switch {
	case f.Kind() == protoreflect.EnumKind:
		return strconv.FormatInt(f.numbers.toWire(value.Enum()), 10)
	case f.Kind() == protoreflect.BoolKind && f.opts.GetZeroOne():
		if value.Bool() {
			return "1"
		}
		return "0"
	default:
		return value.String()
	}
}

// appendObject appends a message as a JSON object.
func appendObject(b []byte, p *plan, m protoreflect.Message) ([]byte, error) {
	b, err := appendMembers(append(b, '{'), p, m)
	return append(b, '}'), err
}

func appendMembers(b []byte, p *plan, m protoreflect.Message) ([]byte, error) {
	for _, f := range p.fields {
		if !m.Has(f.FieldDescriptor) {
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
		return b, within(string(f.Name()), err)
	case p.union != nil && f.ContainingOneof() == p.union.oneof:
		return appendVariant(b, p.union, f, value)
	}
	for _, name := range append([]string{f.wire}, f.opts.GetCopies()...) {
		var err error
		b = appendMember(b, name)
		switch {
		case f.IsList() && f.opts.GetAsText():
			var array []byte
			array, err = appendList(nil, f, value.List())
			b = appendString(b, string(array))
		case f.IsList():
			b, err = appendList(b, f, value.List())
		default:
			b, err = appendValue(b, f, value)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// appendVariant appends what tells the variant, and its value.
func appendVariant(b []byte, u *union, f *field, value protoreflect.Value) ([]byte, error) {
	if f == u.other {
		return b, broken(f, "cannot be sent")
	}
	b = strconv.AppendInt(appendMember(b, u.tag), int64(f.opts.GetVariant()), 10)
	name := u.value
	if f.plain() {
		name = f.wire
	}
	return appendValue(appendMember(b, name), f, value)
}

// appendRest appends the members of a JSON object given as text.
func appendRest(b []byte, p *plan, f *field, m protoreflect.Message) ([]byte, error) {
	object := valid([]byte(m.Get(f.FieldDescriptor).String()))
	if object == nil || object[0] != '{' {
		return b, broken(f, "must be a JSON object")
	}
	for name, value := range members(object) {
		if s, ok := p.slots[name]; ok && m.Has(s.FieldDescriptor) {
			return b, broken(f, "must not hold %q, which is %s", name, s.Name())
		}
		b = append(appendMember(b, name), value...)
	}
	return b, nil
}

func appendList(b []byte, f *field, list protoreflect.List) ([]byte, error) {
	b = append(b, '[')
	for i := range list.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, f, list.Get(i)); err != nil {
			if e, ok := errors.AsType[*fieldError](err); ok {
				e.path = strings.Replace(e.path, string(f.Name()), fmt.Sprintf("%s[%d]", f.Name(), i), 1)
			}
			return b, err
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
		return b, within(string(f.Name()), err)
	default: // numbers and the words true and false
		return append(b, scalar(f, value)...), nil
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

// appendMember appends the name of a member, and the comma before it if it is
// not the object's first.
func appendMember(b []byte, name string) []byte {
	if last := b[len(b)-1]; last != '{' {
		b = append(b, ',')
	}
	return append(appendString(b, name), ':')
}

func appendString(b []byte, s string) []byte {
	literal, err := json.Marshal(s)
	if err != nil {
		panic("upstream: a string has no JSON: " + err.Error())
	}
	return append(b, literal...)
}

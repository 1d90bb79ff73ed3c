package codec

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// A decoder reads what the upstream answered. It is lenient where the upstream
// drifts: a number or its text, a boolean, its word or 0 and 1, further names of
// a member, null for absent; members without a field are skipped. It is strict
// where leniency would change a value.
type decoder struct {
	// status makes the error of an item of a batch.
	status func(code int64, message string) *statuspb.Status
}

// decode reads an object into a message, of which nothing stays.
func (d *decoder) decode(p *plan, object []byte, m proto.Message) error {
	proto.Reset(m)
	return d.object(p, object, m.ProtoReflect())
}

// object reads the members of a JSON object into a message.
func (d *decoder) object(p *plan, object []byte, m protoreflect.Message) error {
	if object[0] != '{' {
		return fmt.Errorf("want an object, have %s", excerpt(object))
	}
	if err := d.slots(p, object, m); err != nil {
		return err
	}
	for _, f := range p.inline {
		inner := m.NewField(f.FieldDescriptor)
		if err := d.object(f.message, object, inner.Message()); err != nil {
			return err
		}
		if !isUnset(inner.Message()) { // otherwise it was not there
			m.Set(f.FieldDescriptor, inner)
		}
	}
	if p.union != nil {
		d.variant(p.union, p.slots, object, m)
	}
	p.keepRest(object, m)
	return nil
}

// isUnset reports whether no field of a message is set.
func isUnset(m protoreflect.Message) bool {
	unset := true
	m.Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
		unset = false
		return false
	})
	return unset
}

// slots reads the members that have a field.
func (d *decoder) slots(p *plan, object []byte, m protoreflect.Message) error {
	for name, value := range members(object) {
		s, ok := p.slots[name]
		if !ok || s.isAbsent(value) || s.alias && !s.isAbsent(member(object, s.wire)) {
			continue
		}
		if s.opts.GetOnlyIf() != "" && isFalse(member(object, s.opts.GetOnlyIf())) {
			continue
		}
		var err error
		switch {
		case s.opts.GetFailed() != nil:
			err = d.results(p, name, value, m)
		case s.IsList():
			err = d.list(s.field, value, m)
		default:
			err = d.single(s.field, value, m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return p.checkPromises(object, m)
}

// checkPromises refuses an object that says that there is more, but not where: it
// would be taken for the last of its kind.
func (p *plan) checkPromises(object []byte, m protoreflect.Message) error {
	for _, f := range p.fields {
		promise := f.opts.GetOnlyIf()
		if promise == "" || m.Has(f.FieldDescriptor) {
			continue
		}
		if value := member(object, promise); value != nil && !isEmpty(value) && !isFalse(value) {
			return fmt.Errorf("%s without %s", promise, f.wire)
		}
	}
	return nil
}

// isAbsent reports whether a value says nothing to a field: null, and an object or
// text that is empty where a message, a time, a number, a list or JSON is meant.
func (f *field) isAbsent(value []byte) bool {
	switch {
	case value == nil || isNull(value):
		return true
	case f.IsList() || f.Kind() != protoreflect.StringKind:
		return isEmpty(value)
	case f.opts.GetJson() == upstreamv1.Json_JSON_OBJECT || f.opts.GetJson() == upstreamv1.Json_JSON_ARRAY:
		return value[0] == '"' && isEmpty(value)
	default:
		return false
	}
}

// single reads one value into a field.
func (d *decoder) single(f *field, value []byte, m protoreflect.Message) error {
	v, err := d.value(f, value, m.NewField(f.FieldDescriptor))
	if err != nil {
		return err
	}
	m.Set(f.FieldDescriptor, v)
	return nil
}

func (d *decoder) list(f *field, array []byte, m protoreflect.Message) error {
	if array[0] == '"' && f.opts.GetAsText() {
		array = valid([]byte(text(array)))
	}
	if len(array) == 0 || array[0] != '[' {
		return fmt.Errorf("want an array, have %s", excerpt(array))
	}
	v := m.NewField(f.FieldDescriptor) // a member that comes twice counts once
	list := v.List()
	for element := range elements(array) {
		if isNull(element) {
			continue
		}
		v, err := d.value(f, element, list.NewElement())
		if err != nil {
			return fmt.Errorf("[%d]: %w", list.Len(), err)
		}
		list.Append(v)
	}
	m.Set(f.FieldDescriptor, v)
	return nil
}

// value reads one value of the field's type; empty is a new value of it.
func (d *decoder) value(f *field, value []byte, empty protoreflect.Value) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		if f.opts.GetJson() != upstreamv1.Json_JSON_UNSPECIFIED && !f.opts.GetAsText() {
			if !isOfKind(value, f.opts.GetJson()) {
				return empty, fmt.Errorf("want %s, have %s", f.opts.GetJson(), excerpt(value))
			}
			return protoreflect.ValueOfString(strings.ToValidUTF8(string(value), "\uFFFD")), nil
		}
		return protoreflect.ValueOfString(text(value)), nil
	case protoreflect.BoolKind:
		b, err := boolean(value)
		return protoreflect.ValueOfBool(b), err
	case protoreflect.Int32Kind:
		n, err := integer(value, 32)
		return protoreflect.ValueOfInt32(int32(n)), err //nolint:gosec // integer has checked the range
	case protoreflect.Int64Kind:
		n, err := integer(value, 64)
		return protoreflect.ValueOfInt64(n), err
	case protoreflect.EnumKind:
		n, err := integer(value, 64)
		return protoreflect.ValueOfEnum(f.numbers.fromWire(n)), err
	case protoreflect.DoubleKind:
		x, err := strconv.ParseFloat(text(value), 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return empty, fmt.Errorf("want a number, have %s", excerpt(value))
		}
		return protoreflect.ValueOfFloat64(x), nil
	default:
		return d.message(f, value, empty)
	}
}

func (d *decoder) message(f *field, value []byte, empty protoreflect.Value) (protoreflect.Value, error) {
	if f.message == nil { // a google.protobuf.Timestamp
		n, err := integer(value, 64)
		if err != nil {
			return empty, err
		}
		ts := timestamppb.New(time.UnixMilli(n))
		return protoreflect.ValueOfMessage(ts.ProtoReflect()), ts.CheckValid()
	}
	if f.opts.GetWrapper() != "" {
		value = unwrap(value, f.opts.GetWrapper())
	}
	return empty, d.object(f.message, value, empty.Message())
}

// variant reads a union. Senders choose what an attachment holds, so one that
// does not have the form of its type must not spoil the page it stands on: it is
// kept as it is in the member for others.
func (d *decoder) variant(u *union, slots map[string]slot, object []byte, m protoreflect.Message) {
	tag, value := member(object, u.tag), member(object, u.value)
	if tag == nil && (value == nil || isEmpty(value)) {
		return
	}
	if tag != nil {
		if n, err := integer(tag, 32); err == nil {
			if f := u.byNumber[int32(n)]; f != nil && d.fits(f, slots, object, value, m) { //nolint:gosec // integer has checked the range
				return
			}
		}
	}
	other := m.Mutable(u.other.FieldDescriptor).Message()
	for name, raw := range map[string][]byte{u.tag: tag, u.value: value} {
		if s, ok := u.other.message.slots[name]; ok && raw != nil {
			_ = d.single(s.field, raw, other) // a tag that is no number stays absent
		}
	}
}

// fits reads one variant, if the object has what it needs.
func (d *decoder) fits(f *field, slots map[string]slot, object, value []byte, m protoreflect.Message) bool {
	if f.plain() {
		own := member(object, f.wire)
		if own == nil && value != nil && !isEmpty(value) {
			return false
		}
		s := ""
		if own != nil {
			s = text(own)
		}
		m.Set(f.FieldDescriptor, protoreflect.ValueOfString(s))
		if shared, ok := slots[f.wire]; ok {
			m.Clear(shared.FieldDescriptor) // the text is the content here, not its description
		}
		return true
	}
	if f.isAbsent(value) {
		m.Set(f.FieldDescriptor, m.NewField(f.FieldDescriptor))
		return true
	}
	v, err := d.value(f, value, m.NewField(f.FieldDescriptor))
	if err == nil {
		m.Set(f.FieldDescriptor, v)
	}
	return err == nil
}

// keepRest gathers the members that have no field.
func (p *plan) keepRest(object []byte, m protoreflect.Message) {
	if p.rest == nil {
		return
	}
	var rest []byte
	for literal, value := range pairs(object) {
		if isNull(value) || p.hasRead(strings.TrimSpace(unquote(literal)), value, m) {
			continue
		}
		rest = append(rest, ',')
		rest = append(append(rest, literal...), ':')
		rest = append(rest, value...)
	}
	if rest != nil {
		rest[0] = '{'
		rest = bytes.ToValidUTF8(append(rest, '}'), []byte("\uFFFD"))
		m.Set(p.rest.FieldDescriptor, protoreflect.ValueOfString(string(rest)))
	}
}

// hasRead reports whether a member of the object was meant for a field, be it an
// inline message's. A union leaves the value beside a text unread.
func (p *plan) hasRead(name string, value []byte, m protoreflect.Message) bool {
	if _, ok := p.slots[name]; ok {
		return true
	}
	if p.union != nil {
		own := p.union.value
		if f := p.union.set(m); f != nil {
			own = p.union.member(f)
		}
		if name == p.union.tag || name == own || name == p.union.value && isEmpty(value) {
			return true
		}
	}
	for _, f := range p.inline {
		if f.message.hasRead(name, value, m.Get(f.FieldDescriptor).Message()) {
			return true
		}
	}
	return false
}

// unwrap lifts the members of an object's member into the object.
func unwrap(object []byte, wrapper string) []byte {
	if object[0] != '{' {
		return object
	}
	inner := member(object, wrapper)
	if len(inner) == 0 || inner[0] != '{' {
		return object
	}
	var flat []byte
	for _, o := range [][]byte{object, inner} {
		for name, value := range members(o) {
			if name != wrapper {
				flat = append(append(appendString(append(flat, ','), name), ':'), value...)
			}
		}
	}
	if flat == nil {
		return []byte("{}")
	}
	flat[0] = '{'
	return append(flat, '}')
}

// text returns a string's text, and any other value as it is.
func text(value []byte) string {
	if value[0] == '"' {
		return unquote(value)
	}
	return strings.ToValidUTF8(string(value), "\uFFFD")
}

// integer reads a whole number, or its text, of up to so many bits.
func integer(value []byte, bits int) (int64, error) {
	switch s := text(value); s {
	case "true":
		return 1, nil
	case "false":
		return 0, nil
	default:
		n, err := strconv.ParseInt(strings.TrimSuffix(s, ".0"), 10, bits)
		if err != nil {
			return 0, fmt.Errorf("want an integer of %d bits, have %s", bits, excerpt(value))
		}
		return n, nil
	}
}

func boolean(value []byte) (bool, error) {
	switch text(value) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	default:
		return false, fmt.Errorf("want a boolean, have %s", excerpt(value))
	}
}

// isOfKind reports whether a JSON value is of a kind.
func isOfKind(value []byte, kind upstreamv1.Json) bool {
	switch kind {
	case upstreamv1.Json_JSON_OBJECT:
		return value[0] == '{'
	case upstreamv1.Json_JSON_ARRAY:
		return value[0] == '['
	default:
		return true
	}
}

// isFalse reports whether a member is there and false.
func isFalse(value []byte) bool {
	if value == nil {
		return false
	}
	b, err := boolean(value)
	return err == nil && !b
}

// excerpt shortens a value for an error.
func excerpt(value []byte) string {
	const most = 40
	if len(value) > most {
		return strings.ToValidUTF8(string(value[:most]), "") + "..."
	}
	return strings.ToValidUTF8(string(value), "\uFFFD")
}

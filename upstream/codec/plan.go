package codec

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

const (
	timestampName = "google.protobuf.Timestamp"
	statusName    = "google.rpc.Status"
)

// plan is how messages of one type stand on the wire, worked out once from the
// descriptor and its options.
type plan struct {
	desc   protoreflect.MessageDescriptor
	fields []*field        // what is written, in the order of the fields
	slots  map[string]slot // what is read, by member
	inline []*field        // messages whose members stand in this object
	rest   *field          // takes the members that nobody else knows
	union  *union
	key    *field // first field: names the item, in a result
	client *field // the sender's own id of a message
	failed *field // the google.rpc.Status of a result
}

// field is one field of a plan. It keeps what a descriptor works out anew at each
// question.
type field struct {
	protoreflect.FieldDescriptor

	kind     protoreflect.Kind
	list     bool
	optional bool
	opts     *upstreamv1.Field
	wire     string   // name of its member
	names    []string // names under which it is written: wire, and copies
	message  *plan    // plan of its messages, unless they are well-known
	outside  []*field // fields of its message that are sent beside it
	guests   []*field // messages whose members are sent inside its object
	numbers  *numbers
}

// Kind implements protoreflect.FieldDescriptor.
func (f *field) Kind() protoreflect.Kind { return f.kind }

// IsList implements protoreflect.FieldDescriptor.
func (f *field) IsList() bool { return f.list }

// HasOptionalKeyword implements protoreflect.FieldDescriptor.
func (f *field) HasOptionalKeyword() bool { return f.optional }

// slot is a member that is read into a field.
type slot struct {
	*field
	alias  bool // counts only if the field's own member is absent
	failed bool // lists the items that failed
}

// union is a oneof whose members are told apart by a number.
type union struct {
	tag, value string
	oneof      protoreflect.OneofDescriptor
	byNumber   map[int32]*field
	other      *field
}

// plans holds the plans of all types reachable from the endpoints.
type plans map[protoreflect.FullName]*plan

// of returns the plan of a message type, and makes it first if need be.
func (ps plans) of(desc protoreflect.MessageDescriptor) (*plan, error) {
	if p, ok := ps[desc.FullName()]; ok {
		return p, nil
	}
	p := &plan{desc: desc, slots: make(map[string]slot)}
	ps[desc.FullName()] = p // before its fields: types may contain themselves
	for i := range desc.Fields().Len() {
		f, err := ps.field(desc.Fields().Get(i))
		if err != nil {
			return nil, err
		}
		if err := p.add(f); err != nil {
			return nil, fmt.Errorf("%s: %w", f.FullName(), err)
		}
	}
	if err := errors.Join(p.checkUnion(), p.placeGuests()); err != nil {
		return nil, err
	}
	return p, nil
}

// placeGuests moves the fields with the option into to the fields whose object they
// are sent in.
func (p *plan) placeGuests() error {
	var own []*field
	for _, f := range p.fields {
		name := f.opts.GetInto()
		if name == "" {
			own = append(own, f)
			continue
		}
		host := p.slots[name].field
		if host == nil || host.message == nil || host.IsList() {
			return fmt.Errorf("%s: no message is the member %q", f.FullName(), name)
		}
		host.guests = append(host.guests, f)
	}
	p.fields = own
	return nil
}

// only returns a plan that sends some of the fields, and those that are sent outside of
// the message. It reads all.
func (p *plan) only(members []*upstreamv1.Member) (within *plan, outside []*field, err error) {
	some := *p
	some.fields = nil
	for _, member := range members {
		f := p.find(member.GetField())
		if f == nil {
			return nil, nil, fmt.Errorf("%s has no field %q", p.desc.FullName(), member.GetField())
		}
		sent := *f
		if member.GetName() != "" {
			sent.wire, sent.names = member.GetName(), []string{member.GetName()}
		}
		if member.GetOutside() {
			outside = append(outside, &sent)
		} else {
			some.fields = append(some.fields, &sent)
		}
	}
	return &some, outside, nil
}

func (ps plans) field(fd protoreflect.FieldDescriptor) (*field, error) {
	f := &field{
		FieldDescriptor: fd, kind: fd.Kind(), list: fd.IsList(), optional: fd.HasOptionalKeyword(),
		opts: fieldOptions(fd), wire: string(fd.Name()),
	}
	if f.opts.GetName() != "" {
		f.wire = f.opts.GetName()
	}
	f.names = append([]string{f.wire}, f.opts.GetCopies()...)
	switch fd.Kind() {
	case protoreflect.EnumKind:
		numbers, err := numbersOf(fd.Enum())
		if err != nil {
			return nil, err
		}
		f.numbers = numbers
	case protoreflect.MessageKind:
		if name := fd.Message().FullName(); name == timestampName || name == statusName {
			break
		}
		message, err := ps.of(fd.Message())
		if err != nil {
			return nil, err
		}
		f.message = message
		if members := f.opts.GetMembers(); members != nil {
			if f.message, f.outside, err = message.only(members); err != nil {
				return nil, err
			}
		}
	case protoreflect.BoolKind, protoreflect.StringKind, protoreflect.DoubleKind,
		protoreflect.Int32Kind, protoreflect.Int64Kind:
	default:
		return nil, fmt.Errorf("%s: the wire has no form for type %s", fd.FullName(), fd.Kind())
	}
	if fd.IsMap() {
		return nil, fmt.Errorf("%s: the wire has no form for maps", fd.FullName())
	}
	return f, f.check()
}

// check reports whether the options fit the field's type.
func (f *field) check() error {
	single := !f.IsList()
	for _, rule := range []struct {
		option string
		set    bool
		fits   bool
	}{
		{"inline", f.opts.GetInline(), f.message != nil && single},
		{"rest", f.opts.GetRest(), f.Kind() == protoreflect.StringKind && single},
		{"json", f.opts.GetJson() != upstreamv1.Json_JSON_UNSPECIFIED, f.Kind() == protoreflect.StringKind},
		{"client_id", f.opts.GetClientId(), f.Kind() == protoreflect.StringKind && single},
		{"zero_one", f.opts.GetZeroOne(), f.Kind() == protoreflect.BoolKind},
		{"wrapper", f.opts.GetWrapper() != "", f.message != nil},
		{"into", f.opts.GetInto() != "", f.message != nil && single},
		{"members", f.opts.GetMembers() != nil, f.message != nil && (single || f.outside == nil)},
		{"fallback", f.opts != nil && f.opts.Fallback != nil, single && (f.Kind() == protoreflect.Int32Kind || f.Kind() == protoreflect.BoolKind)},
		{"failed", f.opts.GetFailed() != nil, f.IsList() && f.message.isResult()},
	} {
		if rule.set && !rule.fits {
			return fmt.Errorf("%s: the option %s does not fit the type", f.FullName(), rule.option)
		}
	}
	return nil
}

// fallback is the value that is sent in place of one that is not set.
func (f *field) fallback() protoreflect.Value {
	if f.Kind() == protoreflect.BoolKind {
		return protoreflect.ValueOfBool(f.opts.GetFallback() != 0)
	}
	return protoreflect.ValueOfInt32(f.opts.GetFallback())
}

// isResult reports whether a message has a first field that names an item, and
// one for its error.
func (p *plan) isResult() bool {
	return p != nil && p.failed != nil && p.key.Message() == nil && !p.key.IsList()
}

// fieldOptions returns the options of a field: its own, or otherwise those that every list
// and every batch has.
func fieldOptions(fd protoreflect.FieldDescriptor) *upstreamv1.Field {
	options, _ := proto.GetExtension(fd.Options(), upstreamv1.E_Field).(*upstreamv1.Field)
	switch {
	case isResults(fd):
		options = withDefaults(options, &upstreamv1.Field{Name: "success_list", Failed: []string{"failed_list", "fail_list"}})
	case fd.Name() == "page_size" && fd.Kind() == protoreflect.Int32Kind && !fd.IsList():
		options = withDefaults(options, &upstreamv1.Field{Name: "limit"})
	case fd.Name() == "next_page_token" && fd.Kind() == protoreflect.StringKind && !fd.IsList():
		options = withDefaults(options, &upstreamv1.Field{Name: "next_token", OnlyIf: "has_more"})
	}
	return options
}

// withDefaults fills what the options of a field leave open.
func withDefaults(options, defaults *upstreamv1.Field) *upstreamv1.Field {
	if options.GetName() != "" {
		defaults.Name = ""
	}
	if options.GetFailed() != nil {
		defaults.Failed = nil
	}
	if options.GetOnlyIf() != "" {
		defaults.OnlyIf = ""
	}
	proto.Merge(defaults, options)
	return defaults
}

// isResults reports whether a field lists the results of a batch: messages that name
// an item in their first field, and hold a google.rpc.Status.
func isResults(fd protoreflect.FieldDescriptor) bool {
	if !fd.IsList() || fd.Message() == nil || fd.Name() != "results" {
		return false
	}
	fields := fd.Message().Fields()
	for i := range fields.Len() {
		if m := fields.Get(i).Message(); m != nil && m.FullName() == statusName {
			return fields.Get(0).Message() == nil && !fields.Get(0).IsList()
		}
	}
	return false
}

// add gives a field its place in the plan.
func (p *plan) add(f *field) error {
	if f.Index() == 0 {
		p.key = f
	}
	if f.opts.GetClientId() {
		p.client = f
	}
	switch {
	case f.Message() != nil && f.Message().FullName() == statusName:
		p.failed = f
		return nil
	case f.opts.GetRest():
		if p.rest != nil {
			return fmt.Errorf("the rest belongs to %s", p.rest.FullName())
		}
		p.rest = f
		p.fields = append(p.fields, f)
		return nil
	case f.opts.GetInto() != "":
		p.fields = append(p.fields, f)
		return nil
	case f.opts.GetInline():
		p.inline = append(p.inline, f)
		p.fields = append(p.fields, f)
		return nil
	}
	if variants := variantsOf(f); variants != nil {
		p.fields = append(p.fields, f)
		return p.addVariant(f, variants)
	}
	p.fields = append(p.fields, f)
	if err := p.addSlot(f.wire, slot{field: f}); err != nil {
		return err
	}
	for _, name := range slices.Concat(f.opts.GetAliases(), f.opts.GetCopies()) {
		if err := p.addSlot(name, slot{field: f, alias: true}); err != nil {
			return err
		}
	}
	for _, name := range f.opts.GetFailed() {
		if err := p.addSlot(name, slot{field: f, failed: true}); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) addSlot(name string, s slot) error {
	if taken, ok := p.slots[name]; ok {
		return fmt.Errorf("member %q belongs to %s", name, taken.FullName())
	}
	p.slots[name] = s
	return nil
}

func (p *plan) addVariant(f *field, variants *upstreamv1.Variants) error {
	if p.union == nil {
		p.union = &union{
			tag: variants.GetTag(), value: variants.GetValue(),
			oneof: f.ContainingOneof(), byNumber: make(map[int32]*field),
		}
	}
	if p.union.oneof != f.ContainingOneof() {
		return fmt.Errorf("the variants of a message are those of %s", p.union.oneof.FullName())
	}
	if f.opts == nil || f.opts.Variant == nil {
		if p.union.other != nil || f.message == nil {
			return errors.New("a variant needs a number")
		}
		p.union.other = f
		return nil
	}
	if _, ok := p.union.byNumber[f.opts.GetVariant()]; ok {
		return fmt.Errorf("variant %d is taken", f.opts.GetVariant())
	}
	p.union.byNumber[f.opts.GetVariant()] = f
	return nil
}

// checkUnion reports whether all that may stand in a union has its place.
func (p *plan) checkUnion() error {
	u := p.union
	if u == nil {
		return nil
	}
	if u.other == nil {
		return fmt.Errorf("%s: no member for unknown variants", u.oneof.FullName())
	}
	for _, name := range []string{u.tag, u.value} {
		if _, ok := u.other.message.slots[name]; !ok {
			return fmt.Errorf("%s: no field for %q", u.other.FullName(), name)
		}
		if taken, ok := p.slots[name]; ok {
			return fmt.Errorf("%s: member %q belongs to %s", u.oneof.FullName(), name, taken.FullName())
		}
	}
	return nil
}

func variantsOf(f *field) *upstreamv1.Variants {
	oneof := f.ContainingOneof()
	if oneof == nil || oneof.IsSynthetic() {
		return nil
	}
	variants, _ := proto.GetExtension(oneof.Options(), upstreamv1.E_Variants).(*upstreamv1.Variants)
	return variants
}

// set returns the variant that a message holds, or nil.
func (u *union) set(m protoreflect.Message) *field {
	for _, f := range u.byNumber {
		if m.Has(f.FieldDescriptor) {
			return f
		}
	}
	if m.Has(u.other.FieldDescriptor) {
		return u.other
	}
	return nil
}

// member returns the name under which a variant stands.
func (u *union) member(f *field) string {
	if f.plain() {
		return f.wire
	}
	return u.value
}

// plain reports whether a variant is a string under its own name.
func (f *field) plain() bool {
	return f.Kind() == protoreflect.StringKind && f.opts.GetJson() == upstreamv1.Json_JSON_UNSPECIFIED
}

// numbers translates an enum's values to the wire and back.
type numbers struct {
	own    bool // all values have their own numbers
	wire   map[protoreflect.EnumNumber]int64
	values map[int64]protoreflect.EnumNumber
}

func numbersOf(enum protoreflect.EnumDescriptor) (*numbers, error) {
	n := &numbers{own: true, wire: make(map[protoreflect.EnumNumber]int64), values: make(map[int64]protoreflect.EnumNumber)}
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		wire := int64(value.Number())
		if proto.HasExtension(value.Options(), upstreamv1.E_Number) {
			number, _ := proto.GetExtension(value.Options(), upstreamv1.E_Number).(int32)
			wire, n.own = int64(number), false
		}
		if value.Number() == 0 {
			continue
		}
		if taken, ok := n.values[wire]; ok && taken != value.Number() {
			return nil, fmt.Errorf("%s: number %d is taken", value.FullName(), wire)
		}
		n.wire[value.Number()], n.values[wire] = wire, value.Number()
	}
	return n, nil
}

// toWire returns the number that stands for a value.
func (n *numbers) toWire(value protoreflect.EnumNumber) int64 {
	if wire, ok := n.wire[value]; ok {
		return wire
	}
	return int64(value)
}

// fromWire returns the value that a number stands for. A number that is not
// known is its own value, so that it survives, unless the enum has numbers of
// its own on the wire: then it would be taken for another value.
func (n *numbers) fromWire(wire int64) protoreflect.EnumNumber {
	if value, ok := n.values[wire]; ok {
		return value
	}
	if !n.own || wire < math.MinInt32 || wire > math.MaxInt32 {
		return 0
	}
	return protoreflect.EnumNumber(wire)
}

// find returns the field of a name, or nil.
func (p *plan) find(name string) *field {
	for _, f := range p.fields {
		if string(f.Name()) == name {
			return f
		}
	}
	return nil
}

func (f *field) isScalar() bool {
	switch f.Kind() {
	case protoreflect.StringKind, protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.EnumKind:
		return !f.IsList()
	default:
		return false
	}
}

// Package codec writes requests and reads answers as the upstream has them. It
// learns from descriptors and their options how a method stands on the wire, and
// knows no API by name.
package codec

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// The versions of the upstream's paths.
const (
	V2  = "v2"
	V21 = "v2.1" // where an operation has that form; replies say more
)

// Class says what may be repeated when the outcome of a call is not known. Classes
// are in the order of what they permit.
type Class int

// The classes.
const (
	PlainWrite      Class = iota // executed twice, it has two effects
	KeyedWrite                   // the upstream recognises a repetition by its trace id
	IdempotentWrite              // executed twice, it has one effect
	Read
)

// Operation is what the upstream can do for one method, ready to be called.
type Operation struct {
	// Name is the full name of the method, without the slash in front.
	Name string
	// Verb is the HTTP method.
	Verb string
	// HasBody reports whether requests have a body, even if it is empty.
	HasBody bool
	// Class says whether a call may be repeated.
	Class Class
	// Quota names the upstream's API that a call counts for, whatever the version of
	// its path. Methods may share one.
	Quota string
	// QuotaClass is the class of the upstream's rate limit.
	QuotaClass upstreamv1.QuotaClass

	segments  []segment
	inPath    map[protoreflect.FieldNumber]bool
	inQuery   map[protoreflect.FieldNumber]bool
	constants []*upstreamv1.Constant
	in, out   *plan
}

// segment is one segment of a path: a literal, or the value of a field.
type segment struct {
	literal string
	field   *field
}

// Operations returns the operations of all unary methods that have one, by their
// gRPC name with the slash in front. An option that does not fit its messages is an
// error, because it must stop the start and not the first call.
func Operations(services []protoreflect.ServiceDescriptor, version string) (map[string]*Operation, error) {
	table := make(map[string]*Operation)
	types := make(plans)
	var errs []error
	for _, service := range services {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			if method.IsStreamingClient() || method.IsStreamingServer() {
				continue // made of calls of other methods
			}
			o, err := newOperation(method, version, types)
			if err != nil {
				errs = append(errs, fmt.Errorf("operation of %s: %w", method.FullName(), err))
				continue
			}
			table["/"+o.Name] = o
		}
	}
	return table, errors.Join(errs...)
}

func newOperation(method protoreflect.MethodDescriptor, version string, types plans) (*Operation, error) {
	options, _ := proto.GetExtension(method.Options(), upstreamv1.E_Operation).(*upstreamv1.Operation)
	verb, path := call(options)
	if verb == "" {
		return nil, errors.New("the option is missing")
	}
	o := &Operation{
		Name:       fmt.Sprintf("%s/%s", method.Parent().FullName(), method.Name()),
		Verb:       verb,
		HasBody:    options.GetBody() || verb != http.MethodGet && verb != http.MethodDelete,
		Class:      classOf(method),
		Quota:      verb + " " + path,
		QuotaClass: options.GetQuota(),
		inPath:     make(map[protoreflect.FieldNumber]bool),
		inQuery:    make(map[protoreflect.FieldNumber]bool),
		constants:  options.GetConstants(),
	}
	if version == V21 && options.GetV2_1() {
		path = strings.Replace(path, "/im/v2/", "/im/v2.1/", 1)
	}
	var err error
	if o.in, err = types.of(method.Input()); err != nil {
		return nil, err
	}
	if o.out, err = types.of(method.Output()); err != nil {
		return nil, err
	}
	if err := o.parsePath(path); err != nil {
		return nil, err
	}
	for _, c := range o.constants {
		if _, ok := o.in.slots[c.GetName()]; ok {
			return nil, fmt.Errorf("constant %q is a member of %s", c.GetName(), o.in.desc.FullName())
		}
	}
	return o, o.placeQuery(options.GetQuery())
}

func call(options *upstreamv1.Operation) (verb, path string) {
	switch c := options.GetCall().(type) {
	case *upstreamv1.Operation_Get:
		return http.MethodGet, c.Get
	case *upstreamv1.Operation_Post:
		return http.MethodPost, c.Post
	case *upstreamv1.Operation_Put:
		return http.MethodPut, c.Put
	case *upstreamv1.Operation_Patch:
		return http.MethodPatch, c.Patch
	case *upstreamv1.Operation_Delete:
		return http.MethodDelete, c.Delete
	default:
		return "", ""
	}
}

func classOf(method protoreflect.MethodDescriptor) Class {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	switch options.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return Read
	case descriptorpb.MethodOptions_IDEMPOTENT:
		return IdempotentWrite
	default:
		return PlainWrite
	}
}

func (o *Operation) parsePath(path string) error {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return fmt.Errorf("path %q must begin with a slash", path)
	}
	for literal := range strings.SplitSeq(rest, "/") {
		name, isField := parameter(literal)
		if !isField {
			if literal == "" || url.PathEscape(literal) != literal {
				return fmt.Errorf("path %q has a segment that cannot be", path)
			}
			o.segments = append(o.segments, segment{literal: literal})
			continue
		}
		f := o.in.find(name)
		if f == nil || !f.isScalar() {
			return fmt.Errorf("path parameter %s is no string, integer or enum field of %s", literal, o.in.desc.FullName())
		}
		o.inPath[f.Number()] = true
		o.segments = append(o.segments, segment{field: f})
	}
	return nil
}

// parameter returns the name that a segment like "{name}" holds.
func parameter(segment string) (name string, ok bool) {
	name, open := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	return name, open && closed
}

// placeQuery notes what goes into the query, and checks that a query can hold it.
func (o *Operation) placeQuery(names []string) error {
	for _, name := range names {
		f := o.in.find(name)
		if f == nil {
			return fmt.Errorf("query field %q is no field of %s", name, o.in.desc.FullName())
		}
		o.inQuery[f.Number()] = true
	}
	for _, f := range o.in.fields {
		toQuery := o.inQuery[f.Number()] || !o.HasBody && !o.inPath[f.Number()]
		if toQuery && !f.fitsQuery() {
			return fmt.Errorf("a query cannot hold %s", f.FullName())
		}
	}
	return nil
}

// fitsQuery reports whether a query can hold a field: no message, unless its members
// stand for it.
func (f *field) fitsQuery() bool {
	if f.opts.GetRest() || variantsOf(f) != nil {
		return false
	}
	return f.message == nil ||
		f.opts.GetInline() && !slices.ContainsFunc(f.message.fields, func(part *field) bool { return !part.fitsQuery() })
}

// Decode reads the data of an answer into a reply. status makes the error of an
// item of a batch from the upstream's code and text.
func (o *Operation) Decode(data []byte, reply proto.Message, status func(code int64, text string) *statuspb.Status) error {
	d := decoder{status: status}
	return d.decode(o.out, data, reply)
}

// FillClientIDs gives an id to each message of a request that has none. The id of
// a message in a list has its index behind it.
func (o *Operation) FillClientIDs(request proto.Message, id string) {
	m := request.ProtoReflect()
	for _, f := range o.in.fields {
		if f.message == nil || f.message.client == nil || !m.Has(f.FieldDescriptor) {
			continue
		}
		if !f.IsList() {
			f.message.setClientID(m.Mutable(f.FieldDescriptor).Message(), id)
			continue
		}
		list := m.Mutable(f.FieldDescriptor).List()
		for i := range list.Len() {
			f.message.setClientID(list.Get(i).Message(), fmt.Sprintf("%s-%d", id, i))
		}
	}
}

func (p *plan) setClientID(m protoreflect.Message, id string) {
	if !m.Has(p.client.FieldDescriptor) {
		m.Set(p.client.FieldDescriptor, protoreflect.ValueOfString(id))
	}
}

package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// A class says what may be repeated when the outcome of a call is not known.
type class int

const (
	plainWrite      class = iota // not to be repeated: it would be done twice
	keyedWrite                   // the upstream knows it again by its trace id
	idempotentWrite              // done twice is done once
	read
)

// An endpoint is one upstream operation, ready to be called.
type endpoint struct {
	name      string // of the RPC, in full
	method    string
	segments  []segment
	hasBody   bool
	inPath    map[protoreflect.FieldNumber]bool
	inQuery   map[protoreflect.FieldNumber]bool
	constants []*upstreamv1.Constant
	class     class
	quota     *quota // shared by all endpoints of the same upstream operation
	in, out   *plan
}

// A segment is one segment of a path: a literal, or the value of a field.
type segment struct {
	literal string
	field   *field
}

// newEndpoints resolves the endpoints of all methods, by their full gRPC name. An
// endpoint that does not fit its messages stops the start, not the first call.
func newEndpoints(services []protoreflect.ServiceDescriptor, version string, limits Quotas) (map[string]*endpoint, error) {
	table := make(map[string]*endpoint)
	rows := make(map[string]quotaRow)
	types := make(plans)
	var errs []error
	for _, service := range services {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			if method.IsStreamingClient() || method.IsStreamingServer() {
				continue // made of calls of other methods
			}
			e, err := newEndpoint(method, version, types)
			if err != nil {
				errs = append(errs, fmt.Errorf("endpoint of %s: %w", method.FullName(), err))
				continue
			}
			table["/"+e.name], rows["/"+e.name] = e, rowOf(method)
		}
	}
	quotas, err := newQuotas(limits, rows)
	for name, e := range table {
		e.quota = quotas[name]
	}
	return table, errors.Join(append(errs, err)...)
}

// rowOf returns what the upstream counts a method's calls by: its operation,
// whatever its version.
func rowOf(method protoreflect.MethodDescriptor) quotaRow {
	options, _ := proto.GetExtension(method.Options(), upstreamv1.E_Endpoint).(*upstreamv1.Endpoint)
	verb, path := call(options)
	return quotaRow{operation: verb + " " + path, class: options.GetQuota()}
}

func newEndpoint(method protoreflect.MethodDescriptor, version string, types plans) (*endpoint, error) {
	options, _ := proto.GetExtension(method.Options(), upstreamv1.E_Endpoint).(*upstreamv1.Endpoint)
	verb, path := call(options)
	if verb == "" {
		return nil, errors.New("the option is missing")
	}
	if version == V21 && options.GetV2_1() {
		path = strings.Replace(path, "/im/v2/", "/im/v2.1/", 1)
	}
	e := &endpoint{
		name:      fmt.Sprintf("%s/%s", method.Parent().FullName(), method.Name()),
		method:    verb,
		hasBody:   options.GetBody() || verb != http.MethodGet && verb != http.MethodDelete,
		inPath:    make(map[protoreflect.FieldNumber]bool),
		inQuery:   make(map[protoreflect.FieldNumber]bool),
		constants: options.GetConstants(),
		class:     classOf(method),
	}
	var err error
	if e.in, err = types.of(method.Input()); err != nil {
		return nil, err
	}
	if e.out, err = types.of(method.Output()); err != nil {
		return nil, err
	}
	if err := e.parsePath(path); err != nil {
		return nil, err
	}
	for _, c := range e.constants {
		if _, ok := e.in.slots[c.GetName()]; ok {
			return nil, fmt.Errorf("constant %q is a member of %s", c.GetName(), e.in.desc.FullName())
		}
	}
	return e, e.placeQuery(options.GetQuery())
}

func call(options *upstreamv1.Endpoint) (verb, path string) {
	switch c := options.GetCall().(type) {
	case *upstreamv1.Endpoint_Get:
		return http.MethodGet, c.Get
	case *upstreamv1.Endpoint_Post:
		return http.MethodPost, c.Post
	case *upstreamv1.Endpoint_Put:
		return http.MethodPut, c.Put
	case *upstreamv1.Endpoint_Patch:
		return http.MethodPatch, c.Patch
	case *upstreamv1.Endpoint_Delete:
		return http.MethodDelete, c.Delete
	default:
		return "", ""
	}
}

func classOf(method protoreflect.MethodDescriptor) class {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	switch options.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return read
	case descriptorpb.MethodOptions_IDEMPOTENT:
		return idempotentWrite
	default:
		return plainWrite
	}
}

func (e *endpoint) parsePath(path string) error {
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
			e.segments = append(e.segments, segment{literal: literal})
			continue
		}
		f := e.in.find(name)
		if f == nil || !f.isScalar() {
			return fmt.Errorf("path parameter %s is no string, integer or enum field of %s", literal, e.in.desc.FullName())
		}
		e.inPath[f.Number()] = true
		e.segments = append(e.segments, segment{field: f})
	}
	return nil
}

// parameter returns the name that a segment like "{name}" holds.
func parameter(segment string) (name string, ok bool) {
	name, open := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	return name, open && closed
}

// placeQuery notes what goes into the query, and that a query can hold it.
func (e *endpoint) placeQuery(names []string) error {
	for _, name := range names {
		f := e.in.find(name)
		if f == nil {
			return fmt.Errorf("query field %q is no field of %s", name, e.in.desc.FullName())
		}
		e.inQuery[f.Number()] = true
	}
	for _, f := range e.in.fields {
		toQuery := e.inQuery[f.Number()] || !e.hasBody && !e.inPath[f.Number()]
		if toQuery && (f.message != nil || f.opts.GetRest() || variantsOf(f) != nil) {
			return fmt.Errorf("a query cannot hold %s", f.FullName())
		}
	}
	return nil
}

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

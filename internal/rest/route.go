package rest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// route is one REST path of one method.
type route struct {
	method   *callinfo.Method
	verb     string   // of HTTP
	segments []string // of the path; one in braces takes any value
	suffix   string   // after the last segment, such as ":batchGet"
	body     string   // the field that is the body, "*" for all, "" for none
	request  protoreflect.MessageType
}

// routes are keyed as by routeKey.
type routes map[string]*route

func routeKey(verb, pattern string) string { return verb + " " + pattern }

func newRoutes(methods callinfo.Methods) (routes, error) {
	all := routes{}
	for _, method := range methods {
		rule, _ := proto.GetExtension(method.Descriptor.Options(), annotations.E_Http).(*annotations.HttpRule)
		if rule == nil {
			continue
		}
		request, err := protoregistry.GlobalTypes.FindMessageByName(method.Descriptor.Input().FullName())
		if err != nil {
			return nil, err
		}
		for _, binding := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
			verb, template := pathOf(binding)
			r := &route{method: method, verb: verb, body: binding.GetBody(), request: request}
			r.segments, r.suffix = splitTemplate(template)
			// The gateway's patterns spell out what a parameter takes.
			all[routeKey(verb, strings.ReplaceAll(template, "}", "=*}"))] = r
		}
	}
	return all, nil
}

// pathOf returns the verb, which is the name of the field that holds the path.
func pathOf(rule *annotations.HttpRule) (verb, template string) {
	m := rule.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("pattern"))
	return strings.ToUpper(string(field.Name())), m.Get(field).String()
}

func splitTemplate(template string) (segments []string, suffix string) {
	if i := strings.LastIndexByte(template, ':'); i > strings.LastIndexAny(template, "/}") {
		template, suffix = template[:i], template[i:]
	}
	return strings.Split(template, "/"), suffix
}

// methods lists the HTTP methods that a path, encoded as it was sent, takes.
func (r routes) methods(path string) []string {
	found := map[string]bool{}
	for _, route := range r {
		if route.matches(path) {
			found[route.verb] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (r *route) matches(path string) bool {
	path, ok := strings.CutSuffix(path, r.suffix)
	segments := strings.Split(path, "/")
	return ok && slices.EqualFunc(segments, r.segments, func(sent, want string) bool {
		return sent == want || strings.HasPrefix(want, "{")
	})
}

// checkParameters stands between the mux and the generated code. It decodes the
// parameters of the path, once, and tries all parameters on a message of its own: the
// generated code ignores those it does not know, and says only in prose what is wrong
// with the others.
func (d *Door) checkParameters(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, encoded map[string]string) {
		ctx := r.Context()
		c := callOf(ctx)
		path, query, err := parameters(r, encoded)
		if err != nil {
			d.writeError(w, r, err)
			return
		}
		route := c.route
		if route == nil {
			next(w, r, path)
			return
		}
		if route.body == "" && r.ContentLength != 0 {
			d.writeError(w, r, apierror.New(imv1.ErrorReason_ERROR_REASON_MALFORMED_BODY, "a %s of this path takes no body", r.Method))
			return
		}
		if violations := route.check(path, query); len(violations) > 0 {
			d.writeError(w, r, malformed(violations...))
			return
		}
		if route.body == "*" {
			c.path = path
		}
		if route.method.Streams {
			c.allow(d.StreamTime)
		}
		next(w, r, path)
		if route.method.Streams {
			d.endStream(ctx)
		}
	}
}

// parameters returns what the path and the query of a call say.
func parameters(r *http.Request, encoded map[string]string) (path map[string]string, query url.Values, err error) {
	path = make(map[string]string, len(encoded))
	for name, value := range encoded {
		if path[name], err = url.PathUnescape(value); err != nil { // net/http parsed the path, so it cannot be
			return nil, nil, apierror.New(imv1.ErrorReason_ERROR_REASON_MALFORMED_BODY, "%s: %v", name, err)
		}
	}
	if query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, nil, apierror.New(imv1.ErrorReason_ERROR_REASON_MALFORMED_BODY, "the query: %v", err)
	}
	return path, query, nil
}

// check returns what is wrong with the parameters.
func (r *route) check(path map[string]string, query url.Values) []apierror.Violation {
	var violations []apierror.Violation
	probe := r.request.New().Interface()
	refuse := func(field, format string, args ...any) {
		violations = append(violations, apierror.Violation{Field: field, Description: fmt.Sprintf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(path)) {
		value := path[name]
		if !utf8.ValidString(value) {
			refuse(name, "is not UTF-8")
		} else if runtime.PopulateFieldFromPath(probe, name, value) != nil {
			field, _ := r.resolve(name)
			refuse(name, "is not a value of type %s", typeName(field))
		}
	}
	spelt := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		field, known := r.resolve(name)
		switch {
		case field == nil:
			refuse(name, "unknown query parameter")
		case r.body == "*":
			refuse(name, "belongs into the body")
		case path[known] != "":
			refuse(name, "is part of the path")
		case len(values) > 1 && !field.IsList(), spelt[known]:
			refuse(name, "is given more than once")
		case slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }):
			refuse(name, "is not UTF-8")
		case new(runtime.DefaultQueryParser).Parse(probe, url.Values{name: values}, utilities.NewDoubleArray(nil)) != nil:
			refuse(name, "is not a value of type %s", typeName(field))
		}
		spelt[known] = true
	}
	return violations
}

// resolve returns the field that a dotted path names, or nil, and the path in proto names.
func (r *route) resolve(path string) (field protoreflect.FieldDescriptor, known string) {
	message := r.request.Descriptor()
	var names []string
	for name := range strings.SplitSeq(path, ".") {
		if message == nil {
			return nil, ""
		}
		if field = message.Fields().ByName(protoreflect.Name(name)); field == nil {
			field = message.Fields().ByJSONName(name)
		}
		if field == nil {
			return nil, ""
		}
		names = append(names, string(field.Name()))
		if message = field.Message(); field.IsList() {
			message = nil
		}
	}
	return field, strings.Join(names, ".")
}

// contradicted returns the fields of a body that have another value in the path. The generated
// code would take the value of the path without an error.
func contradicted(request proto.Message, path map[string]string) (violations []apierror.Violation) {
	for _, name := range slices.Sorted(maps.Keys(path)) {
		named := request.ProtoReflect().New()
		if sent := valueAt(request.ProtoReflect(), name); sent.IsValid() &&
			(runtime.PopulateFieldFromPath(named.Interface(), name, path[name]) != nil || !valueAt(named, name).Equal(sent)) {
			violations = append(violations, apierror.Violation{Field: name, Description: "has another value in the path"})
		}
	}
	return violations
}

// valueAt returns the value at a path of names. It is not valid if there is none.
func valueAt(m protoreflect.Message, path string) protoreflect.Value {
	name, rest, deeper := strings.Cut(path, ".")
	field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	switch {
	case field == nil || !m.Has(field):
		return protoreflect.Value{}
	case deeper:
		return valueAt(m.Get(field).Message(), rest)
	default:
		return m.Get(field)
	}
}

func typeName(field protoreflect.FieldDescriptor) string {
	switch {
	case field.Message() != nil:
		return string(field.Message().FullName())
	case field.Enum() != nil:
		return string(field.Enum().FullName())
	default:
		return field.Kind().String()
	}
}

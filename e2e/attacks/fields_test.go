package attacks

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// A place is a field of a request that holds an id, or a list of them.
type place struct {
	call rpc
	path []protoreflect.FieldDescriptor
}

// String is the place as messages of tests name it.
func (p place) String() string { return fmt.Sprint(p.call, " ", p.name()) }

// name is the dotted path of the field.
func (p place) name() string {
	names := make([]string, len(p.path))
	for i, fd := range p.path {
		names[i] = string(fd.Name())
	}
	return strings.Join(names, ".")
}

func (p place) field() protoreflect.FieldDescriptor { return p.path[len(p.path)-1] }

func (p place) isText() bool { return p.field().Kind() == protoreflect.StringKind }

// places finds all fields of all requests that hold ids.
func places(tb testing.TB) []place {
	tb.Helper()
	var all []place
	for _, c := range rpcs(tb) {
		all = append(all, within(c, c.method.Input(), nil)...)
	}
	return all
}

func within(c rpc, desc protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor) (all []place) {
	for i := range desc.Fields().Len() {
		fd := desc.Fields().Get(i)
		here := append(slices.Clone(path), fd)
		name := string(fd.Name())
		switch {
		case name == "notification": // is only ever received, and refused as a whole
		case len(path) > 0 && !isSent(path[len(path)-1], name):
		case fd.Message() != nil && fd.Message().ParentFile().Package() == "yunxin.im.v1" && len(path) < 5:
			all = append(all, within(c, fd.Message(), here)...)
		case strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_ids") || name == "id":
			if fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.Int64Kind {
				all = append(all, place{c, here})
			}
		}
	}
	return all
}

// isSent reports whether a message field sends its member of a name.
func isSent(fd protoreflect.FieldDescriptor, name string) bool {
	options, _ := proto.GetExtension(fd.Options(), upstreamv1.E_Field).(*upstreamv1.Field)
	return len(options.GetMembers()) == 0 || slices.ContainsFunc(options.GetMembers(), func(m *upstreamv1.Member) bool {
		return m.GetField() == name
	})
}

// operator is who the call's request says acts, whose conversation it must be.
func (p place) operator() string {
	var members struct {
		OperatorID string `json:"operator_id"`
	}
	if err := decode(p.call.request, &members); err != nil {
		panic(err)
	}
	return cmp.Or(members.OperatorID, "marked")
}

// request is the call's request with a value in the place. Messages around it get
// what they require beside it.
func (p place) request(value any) json.RawMessage {
	var members map[string]any
	if err := decode(p.call.request, &members); err != nil {
		panic(err)
	}
	put(members, p.path, value)
	if p.field().Name() == "operator_id" {
		delete(members, "conversation_id") // which would have to be that operator's
	}
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return text
}

func put(members map[string]any, path []protoreflect.FieldDescriptor, value any) {
	fd := path[0]
	name := string(fd.Name())
	if oneof := fd.ContainingOneof(); oneof != nil {
		for i := range oneof.Fields().Len() {
			if other := oneof.Fields().Get(i); other != fd {
				delete(members, string(other.Name()))
			}
		}
	}
	if len(path) == 1 {
		if fd.IsList() {
			value = []any{value}
		}
		members[name] = value
		return
	}
	inner, ok := members[name].(map[string]any)
	if items, is := members[name].([]any); is {
		inner, ok = items[0].(map[string]any)
	}
	if !ok {
		inner = required(fd.Message())
	}
	put(inner, path[1:], value)
	if members[name] = inner; fd.IsList() {
		members[name] = []any{inner}
	}
}

// required makes a message with all that must be given.
func required(desc protoreflect.MessageDescriptor) map[string]any {
	members := map[string]any{}
	for i := range desc.Fields().Len() {
		fd := desc.Fields().Get(i)
		behaviors, _ := proto.GetExtension(fd.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
		rules, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
		// What a reference must hold is a rule of the field that holds it.
		if desc.FullName() != "yunxin.im.v1.MessageReference" && !slices.Contains(behaviors, annotations.FieldBehavior_REQUIRED) && !rules.GetRequired() {
			continue
		}
		var value any
		switch fd.Kind() {
		case protoreflect.StringKind:
			value = "some"
		case protoreflect.Int64Kind, protoreflect.Int32Kind, protoreflect.EnumKind:
			value = 1
		case protoreflect.MessageKind:
			if fd.Message().FullName() == "google.protobuf.Timestamp" {
				value = "2024-02-04T03:30:23.142Z"
			} else {
				value = required(fd.Message())
			}
		default:
			value = true
		}
		if fd.IsList() {
			value = []any{value}
		}
		members[string(fd.Name())] = value
	}
	return members
}

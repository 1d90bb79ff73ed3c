// Package schematest makes protos from text, for tests of code that knows no API.
package schematest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // may be named in schemas
	_ "google.golang.org/genproto/googleapis/rpc/status"
	_ "google.golang.org/protobuf/types/known/timestamppb"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// Schema is a proto file made at run time. It is written one line per
// declaration, with the options of this repository in braces:
//
//	enum Color
//		COLOR_NONE = 0
//		RED = 1 {[yunxin.upstream.v1.number]: 7}
//	message Item
//		string id
//		optional int64 size {name: "sz"}
//		oneof kind {tag: "type" value: "value"}
//			string text {variant: 0}
//	service Items
//		rpc GetItem(Item) Item read {get: "/im/v2/items/{id}"}
//
// Numbers are given in the order of the fields.
type Schema struct {
	protoreflect.FileDescriptor
}

var (
	enumValue = regexp.MustCompile(`^(\w+) = (\d+)(?: \{(.*)\})?$`)
	oneofDecl = regexp.MustCompile(`^oneof (\w+)(?: \{(.*)\})?$`)
	fieldDecl = regexp.MustCompile(`^(?:(optional|repeated) )?([\w.]+) (\w+)(?: \{(.*)\})?$`)
	rpcDecl   = regexp.MustCompile(`^rpc (\w+)\((\w+)\) (\w+)(?: (read|idempotent))?(?: \{(.*)\})?$`)
)

// New reads a schema.
func New(t testing.TB, text string) Schema {
	t.Helper()
	p := schemaParser{TB: t, file: &descriptorpb.FileDescriptorProto{
		Name: new("test.proto"), Package: new("test"), Syntax: new("proto3"),
		Dependency: []string{"google/protobuf/timestamp.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"},
	}}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			p.line(strings.TrimSpace(line), strings.HasPrefix(line, "\t\t"))
		}
	}
	for _, m := range p.file.GetMessageType() {
		presence(m)
	}
	file, err := protodesc.NewFile(p.file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatalf("schema: %v", err)
	}
	return Schema{file}
}

type schemaParser struct {
	testing.TB
	file *descriptorpb.FileDescriptorProto
	add  func(line string, inOneof bool) // reads a line of the open declaration
}

func (p *schemaParser) line(line string, inOneof bool) {
	keyword, name, _ := strings.Cut(line, " ")
	switch keyword {
	case "enum":
		e := &descriptorpb.EnumDescriptorProto{Name: &name}
		p.file.EnumType = append(p.file.EnumType, e)
		p.add = func(line string, _ bool) { p.value(e, line) }
	case "message":
		m := &descriptorpb.DescriptorProto{Name: &name}
		p.file.MessageType = append(p.file.MessageType, m)
		p.add = func(line string, inOneof bool) { p.field(m, line, inOneof) }
	case "service":
		s := &descriptorpb.ServiceDescriptorProto{Name: &name}
		p.file.Service = append(p.file.Service, s)
		p.add = func(line string, _ bool) { p.method(s, line) }
	default:
		p.add(line, inOneof)
	}
}

func (p *schemaParser) value(e *descriptorpb.EnumDescriptorProto, line string) {
	part := p.match(enumValue, line)
	v := &descriptorpb.EnumValueDescriptorProto{Name: &part[1], Options: &descriptorpb.EnumValueOptions{}}
	p.options(part[3], v.GetOptions())
	number := int32(0)
	p.scan(part[2], &number)
	v.Number = &number
	e.Value = append(e.Value, v)
}

func (p *schemaParser) field(m *descriptorpb.DescriptorProto, line string, inOneof bool) {
	if part := oneofDecl.FindStringSubmatch(line); part != nil {
		options := &descriptorpb.OneofOptions{}
		if part[2] != "" {
			variants := &upstreamv1.Variants{}
			p.options(part[2], variants)
			proto.SetExtension(options, upstreamv1.E_Variants, variants)
		}
		m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: &part[1], Options: options})
		return
	}
	part := p.match(fieldDecl, line)
	f := &descriptorpb.FieldDescriptorProto{
		Name: &part[3], Number: new(int32(len(m.GetField()) + 1)), //nolint:gosec // few
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	switch part[1] {
	case "optional":
		f.Proto3Optional = new(true)
	case "repeated":
		f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	}
	kind := descriptorpb.FieldDescriptorProto_Type(descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(part[2])])
	switch {
	case kind != 0 && part[2] == strings.ToLower(part[2]):
		f.Type = &kind
	case strings.Contains(part[2], "."):
		f.TypeName = new("." + part[2])
	default:
		f.TypeName = new(".test." + part[2])
	}
	if inOneof {
		f.OneofIndex = new(int32(len(m.GetOneofDecl()) - 1)) //nolint:gosec // few
	}
	if part[4] != "" {
		options := &upstreamv1.Field{}
		p.options(part[4], options)
		f.Options = &descriptorpb.FieldOptions{}
		proto.SetExtension(f.GetOptions(), upstreamv1.E_Field, options)
	}
	m.Field = append(m.Field, f)
}

func (p *schemaParser) method(s *descriptorpb.ServiceDescriptorProto, line string) {
	part := p.match(rpcDecl, line)
	options := &descriptorpb.MethodOptions{}
	switch part[4] {
	case "read":
		options.IdempotencyLevel = descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()
	case "idempotent":
		options.IdempotencyLevel = descriptorpb.MethodOptions_IDEMPOTENT.Enum()
	}
	if part[5] != "" {
		operation := &upstreamv1.Operation{}
		p.options(part[5], operation)
		proto.SetExtension(options, upstreamv1.E_Operation, operation)
	}
	s.Method = append(s.Method, &descriptorpb.MethodDescriptorProto{
		Name: &part[1], InputType: new(".test." + part[2]), OutputType: new(".test." + part[3]),
		Options: options,
	})
}

func (p *schemaParser) match(form *regexp.Regexp, line string) []string {
	part := form.FindStringSubmatch(line)
	if part == nil {
		p.Fatalf("schema: cannot read %q", line)
	}
	return part
}

func (p *schemaParser) options(text string, m proto.Message) {
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		p.Fatalf("schema: options %q: %v", text, err)
	}
}

func (p *schemaParser) scan(text string, to any) {
	if _, err := fmt.Sscan(text, to); err != nil {
		p.Fatalf("schema: %q: %v", text, err)
	}
}

// presence gives every optional field the oneof that stands for its presence;
// such oneofs must come last.
func presence(m *descriptorpb.DescriptorProto) {
	for _, f := range m.GetField() {
		if f.GetProto3Optional() {
			f.OneofIndex = new(int32(len(m.GetOneofDecl()))) //nolint:gosec // few
			m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: new("_" + f.GetName())})
		}
	}
}

// ServiceDescriptors returns all services of the schema.
func (s Schema) ServiceDescriptors() []protoreflect.ServiceDescriptor {
	all := make([]protoreflect.ServiceDescriptor, s.Services().Len())
	for i := range all {
		all[i] = s.Services().Get(i)
	}
	return all
}

// Empty returns an empty message of a type.
func (s Schema) Empty(name string) *dynamicpb.Message {
	return dynamicpb.NewMessage(s.Messages().ByName(protoreflect.Name(name)))
}

// Message returns a message given as ProtoJSON.
func (s Schema) Message(t testing.TB, name, json string) *dynamicpb.Message {
	t.Helper()
	m := s.Empty(name)
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		t.Fatalf("%s %s: %v", name, json, err)
	}
	concrete(m.ProtoReflect())
	return m
}

// concrete gives the well-known types inside a message the Go types that
// generated code has.
func concrete(m protoreflect.Message) {
	known := func(v protoreflect.Value) protoreflect.Value {
		concrete(v.Message())
		message, err := protoregistry.GlobalTypes.FindMessageByName(v.Message().Descriptor().FullName())
		if err != nil {
			return v
		}
		typed := message.New()
		proto.Merge(typed.Interface(), v.Message().Interface())
		return protoreflect.ValueOfMessage(typed)
	}
	set := make(map[protoreflect.FieldDescriptor]protoreflect.Value)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				v.List().Set(i, known(v.List().Get(i)))
			}
		default:
			set[fd] = known(v)
		}
		return true
	})
	for fd, v := range set {
		m.Set(fd, v)
	}
}

// Set sets a scalar field by its name.
func Set(m protoreflect.Message, name string, value any) {
	m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(value))
}

// Must returns the value of a call that does not fail.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// OneMethod is the text of a schema with one method and the fields of its request.
func OneMethod(fields, operation string) string {
	return "message Sub\n\tstring name\nmessage In\n\t" + fields + "\nmessage Out\n\tstring id\nservice S\n\trpc A(In) Out {" + operation + "}"
}

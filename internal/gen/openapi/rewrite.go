package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv3/options"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/pluginpb"
)

// Field numbers of descriptor.proto: the steps of a path in source code info.
const (
	messagesOfFile    = 4
	enumsOfFile       = 5
	servicesOfFile    = 6
	messagesOfMessage = 3
	enumsOfMessage    = 4
	valuesOfEnum      = 2
	methodsOfService  = 2
)

// rewrite moves all services into one file and asks for that file only.
func rewrite(req *pluginpb.CodeGeneratorRequest) {
	addStatus(req)
	fileOptions := &descriptorpb.FileOptions{GoPackage: new("gen/openapi")} // Demanded, never used.
	proto.SetExtension(fileOptions, options.E_Openapiv3Document, head)
	merged := &descriptorpb.FileDescriptorProto{
		Name:           new(name + ".proto"),
		Syntax:         new("proto3"),
		Options:        fileOptions,
		SourceCodeInfo: new(descriptorpb.SourceCodeInfo),
	}
	for _, file := range req.GetProtoFile() {
		useProtoNames(file.GetMessageType())
		describeEnumValues(file)
		merged.Dependency = append(merged.Dependency, file.GetName())
		if slices.Contains(req.GetFileToGenerate(), file.GetName()) {
			moveServices(merged, file)
		}
	}
	describeStreams(merged)
	splitMethodComments(merged)
	req.ProtoFile = append(req.ProtoFile, merged)
	req.FileToGenerate = []string{merged.GetName()}
}

// addStatus makes google.rpc.Status known even if no API message has one: the
// lines of a stream do.
func addStatus(req *pluginpb.CodeGeneratorRequest) {
	for _, file := range []protoreflect.FileDescriptor{
		anypb.File_google_protobuf_any_proto,
		status.File_google_rpc_status_proto,
	} {
		if !slices.ContainsFunc(req.GetProtoFile(), func(f *descriptorpb.FileDescriptorProto) bool {
			return f.GetName() == file.Path()
		}) {
			req.ProtoFile = append(req.ProtoFile, protodesc.ToFileDescriptorProto(file))
		}
	}
}

// useProtoNames lets the document name fields as the server writes them.
func useProtoNames(messages []*descriptorpb.DescriptorProto) {
	for _, message := range messages {
		for _, field := range message.GetField() {
			field.JsonName = field.Name
		}
		useProtoNames(message.GetNestedType())
	}
}

// moveServices takes the services of a file and the comments on them.
func moveServices(to, from *descriptorpb.FileDescriptorProto) {
	if len(from.GetService()) == 0 {
		return
	}
	to.Package = from.Package
	for _, location := range from.GetSourceCodeInfo().GetLocation() {
		if path := location.GetPath(); len(path) > 1 && path[0] == servicesOfFile {
			path[1] += int32(len(to.GetService()))
			to.SourceCodeInfo.Location = append(to.SourceCodeInfo.Location, location)
		}
	}
	to.Service = append(to.Service, from.GetService()...)
	from.Service = nil
}

// describeStreams replaces the reply of a server stream by what the gateway
// writes on each line.
func describeStreams(file *descriptorpb.FileDescriptorProto) {
	for _, service := range file.GetService() {
		for _, method := range service.GetMethod() {
			if !method.GetServerStreaming() {
				continue
			}
			line := &descriptorpb.DescriptorProto{
				Name: new(method.GetName() + "Line"),
				Field: []*descriptorpb.FieldDescriptorProto{
					messageField("result", 1, method.GetOutputType()),
					messageField("error", 2, ".google.rpc.Status"),
					messageField("status", 3, ".google.rpc.Status"),
				},
				OneofDecl: []*descriptorpb.OneofDescriptorProto{{Name: new("line")}},
			}
			file.SourceCodeInfo.Location = append(file.SourceCodeInfo.Location, &descriptorpb.SourceCodeInfo_Location{
				Path: []int32{messagesOfFile, int32(len(file.GetMessageType()))},
				Span: []int32{0, 0, 0},
				LeadingComments: new("One line of a response that is a stream: a result or, " +
					"on the last line, the error of a stream that failed, the status with code 0 of one that is complete. " +
					"A response that ends without such a line was cut off."),
			})
			file.MessageType = append(file.MessageType, line)
			method.OutputType = new("." + file.GetPackage() + "." + line.GetName())
		}
	}
}

func messageField(name string, number int32, typeName string) *descriptorpb.FieldDescriptorProto {
	return &descriptorpb.FieldDescriptorProto{
		Name:       new(name),
		JsonName:   new(name),
		Number:     new(number),
		Label:      descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		Type:       descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
		TypeName:   new(typeName),
		OneofIndex: new(int32(0)),
	}
}

// sentenceEnd is a full stop with a new sentence behind it.
var sentenceEnd = regexp.MustCompile(`\.\s+[A-Z]`)

// splitMethodComments makes a paragraph of the first sentence on each method:
// the first paragraph becomes the operation's summary, which is one line.
func splitMethodComments(file *descriptorpb.FileDescriptorProto) {
	for _, location := range file.GetSourceCodeInfo().GetLocation() {
		if path := location.GetPath(); len(path) != 4 || path[0] != servicesOfFile || path[2] != methodsOfService {
			continue
		}
		summary, rest, _ := strings.Cut(location.GetLeadingComments(), "\n\n")
		if at := sentenceEnd.FindStringIndex(summary); at != nil {
			summary, rest = summary[:at[0]+1], summary[at[1]-1:]+"\n\n"+rest
		}
		location.LeadingComments = new(oneLine(summary) + "\n\n" + rest)
	}
}

// describeEnumValues adds the comments on an enum's values to the enum's own.
func describeEnumValues(file *descriptorpb.FileDescriptorProto) {
	locations := make(map[string]*descriptorpb.SourceCodeInfo_Location)
	for _, location := range file.GetSourceCodeInfo().GetLocation() {
		locations[fmt.Sprint(location.GetPath())] = location
	}
	describe := func(path []int32, enum *descriptorpb.EnumDescriptorProto) {
		location := locations[fmt.Sprint(path)]
		if location == nil {
			return
		}
		var text strings.Builder
		text.WriteString(location.GetLeadingComments())
		for i, value := range enum.GetValue() {
			comment := locations[fmt.Sprint(below(path, valuesOfEnum, i))].GetLeadingComments()
			fmt.Fprintf(&text, "\n- `%s`: %s", value.GetName(), oneLine(comment))
		}
		location.LeadingComments = new(text.String())
	}
	var walk func(path []int32, message *descriptorpb.DescriptorProto)
	walk = func(path []int32, message *descriptorpb.DescriptorProto) {
		for i, enum := range message.GetEnumType() {
			describe(below(path, enumsOfMessage, i), enum)
		}
		for i, nested := range message.GetNestedType() {
			walk(below(path, messagesOfMessage, i), nested)
		}
	}
	for i, enum := range file.GetEnumType() {
		describe(below(nil, enumsOfFile, i), enum)
	}
	for i, message := range file.GetMessageType() {
		walk(below(nil, messagesOfFile, i), message)
	}
}

// below is the path of the i-th element of a list in what stands at path.
func below(path []int32, list int32, i int) []int32 {
	return append(slices.Clone(path), list, int32(i))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

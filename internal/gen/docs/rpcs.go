package main

import (
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	policyv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/policy/v1"
	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

const rpcsIntro = `# RPCs

What is served, and which operation of the upstream is behind it. An operation
marked v2.1 is called below ` + "`/im/v2.1/`" + ` with ` + "`--api-version v2.1`" + `. A read and an
idempotent write may be repeated after any transient error, a write only if it is
certain that it was not executed. A caller needs the scope, and one that is bound to
certain accounts may only act for those, as the field beside the scope names them.
`

func rpcsPage(files *protoregistry.Files) (string, error) {
	var page strings.Builder
	page.WriteString(rpcsIntro)
	for _, served := range services(files) {
		page.WriteString("\n## " + string(served.Name()) + "\n\n" + comment(served) + "\n\n")
		rows := newTable("RPC", "REST", "Upstream", "Kind", "Scope")
		for i := range served.Methods().Len() {
			method := served.Methods().Get(i)
			rows.row(code(string(method.Name())), restCell(method), upstreamCell(method), kindCell(method), scopeCell(method))
		}
		page.WriteString(rows.String())
	}
	return page.String(), nil
}

// services returns all services of the API, by name.
func services(files *protoregistry.Files) []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	files.RangeFilesByPackage("yunxin.im.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			all = append(all, f.Services().Get(i))
		}
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.ServiceDescriptor) int {
		return strings.Compare(string(a.Name()), string(b.Name()))
	})
	return all
}

func restCell(method protoreflect.MethodDescriptor) string {
	rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	bindings := append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...)
	cells := make([]string, 0, len(bindings))
	for _, binding := range bindings {
		cells = append(cells, operation(binding))
	}
	return strings.Join(cells, ", ")
}

func upstreamCell(method protoreflect.MethodDescriptor) string {
	endpoint, _ := proto.GetExtension(method.Options(), upstreamv1.E_Operation).(*upstreamv1.Operation)
	if endpoint.GetV2_1() {
		return operation(endpoint) + " v2.1"
	}
	return operation(endpoint)
}

// operation reads a oneof of fields that are named like the HTTP methods whose
// paths they hold.
func operation(option proto.Message) string {
	message := option.ProtoReflect()
	for i := range message.Descriptor().Fields().Len() {
		field := message.Descriptor().Fields().Get(i)
		verb := strings.ToUpper(string(field.Name()))
		if slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, verb) && message.Has(field) {
			return code(verb + " " + message.Get(field).String())
		}
	}
	return ""
}

func scopeCell(method protoreflect.MethodDescriptor) string {
	policy, _ := proto.GetExtension(method.Options(), policyv1.E_Policy).(*policyv1.Policy)
	if policy.GetAccount() == "" {
		return code(policy.GetScope())
	}
	return code(policy.GetScope()) + ", " + code(policy.GetAccount())
}

func kindCell(method protoreflect.MethodDescriptor) string {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	kind := "write"
	switch options.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		kind = "read"
	case descriptorpb.MethodOptions_IDEMPOTENT:
		kind = "idempotent write"
	case descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN:
	}
	switch {
	case method.IsStreamingClient() && method.IsStreamingServer():
		return kind + ", stream both ways"
	case method.IsStreamingClient():
		return kind + ", stream of requests"
	case method.IsStreamingServer():
		return kind + ", stream of replies"
	default:
		return kind
	}
}

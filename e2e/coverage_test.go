package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	policyv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/policy/v1"
	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/service"
)

// actsForNobody are the RPCs whose requests name no account.
var actsForNobody = []string{"MessageService/BatchGetQuickComments"}

// TestEveryRPC fails for an RPC that lacks something every RPC has: a case, a
// wire vector, a route in the sandbox, and options that say how it may be
// repeated and who may call it.
func TestEveryRPC(t *testing.T) {
	t.Parallel()
	protoregistry.GlobalFiles.RangeFilesByPackage("yunxin.im.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			if s := f.Services().Get(i); !slices.Contains(service.Descriptors(), s) {
				t.Errorf("%s is not in service.Descriptors", s.FullName())
			}
		}
		return true
	})
	names := allMethods()
	cases, vectors, routes := replyingCases(t), vectorRPCs(t), sandboxRoutes(t)
	for _, name := range names {
		m, err := method(name)
		if err != nil {
			t.Fatal(err)
		}
		if !cases[name] {
			t.Errorf("%s has no case with a reply: add one in e2e/cases", name)
		}
		options, _ := m.Options().(*descriptorpb.MethodOptions)
		if options == nil || options.IdempotencyLevel == nil {
			t.Errorf("%s does not say its idempotency_level", name)
		}
		checkPolicy(t, m)
		if m.IsStreamingServer() {
			if proto.HasExtension(options, upstreamv1.E_Operation) {
				t.Errorf("%s is a stream, which has no endpoint of its own", name)
			}
			continue
		}
		if !vectors[name] {
			t.Errorf("%s has no wire vector: add one in e2e/testdata/wire", name)
		}
		for _, route := range upstreamRoutes(m) {
			if !slices.Contains(routes, route) {
				t.Errorf("%s calls %s, which the sandbox does not have", name, route)
			}
		}
	}
}

// replyingCases tells which RPCs have a case that shows a reply.
func replyingCases(tb testing.TB) map[string]bool {
	tb.Helper()
	found := map[string]bool{}
	for _, cases := range loadCases(tb) {
		for _, c := range cases {
			for _, s := range c.Steps {
				found[s.Call] = found[s.Call] || !s.Reply.IsZero() || len(s.Replies.Content) > 0
			}
		}
	}
	return found
}

func vectorRPCs(tb testing.TB) map[string]bool {
	tb.Helper()
	found := map[string]bool{}
	for _, v := range loadVectors(tb) {
		found[v.RPC] = true
	}
	return found
}

// sandboxRoutes are the sandbox's routes, whatever their parameters are called.
func sandboxRoutes(tb testing.TB) []string {
	tb.Helper()
	s, err := sandbox.New(sandbox.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	routes := s.Routes()
	for i, route := range routes {
		routes[i] = anyParameter.ReplaceAllString(route, "{}")
	}
	return routes
}

var anyParameter = regexp.MustCompile(`\{[^}]*\}`)

// upstreamRoutes are the routes that an RPC may call, in the form of
// sandboxRoutes: one, or two if there is another in version 2.1. The route of an
// RPC without an endpoint is empty.
func upstreamRoutes(m protoreflect.MethodDescriptor) []string {
	endpoint, _ := proto.GetExtension(m.Options(), upstreamv1.E_Operation).(*upstreamv1.Operation)
	route := ""
	endpoint.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.ContainingOneof() != nil {
			route = strings.ToUpper(string(fd.Name())) + " " + anyParameter.ReplaceAllString(v.String(), "{}")
		}
		return true
	})
	routes := []string{route}
	if endpoint.GetV2_1() {
		routes = append(routes, strings.Replace(route, " /im/v2/", " /im/v2.1/", 1))
	}
	return routes
}

// checkPolicy checks that an RPC says which scope it needs, and which field of
// its request names the account.
func checkPolicy(t *testing.T, m protoreflect.MethodDescriptor) {
	t.Helper()
	name := shortName(m)
	policy, _ := proto.GetExtension(m.Options(), policyv1.E_Policy).(*policyv1.Policy)
	if policy.GetScope() == "" {
		t.Errorf("%s has no policy, or none with a scope", name)
	}
	account := policy.GetAccount()
	if slices.Contains(actsForNobody, name) != (account == "") {
		t.Errorf("%s acts for the account %q", name, account)
	}
	if account == "" {
		return
	}
	steps := strings.Split(account, ".")
	message := m.Input()
	for i, step := range steps {
		fd := message.Fields().ByName(protoreflect.Name(step))
		last := i == len(steps)-1
		switch {
		case fd == nil:
			t.Errorf("%s: the request has no field %s", name, account)
			return
		case last && fd.Kind() != protoreflect.StringKind:
			t.Errorf("%s: %s is no text, nor a list of texts", name, account)
		case !last && (fd.Message() == nil || fd.IsList() || fd.IsMap()):
			t.Errorf("%s: %s in %s is no message", name, step, account)
			return
		}
		message = fd.Message()
	}
}

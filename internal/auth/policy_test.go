package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	policyv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/policy/v1"
	"github.com/yunxin-facade/yunxin-facade/service"
)

// policies are those of methods, by name.
type policies map[string]*Policy

func newPolicies(t testing.TB, services ...protoreflect.ServiceDescriptor) policies {
	t.Helper()
	all := policies{}
	for _, s := range services {
		for i := range s.Methods().Len() {
			p, err := NewPolicy(s.Methods().Get(i))
			if err != nil {
				t.Fatal(err)
			}
			all[p.name] = p
		}
	}
	return all
}

func apiPolicy(t testing.TB) policies {
	t.Helper()
	return newPolicies(t, service.Descriptors()...)
}

// scopes are all that the methods demand.
func (all policies) scopes() []string {
	var scopes []string
	for _, p := range all {
		scopes = append(scopes, p.Scope())
	}
	return scopes
}

// begin begins a call of a method.
func (all policies) begin(caller *Caller, name string) (*Call, error) {
	return all[name].Begin(caller)
}

// callerOf makes a caller with all scopes that the policy knows, or some; without
// accounts it is bound to none.
func callerOf(t testing.TB, p policies, scopes, bound []string) *Caller {
	t.Helper()
	c := &Caller{name: "billing", scopes: map[string]bool{}, apps: []string{"main"}}
	if scopes == nil {
		scopes = p.scopes()
	}
	for _, scope := range scopes {
		c.scopes[scope] = true
	}
	if bound != nil {
		c.bound = newAccounts(t, bound...)
	}
	return c
}

// Every method takes its own scope and no other one will do.
func TestEveryMethodTakesItsScope(t *testing.T) {
	p := apiPolicy(t)
	methods := 0
	for _, s := range service.Descriptors() {
		for i := range s.Methods().Len() {
			md := s.Methods().Get(i)
			option, _ := proto.GetExtension(md.Options(), policyv1.E_Policy).(*policyv1.Policy)
			name := fmt.Sprintf("/%s/%s", s.FullName(), md.Name())
			others := slices.DeleteFunc(p.scopes(), func(scope string) bool { return scope == option.GetScope() })
			if _, err := p.begin(callerOf(t, p, []string{option.GetScope()}, nil), name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			_, err := p.begin(callerOf(t, p, others, nil), name)
			if denied, ok := errors.AsType[*DeniedError](err); !ok || denied.Scope != option.GetScope() || denied.Method != name || denied.Caller != "billing" {
				t.Errorf("%s: %v", name, err)
			}
			// Nothing of a request that says nothing is anybody's.
			request := dynamicpb.NewMessageType(md.Input()).New().Interface()
			if err := p.allow(callerOf(t, p, nil, []string{"*"}), name, request); err == nil {
				t.Errorf("%s: an empty request passes", name)
			}
			if err := p.allow(callerOf(t, p, nil, nil), name, request); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			methods++
		}
	}
	if methods < 40 {
		t.Errorf("%d methods", methods)
	}
}

const (
	getConversation  = "/yunxin.im.v1.ConversationService/GetConversation"
	batchGet         = "/yunxin.im.v1.ConversationService/BatchGetConversations"
	searchMessages   = "/yunxin.im.v1.MessageService/SearchMessages"
	batchGetComments = "/yunxin.im.v1.MessageService/BatchGetQuickComments"
	sendStream       = "/yunxin.im.v1.MessageService/SendStreamMessage"
	streamPages      = "/yunxin.im.v1.MessageService/StreamMessages"
)

func TestAllow(t *testing.T) {
	p := apiPolicy(t)
	none := []string{}
	conversation := func(id string) proto.Message { return &imv1.GetConversationRequest{ConversationId: id} }
	batch := func(ids ...string) proto.Message { return &imv1.BatchGetConversationsRequest{ConversationIds: ids} }
	search := func(id string) proto.Message { return &imv1.SearchMessagesRequest{OperatorId: id} }
	bound := "the caller billing may act for certain accounts only, "
	for name, c := range map[string]struct {
		accounts []string
		method   string
		request  proto.Message
		want     string // empty if it may
	}{
		"unbound":              {nil, getConversation, conversation("x|1|y"), ""},
		"unbound, no account":  {nil, batchGetComments, &imv1.BatchGetQuickCommentsRequest{}, ""},
		"owner":                {[]string{"bob"}, getConversation, conversation("bob|1|eve"), ""},
		"owner in capitals":    {[]string{"bob"}, getConversation, conversation("BOB|2|77"), ""},
		"pattern in capitals":  {[]string{"SVC-*"}, getConversation, conversation("svc-1|1|eve"), ""},
		"peer only":            {[]string{"bob"}, getConversation, conversation("eve|1|bob"), "the caller billing may not act for the account in conversation_id"},
		"no accounts at all":   {none, getConversation, conversation("bob|1|eve"), "the caller billing may not act for the account in conversation_id"},
		"empty id":             {[]string{"*"}, getConversation, conversation(""), bound + "and conversation_id does not name one"},
		"empty owner":          {[]string{"*"}, getConversation, conversation("|1|bob"), bound + "and conversation_id does not name one"},
		"pattern over the bar": {[]string{"bob*eve"}, getConversation, conversation("bob|1|eve"), "the caller billing may not act for the account in conversation_id"},
		"space before":         {[]string{"bob"}, getConversation, conversation(" bob|1|eve"), "the caller billing may not act for the account in conversation_id"},
		"long owner":           {[]string{"*"}, getConversation, conversation(strings.Repeat("a", 1<<20)), "the caller billing may not act for the account in conversation_id"},
		"all of many":          {[]string{"a", "b*"}, batchGet, batch("a|1|x", "b1|1|x", "A|1|y"), ""},
		"one of many":          {[]string{"a"}, batchGet, batch("a|1|x", "a|1|y", "b|1|a"), "the caller billing may not act for the account in conversation_ids"},
		"first of many":        {[]string{"a"}, batchGet, batch("b|1|x", "a|1|y"), "the caller billing may not act for the account in conversation_ids"},
		"an empty one":         {[]string{"*"}, batchGet, batch("a|1|x", ""), bound + "and conversation_ids does not name one"},
		"none of many":         {[]string{"*"}, batchGet, batch(), bound + "and conversation_ids does not name one"},
		"account":              {[]string{"bob"}, searchMessages, search("Bob"), ""},
		"other account":        {[]string{"bob"}, searchMessages, search("bobby"), "the caller billing may not act for the account in operator_id"},
		"no account":           {[]string{"*"}, searchMessages, search(""), bound + "and operator_id does not name one"},
		"nobody's method":      {[]string{"*"}, batchGetComments, &imv1.BatchGetQuickCommentsRequest{}, bound + "and this method acts for none"},
		"another message":      {[]string{"*"}, getConversation, search("bob"), "the caller billing sent a message of another type: conversation_id is not there"},
		"pages":                {[]string{"bob"}, streamPages, &imv1.ListMessagesRequest{ConversationId: "bob|1|x"}, ""},
		"other pages":          {[]string{"bob"}, streamPages, &imv1.ListMessagesRequest{ConversationId: "x|1|bob"}, "the caller billing may not act for the account in conversation_id"},
	} {
		err := p.allow(callerOf(t, p, nil, c.accounts), c.method, c.request)
		if got := text(err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if denied, ok := errors.AsType[*DeniedError](err); err != nil && (!ok || denied.Method != c.method || denied.Caller != "billing" || denied.Scope != "") {
			t.Errorf("%s: %#v", name, err)
		} else if ok && denied.Field != "" && !strings.Contains(c.want, denied.Field) {
			t.Errorf("%s: field %s", name, denied.Field)
		}
	}
	if err := p.allow(nil, getConversation, conversation("a|1|b")); text(err) != "this method takes a caller that is known" {
		t.Error(err)
	}
	if err := p.allow(&Caller{name: "x"}, getConversation, conversation("a|1|b")); text(err) != "the caller x does not have the scope conversations.read" {
		t.Error(err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAllowInStreams(t *testing.T) {
	p := apiPolicy(t)
	start := func(id string) *imv1.SendStreamMessageRequest {
		return &imv1.SendStreamMessageRequest{Start: &imv1.StreamMessageStart{ConversationId: id}, Text: "x"}
	}
	piece := &imv1.SendStreamMessageRequest{Text: "x"}
	for name, c := range map[string]struct {
		accounts []string
		messages []*imv1.SendStreamMessageRequest
		pass     int // how many do, before one is refused
	}{
		"unbound":            {nil, []*imv1.SendStreamMessageRequest{piece, start("a|1|b"), piece}, 3},
		"good":               {[]string{"bob"}, []*imv1.SendStreamMessageRequest{start("bob|1|x"), piece, piece}, 3},
		"no start":           {[]string{"bob"}, []*imv1.SendStreamMessageRequest{piece, start("bob|1|x")}, 0},
		"empty start":        {[]string{"*"}, []*imv1.SendStreamMessageRequest{{Start: &imv1.StreamMessageStart{}}}, 0},
		"other start":        {[]string{"bob"}, []*imv1.SendStreamMessageRequest{start("x|1|bob"), piece}, 0},
		"second other start": {[]string{"bob"}, []*imv1.SendStreamMessageRequest{start("bob|1|x"), piece, start("x|1|bob")}, 2},
		"second empty start": {[]string{"bob"}, []*imv1.SendStreamMessageRequest{start("bob|1|x"), {Start: &imv1.StreamMessageStart{}}}, 1},
	} {
		call, err := p.begin(callerOf(t, p, nil, c.accounts), sendStream)
		if err != nil {
			t.Fatal(err)
		}
		pass := 0
		for _, m := range c.messages {
			if err = call.Allow(m); err != nil {
				break
			}
			pass++
		}
		if pass != c.pass || (err == nil) != (pass == len(c.messages)) {
			t.Errorf("%s: %d pass, then %v", name, pass, err)
		}
	}
	// After a refusal, the call is as far as it was.
	call, err := p.begin(callerOf(t, p, nil, []string{"bob"}), sendStream)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if call.Allow(start("x|1|bob")) == nil || call.Allow(piece) == nil {
			t.Error("a message passes before a start that may")
		}
	}
	// Calls are apart.
	if err := p.allow(callerOf(t, p, nil, []string{"bob"}), sendStream, piece); err == nil {
		t.Error("a message passes alone")
	}
}

// A testAPI is a service whose only method has this policy, and this request.
func testAPI(t *testing.T, policy *policyv1.Policy, streams bool) protoreflect.ServiceDescriptor {
	t.Helper()
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, list bool, message string) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: &number, Type: kind.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if list {
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		if message != "" {
			f.TypeName = new(".t." + message)
		}
		return f
	}
	const text, number, bytes, message = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_INT64,
		descriptorpb.FieldDescriptorProto_TYPE_BYTES, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	options := &descriptorpb.MethodOptions{}
	if policy != nil {
		proto.SetExtension(options, policyv1.E_Policy, policy)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("t.proto"), Package: new("t"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: new("Item"), Field: []*descriptorpb.FieldDescriptorProto{
				field("account_id", 1, text, false, ""), field("ids", 2, text, true, ""), field("item", 3, message, false, "Item"),
			}},
			{
				Name: new("Request"),
				Field: []*descriptorpb.FieldDescriptorProto{
					field("account_id", 1, text, false, ""), field("item", 2, message, false, "Item"), field("items", 3, message, true, "Item"),
					field("number", 4, number, false, ""), field("bytes", 5, bytes, false, ""), field("map", 6, message, true, "Request.MapEntry"),
				},
				NestedType: []*descriptorpb.DescriptorProto{{
					Name: new("MapEntry"), Options: &descriptorpb.MessageOptions{MapEntry: new(true)},
					Field: []*descriptorpb.FieldDescriptorProto{field("key", 1, text, false, ""), field("value", 2, text, false, "")},
				}},
			},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Service"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: new("Do"), InputType: new(".t.Request"), OutputType: new(".t.Request"), ClientStreaming: &streams, Options: options,
		}}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0)
}

// A method that demands too little stops the start.
func TestNewPolicyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		policy *policyv1.Policy
		want   string
	}{
		"no policy":        {nil, "it has no scope"},
		"empty policy":     {&policyv1.Policy{}, "it has no scope"},
		"no scope":         {&policyv1.Policy{Account: "account_id"}, "it has no scope"},
		"asterisk":         {&policyv1.Policy{Scope: "a.*"}, `"a.*" is no scope`},
		"no such field":    {&policyv1.Policy{Scope: "a", Account: "account"}, "t.Request has no such field"},
		"no such inner":    {&policyv1.Policy{Scope: "a", Account: "item.account"}, "t.Item has no such field"},
		"in a text":        {&policyv1.Policy{Scope: "a", Account: "account_id.x"}, "there is nothing in t.Request.account_id"},
		"dot behind":       {&policyv1.Policy{Scope: "a", Account: "account_id."}, "there is nothing in t.Request.account_id"},
		"dot before":       {&policyv1.Policy{Scope: "a", Account: ".account_id"}, "t.Request has no such field"},
		"number":           {&policyv1.Policy{Scope: "a", Account: "number"}, "t.Request.number is no text"},
		"bytes":            {&policyv1.Policy{Scope: "a", Account: "bytes"}, "t.Request.bytes is no text"},
		"message":          {&policyv1.Policy{Scope: "a", Account: "item"}, "t.Request.item is no text"},
		"list of messages": {&policyv1.Policy{Scope: "a", Account: "items"}, "t.Request.items is no text"},
		"map":              {&policyv1.Policy{Scope: "a", Account: "map"}, "t.Request has no such field"},
		"in a map":         {&policyv1.Policy{Scope: "a", Account: "map.value"}, "t.Request has no such field"},
		"JSON name":        {&policyv1.Policy{Scope: "a", Account: "accountId"}, "t.Request has no such field"},
	} {
		p, err := NewPolicy(testAPI(t, c.policy, false).Methods().Get(0))
		if p != nil || !strings.HasSuffix(text(err), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestPaths(t *testing.T) {
	for name, c := range map[string]struct {
		path    string
		streams bool
		request map[string]any
		want    bool
	}{
		"nested":            {"item.account_id", false, map[string]any{"item": map[string]any{"account_id": "bob"}}, true},
		"nested, absent":    {"item.account_id", false, nil, false},
		"nested, other":     {"item.account_id", false, map[string]any{"item": map[string]any{"account_id": "eve"}}, false},
		"list of lists":     {"items.ids", false, map[string]any{"items": []any{map[string]any{"ids": []any{"bob", "bob|1|x"}}, map[string]any{"ids": []any{"BOB"}}}}, true},
		"an other in one":   {"items.ids", false, map[string]any{"items": []any{map[string]any{"ids": []any{"bob"}}, map[string]any{"ids": []any{"bob", "eve"}}}}, false},
		"an empty in one":   {"items.ids", false, map[string]any{"items": []any{map[string]any{"ids": []any{"bob"}}, map[string]any{}}}, false},
		"no items":          {"items.ids", false, nil, false},
		"deep":              {"item.item.item.account_id", false, map[string]any{"item": map[string]any{"item": map[string]any{"item": map[string]any{"account_id": "bob"}}}}, true},
		"not deep enough":   {"item.item.account_id", false, map[string]any{"item": map[string]any{"account_id": "bob"}}, false},
		"in a plain stream": {"account_id", true, map[string]any{"account_id": "bob"}, true},
	} {
		api := testAPI(t, &policyv1.Policy{Scope: "a", Account: c.path}, c.streams)
		p := newPolicies(t, api)
		caller := callerOf(t, p, nil, []string{"bob"})
		call, err := p.begin(caller, "/t.Service/Do")
		if err != nil {
			t.Fatal(err)
		}
		request := fill(dynamicpb.NewMessage(api.Methods().Get(0).Input()), c.request)
		if err := call.Allow(request.Interface()); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		// Only a part of a message of a stream may be missing later.
		empty := dynamicpb.NewMessage(api.Methods().Get(0).Input())
		if err := call.Allow(empty); err == nil {
			t.Errorf("%s: an empty message passes", name)
		}
	}
}

// A stream of lists has its accounts in every message.
func TestListsInStreams(t *testing.T) {
	api := testAPI(t, &policyv1.Policy{Scope: "a", Account: "items.account_id"}, true)
	p := newPolicies(t, api)
	call, err := p.begin(callerOf(t, p, nil, []string{"bob"}), "/t.Service/Do")
	if err != nil {
		t.Fatal(err)
	}
	input := api.Methods().Get(0).Input()
	full := fill(dynamicpb.NewMessage(input), map[string]any{"items": []any{map[string]any{"account_id": "bob"}}})
	if err := call.Allow(full.Interface()); err != nil {
		t.Error(err)
	}
	if err := call.Allow(dynamicpb.NewMessage(input)); err == nil {
		t.Error("an empty list passes")
	}
}

// fill sets members of a message.
func fill(m protoreflect.Message, members map[string]any) protoreflect.Message {
	for name, member := range members {
		field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		switch v := member.(type) {
		case string:
			m.Set(field, protoreflect.ValueOfString(v))
		case map[string]any:
			fill(m.Mutable(field).Message(), v)
		case []any:
			list := m.Mutable(field).List()
			for _, item := range v {
				if text, ok := item.(string); ok {
					list.Append(protoreflect.ValueOfString(text))
					continue
				}
				members, _ := item.(map[string]any)
				fill(list.AppendMutable().Message(), members)
			}
		}
	}
	return m
}

// allow reports whether a caller may make a call whose only request this is.
func (all policies) allow(caller *Caller, name string, request proto.Message) error {
	call, err := all.begin(caller, name)
	if err != nil {
		return err
	}
	return call.Allow(request)
}

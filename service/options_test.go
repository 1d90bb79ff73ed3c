package service

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// changed returns a method of ConversationService whose options were changed.
func changed(t *testing.T, name string, change func(*descriptorpb.MethodDescriptorProto)) protoreflect.MethodDescriptor {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(imv1.File_yunxin_im_v1_conversation_service_proto)
	for _, m := range file.GetService()[0].GetMethod() {
		if m.GetName() == name {
			change(m)
		}
	}
	built, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return built.Services().Get(0).Methods().ByName(protoreflect.Name(name))
}

// TestBatchOption checks that an option which does not fit its method stops the start.
func TestBatchOption(t *testing.T) {
	t.Parallel()
	for want, option := range map[string]*upstreamv1.Batch{
		`has no field "ids"`:           {Items: "ids"},
		`has no field ""`:              {},
		"goes through what is no mess": {Items: "conversation_ids.id"},
		"is no list":                   {Items: "clear_message"},
		"key is for items that are":    {Items: "conversation_ids", Key: "id"},
		"limit is negative":            {Items: "conversation_ids", Limit: -1},
		"group_by is for items with a": {Items: "conversation_ids", GroupBy: upstreamv1.GroupBy_GROUP_BY_CONVERSATION_OWNER},
	} {
		m := changed(t, "BatchDeleteConversations", func(m *descriptorpb.MethodDescriptorProto) {
			proto.SetExtension(m.GetOptions(), upstreamv1.E_Batch, option)
		})
		if _, err := newBatch(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", option, err, want)
		}
	}
	noResults := changed(t, "GetConversation", func(m *descriptorpb.MethodDescriptorProto) {
		proto.SetExtension(m.GetOptions(), upstreamv1.E_Batch, &upstreamv1.Batch{Items: "conversation_id"})
	})
	if _, err := newBatch(noResults); err == nil || !strings.Contains(err.Error(), "no list of messages named results") {
		t.Errorf("no results: %v", err)
	}
}

// TestPagesOption checks the same for streams of pages.
func TestPagesOption(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"":                    "neither the option pages_of nor a function",
		"ListMessages":        "no list method",
		"StreamConversations": "no list method",
		"GetConversation":     "must have the request of GetConversation",
	} {
		m := changed(t, "StreamConversations", func(m *descriptorpb.MethodDescriptorProto) {
			proto.SetExtension(m.GetOptions(), upstreamv1.E_PagesOf, list)
		})
		if _, err := newPages(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", list, err, want)
		}
	}
	divided := changed(t, "StreamConversations", func(m *descriptorpb.MethodDescriptorProto) {
		proto.SetExtension(m.GetOptions(), upstreamv1.E_Batch, &upstreamv1.Batch{Items: "account_id"})
	})
	if _, err := newPages(divided); err == nil || !strings.Contains(err.Error(), "a batch is none") {
		t.Errorf("a batch: %v", err)
	}
	unary := changed(t, "GetConversation", func(m *descriptorpb.MethodDescriptorProto) {
		proto.SetExtension(m.GetOptions(), upstreamv1.E_PagesOf, "ListConversations")
	})
	if _, err := (forwarder{}).call(unary); err == nil || !strings.Contains(err.Error(), "is no stream") {
		t.Errorf("a unary method: %v", err)
	}
}

// TestForwarderOption checks that a method with nothing to carry it out, or with a
// function of other types, stops the start.
func TestForwarderOption(t *testing.T) {
	t.Parallel()
	bare := changed(t, "GetConversation", func(m *descriptorpb.MethodDescriptorProto) {
		proto.ClearExtension(m.GetOptions(), upstreamv1.E_Operation)
	})
	if _, err := (forwarder{}).call(bare); err == nil || !strings.Contains(err.Error(), "neither the option operation nor a function") {
		t.Errorf("bare: %v", err)
	}
	wrong := unary(fullMethod(bare), func(context.Context, *imv1.ListConversationsRequest) (*imv1.GetConversationResponse, error) {
		return nil, nil //nolint:nilnil // never called
	})
	if _, err := (forwarder{own: map[string]handler{wrong.method: wrong}}).call(bare); err == nil || !strings.Contains(err.Error(), "is written for") {
		t.Errorf("other types: %v", err)
	}
	stream := changed(t, "StreamConversations", func(*descriptorpb.MethodDescriptorProto) {})
	single := handler{method: fullMethod(stream), unary: wrong.unary}
	if _, err := (forwarder{own: map[string]handler{single.method: single}}).streamHandler(stream); err == nil || !strings.Contains(err.Error(), "is a stream") {
		t.Errorf("no stream: %v", err)
	}
}

// TestRegister checks that every method of the API has a handler.
func TestRegister(t *testing.T) {
	t.Parallel()
	server := grpc.NewServer()
	if err := Register(server, nil, Options{}); err != nil {
		t.Fatal(err)
	}
	info := server.GetServiceInfo()
	for _, service := range Descriptors() {
		have := len(info[string(service.FullName())].Methods)
		if want := service.Methods().Len(); have != want {
			t.Errorf("%s: %d methods, want %d", service.FullName(), have, want)
		}
	}
}

// TestMessageNames checks what buf's rules checked before streams shared the messages of
// their lists: each method has a request and a reply of its own name.
func TestMessageNames(t *testing.T) {
	t.Parallel()
	for _, s := range Descriptors() {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			name := m.Name()
			if list, _ := proto.GetExtension(m.Options(), upstreamv1.E_PagesOf).(string); list != "" {
				name = protoreflect.Name(list)
			}
			if m.Input().Name() != name+"Request" || m.Output().Name() != name+"Response" {
				t.Errorf("%s has %s and %s, want %[4]sRequest and %[4]sResponse", m.FullName(), m.Input().Name(), m.Output().Name(), name)
			}
		}
	}
}

// Package service implements the services of the API on an upstream connection. Most
// methods need no Go: their options say which operation of the upstream they call, how
// a batch is split and whose pages a stream has. A method that does more than its
// options say is written by hand, in a file of its own name.
package service

import (
	"context"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// services are all that are served, with their REST views. A new service is one line.
var services = []struct {
	desc *grpc.ServiceDesc
	rest func(context.Context, *runtime.ServeMux, grpc.ClientConnInterface) error
}{
	{&imv1.ConversationService_ServiceDesc, rest(imv1.NewConversationServiceClient, imv1.RegisterConversationServiceHandlerClient)},
	{&imv1.ConversationGroupService_ServiceDesc, rest(imv1.NewConversationGroupServiceClient, imv1.RegisterConversationGroupServiceHandlerClient)},
	{&imv1.MessageService_ServiceDesc, rest(imv1.NewMessageServiceClient, imv1.RegisterMessageServiceHandlerClient)},
	{&imv1.ChatroomMessageService_ServiceDesc, rest(imv1.NewChatroomMessageServiceClient, imv1.RegisterChatroomMessageServiceHandlerClient)},
}

// rest returns a function that registers the REST view of a service.
func rest[C any](client func(grpc.ClientConnInterface) C, register func(context.Context, *runtime.ServeMux, C) error) func(context.Context, *runtime.ServeMux, grpc.ClientConnInterface) error {
	return func(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
		return register(ctx, mux, client(conn))
	}
}

// Options adjust the methods that are written by hand.
type Options struct {
	// PieceInterval is the least time between two pieces of SendStreamMessage; pieces
	// that arrive faster are merged.
	PieceInterval time.Duration
	// ClientID makes the client id of a message in pieces to a conversation, for callers
	// who give none. The same call, when it is made again, should get the same one. Nil
	// makes a new one each time.
	ClientID func(ctx context.Context, conversationID string) string
}

// handwritten are the methods that do more than their options say.
func handwritten(up grpc.ClientConnInterface, o Options) ([]handler, error) {
	messages, err := newMessageService(up, o)
	return []handler{
		unary(imv1.MessageService_BatchSendMessages_FullMethodName, messages.batchSendMessages),
		bidirectional(imv1.MessageService_SendStreamMessage_FullMethodName, messages.sendStreamMessage),
	}, err
}

// Register registers all services; they call the upstream through up. An option that
// does not fit its method is an error, which must stop the start.
func Register(r grpc.ServiceRegistrar, up grpc.ClientConnInterface, o Options) error {
	f := forwarder{up: up, own: make(map[string]handler)}
	own, err := handwritten(up, o)
	if err != nil {
		return err
	}
	for _, h := range own {
		f.own[h.method] = h
	}
	for _, s := range services {
		desc, err := f.service(s.desc)
		if err != nil {
			return err
		}
		r.RegisterService(desc, nil)
	}
	return nil
}

// RegisterGateway registers the REST views of all services; they call the services
// through conn.
func RegisterGateway(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
	for _, s := range services {
		if err := s.rest(ctx, mux, conn); err != nil {
			return err
		}
	}
	return nil
}

// Descriptors returns the descriptors of all services.
func Descriptors() []protoreflect.ServiceDescriptor {
	all := make([]protoreflect.ServiceDescriptor, 0, len(services))
	for _, s := range services {
		if desc, err := descriptor(s.desc); err == nil { // generated code registers it
			all = append(all, desc)
		}
	}
	return all
}

func descriptor(desc *grpc.ServiceDesc) (protoreflect.ServiceDescriptor, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
	service, _ := found.(protoreflect.ServiceDescriptor)
	return service, err
}

// Package service implements the services of the API on an upstream connection.
// A plain RPC is one line; more stands here only where the facade adds something
// to the upstream's operation. A method that is missing does not compile.
package service

import (
	"context"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// Options are what services can be told.
type Options struct {
	// PieceInterval is the least time between two pieces of SendStreamMessage;
	// pieces that arrive faster are merged.
	PieceInterval time.Duration
	// ClientID makes the client id of a message in pieces to a conversation, for callers
	// who give none. The same call, when it is made again, should get the same one. Nil
	// makes a new one each time.
	ClientID func(ctx context.Context, conversationID string) string
	// Pressed tells whether calls of a method had better be saved. Reads of it may
	// then wait a moment for others, to be answered by one call of the upstream
	// together with them. Nil is never. All callers of a group are then alike to the
	// upstream's client: what they may read must have been checked before.
	Pressed func(ctx context.Context, method string) bool
	// Group names those whose calls may be answered together; all if nil. There must
	// be few groups, for each is kept.
	Group func(context.Context) string
}

// Register registers all services; they call the upstream through up.
func Register(r grpc.ServiceRegistrar, up grpc.ClientConnInterface, o Options) {
	imv1.RegisterConversationServiceServer(r, newConversationService(imv1.NewConversationServiceClient(up), o))
	imv1.RegisterConversationGroupServiceServer(r, &conversationGroupService{up: imv1.NewConversationGroupServiceClient(up)})
	imv1.RegisterMessageServiceServer(r, newMessageService(imv1.NewMessageServiceClient(up), o))
}

// RegisterGateway registers the REST views of all services; they call the
// services through conn.
func RegisterGateway(ctx context.Context, mux *runtime.ServeMux, conn *grpc.ClientConn) error {
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		imv1.RegisterConversationServiceHandler,
		imv1.RegisterConversationGroupServiceHandler,
		imv1.RegisterMessageServiceHandler,
	} {
		if err := register(ctx, mux, conn); err != nil {
			return err
		}
	}
	return nil
}

// Descriptors returns the descriptors of all services.
func Descriptors() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		imv1.File_yunxin_im_v1_conversation_service_proto,
		imv1.File_yunxin_im_v1_conversation_group_service_proto,
		imv1.File_yunxin_im_v1_message_service_proto,
	} {
		for i := range file.Services().Len() {
			all = append(all, file.Services().Get(i))
		}
	}
	return all
}

package service

import (
	"context"
	"crypto/rand"
	"time"

	"google.golang.org/grpc"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// messageService has the methods of MessageService that are written by hand.
type messageService struct {
	up            imv1.MessageServiceClient
	batchSend     *batch
	pieceInterval time.Duration // at least, between the pieces of a stream message
	clientID      func(ctx context.Context, conversationID string) string
}

func newMessageService(up grpc.ClientConnInterface, o Options) (*messageService, error) {
	desc, err := descriptor(&imv1.MessageService_ServiceDesc)
	if err != nil {
		return nil, err
	}
	s := &messageService{up: imv1.NewMessageServiceClient(up), pieceInterval: o.PieceInterval, clientID: o.ClientID}
	if s.clientID == nil {
		s.clientID = func(context.Context, string) string { return rand.Text() }
	}
	s.batchSend, err = newBatch(desc.Methods().ByName("BatchSendMessages"))
	return s, err
}

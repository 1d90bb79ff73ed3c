package service

import (
	"context"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

type messageService struct {
	imv1.UnsafeMessageServiceServer

	up imv1.MessageServiceClient
}

func (s *messageService) SendMessage(ctx context.Context, req *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) {
	return s.up.SendMessage(ctx, req)
}

func (s *messageService) ModifyMessage(ctx context.Context, req *imv1.ModifyMessageRequest) (*imv1.ModifyMessageResponse, error) {
	return s.up.ModifyMessage(ctx, req)
}

func (s *messageService) GetMessage(ctx context.Context, req *imv1.GetMessageRequest) (*imv1.GetMessageResponse, error) {
	return s.up.GetMessage(ctx, req)
}

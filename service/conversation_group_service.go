package service

import (
	"context"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

type conversationGroupService struct {
	imv1.UnsafeConversationGroupServiceServer

	up imv1.ConversationGroupServiceClient
}

func (s *conversationGroupService) CreateConversationGroup(ctx context.Context, req *imv1.CreateConversationGroupRequest) (*imv1.CreateConversationGroupResponse, error) {
	reply, err := s.up.CreateConversationGroup(ctx, req)
	if err != nil {
		return nil, err
	}
	reply.Results = inOrder(req.GetConversationIds(), reply.GetResults())
	return reply, nil
}

func (s *conversationGroupService) GetConversationGroup(ctx context.Context, req *imv1.GetConversationGroupRequest) (*imv1.GetConversationGroupResponse, error) {
	return s.up.GetConversationGroup(ctx, req)
}

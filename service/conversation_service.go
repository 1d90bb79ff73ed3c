package service

import (
	"context"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

type conversationService struct {
	imv1.UnsafeConversationServiceServer

	up imv1.ConversationServiceClient
}

func (s *conversationService) CreateConversation(ctx context.Context, req *imv1.CreateConversationRequest) (*imv1.CreateConversationResponse, error) {
	return s.up.CreateConversation(ctx, req)
}

func (s *conversationService) UpdateConversation(ctx context.Context, req *imv1.UpdateConversationRequest) (*imv1.UpdateConversationResponse, error) {
	return s.up.UpdateConversation(ctx, req)
}

func (s *conversationService) GetConversation(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
	return s.up.GetConversation(ctx, req)
}

func (s *conversationService) BatchGetConversations(ctx context.Context, req *imv1.BatchGetConversationsRequest) (*imv1.BatchGetConversationsResponse, error) {
	reply, err := s.up.BatchGetConversations(ctx, req)
	if err != nil {
		return nil, err
	}
	reply.Results = inOrder(req.GetConversationIds(), reply.GetResults())
	return reply, nil
}

func (s *conversationService) ListConversations(ctx context.Context, req *imv1.ListConversationsRequest) (*imv1.ListConversationsResponse, error) {
	return s.up.ListConversations(ctx, req)
}

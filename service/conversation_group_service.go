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
	reply.Results = inOrder(req.GetConversationIds(), itself[string], byItem(reply.GetResults()))
	return reply, nil
}

func (s *conversationGroupService) GetConversationGroup(ctx context.Context, req *imv1.GetConversationGroupRequest) (*imv1.GetConversationGroupResponse, error) {
	return s.up.GetConversationGroup(ctx, req)
}

func (s *conversationGroupService) UpdateConversationGroup(ctx context.Context, req *imv1.UpdateConversationGroupRequest) (*imv1.UpdateConversationGroupResponse, error) {
	reply, err := s.up.UpdateConversationGroup(ctx, req)
	if err != nil {
		return nil, err
	}
	reply.Results = inOrder(req.GetConversations().GetConversationIds(), itself[string], byItem(reply.GetResults()))
	return reply, nil
}

func (s *conversationGroupService) DeleteConversationGroup(ctx context.Context, req *imv1.DeleteConversationGroupRequest) (*imv1.DeleteConversationGroupResponse, error) {
	return s.up.DeleteConversationGroup(ctx, req)
}

func (s *conversationGroupService) BatchGetConversationGroups(ctx context.Context, req *imv1.BatchGetConversationGroupsRequest) (*imv1.BatchGetConversationGroupsResponse, error) {
	const groupsPerCall = 100 // the upstream documents no limit; that of its other batches
	results, err := batch[int64, *imv1.ConversationGroupResult]{
		limit: groupsPerCall,
		key:   itself[int64],
		call: func(ctx context.Context, ids []int64) ([]*imv1.ConversationGroupResult, error) {
			reply, err := s.up.BatchGetConversationGroups(ctx, &imv1.BatchGetConversationGroupsRequest{
				AccountId: req.GetAccountId(), GroupIds: ids,
			})
			return reply.GetResults(), err
		},
	}.run(ctx, req.GetGroupIds())
	return &imv1.BatchGetConversationGroupsResponse{Results: results}, err
}

func (s *conversationGroupService) ListConversationGroups(ctx context.Context, req *imv1.ListConversationGroupsRequest) (*imv1.ListConversationGroupsResponse, error) {
	return s.up.ListConversationGroups(ctx, req)
}

func (s *conversationGroupService) ListGroupConversations(ctx context.Context, req *imv1.ListGroupConversationsRequest) (*imv1.ListGroupConversationsResponse, error) {
	return s.up.ListGroupConversations(ctx, req)
}

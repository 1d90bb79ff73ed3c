package service

import (
	"context"
	"strings"

	"google.golang.org/grpc"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// The upstream takes so many conversations in a call.
const conversationsPerCall = 100

type conversationService struct {
	imv1.UnsafeConversationServiceServer

	up      imv1.ConversationServiceClient
	pressed func(ctx context.Context, method string) bool // nil if never
	gets    mergers[string, *imv1.GetConversationResponse]
}

func newConversationService(up imv1.ConversationServiceClient, o Options) *conversationService {
	s := &conversationService{up: up, pressed: o.Pressed}
	s.gets.limit, s.gets.call, s.gets.group = conversationsPerCall, s.getTogether, o.Group
	return s
}

func (s *conversationService) CreateConversation(ctx context.Context, req *imv1.CreateConversationRequest) (*imv1.CreateConversationResponse, error) {
	return s.up.CreateConversation(ctx, req)
}

func (s *conversationService) UpdateConversation(ctx context.Context, req *imv1.UpdateConversationRequest) (*imv1.UpdateConversationResponse, error) {
	return s.up.UpdateConversation(ctx, req)
}

func (s *conversationService) GetConversation(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
	alone := func() (*imv1.GetConversationResponse, error) { return s.up.GetConversation(ctx, req) }
	if s.pressed == nil || !s.pressed(ctx, imv1.ConversationService_GetConversation_FullMethodName) {
		return alone()
	}
	return s.gets.of(ctx).get(ctx, req.GetConversationId(), alone)
}

// getTogether reads some conversations. It leaves out those that it did not get:
// the error of a batch is not that of a read of one.
func (s *conversationService) getTogether(ctx context.Context, ids []string) (map[string]*imv1.GetConversationResponse, error) {
	reply, err := s.up.BatchGetConversations(ctx, &imv1.BatchGetConversationsRequest{ConversationIds: ids})
	if err != nil {
		return nil, err
	}
	known := byItem(reply.GetResults())
	found := make(map[string]*imv1.GetConversationResponse, len(ids))
	for _, id := range ids {
		if conversation := known.take(id).GetConversation(); conversation != nil {
			found[id] = &imv1.GetConversationResponse{Conversation: conversation}
		}
	}
	return found, nil
}

func (s *conversationService) DeleteConversation(ctx context.Context, req *imv1.DeleteConversationRequest) (*imv1.DeleteConversationResponse, error) {
	return s.up.DeleteConversation(ctx, req)
}

func (s *conversationService) BatchDeleteConversations(ctx context.Context, req *imv1.BatchDeleteConversationsRequest) (*imv1.BatchDeleteConversationsResponse, error) {
	results, err := batch[string, *imv1.ConversationOutcome]{
		limit: conversationsPerCall,
		key:   itself[string],
		group: ownerOf, // conversations of several owners are refused: 110301
		call: func(ctx context.Context, ids []string) ([]*imv1.ConversationOutcome, error) {
			reply, err := s.up.BatchDeleteConversations(ctx, &imv1.BatchDeleteConversationsRequest{
				ConversationIds: ids, ClearMessage: req.ClearMessage,
			})
			return reply.GetResults(), err
		},
	}.run(ctx, req.GetConversationIds())
	return &imv1.BatchDeleteConversationsResponse{Results: results}, err
}

// ownerOf returns the owner of a conversation, the first part of its id.
func ownerOf(conversationID string) string {
	owner, _, _ := strings.Cut(conversationID, "|")
	return strings.ToLower(owner)
}

func (s *conversationService) BatchGetConversations(ctx context.Context, req *imv1.BatchGetConversationsRequest) (*imv1.BatchGetConversationsResponse, error) {
	results, err := batch[string, *imv1.ConversationResult]{
		limit: conversationsPerCall,
		key:   itself[string],
		call: func(ctx context.Context, ids []string) ([]*imv1.ConversationResult, error) {
			reply, err := s.up.BatchGetConversations(ctx, &imv1.BatchGetConversationsRequest{ConversationIds: ids})
			return reply.GetResults(), err
		},
	}.run(ctx, req.GetConversationIds())
	return &imv1.BatchGetConversationsResponse{Results: results}, err
}

func (s *conversationService) ListConversations(ctx context.Context, req *imv1.ListConversationsRequest) (*imv1.ListConversationsResponse, error) {
	return s.up.ListConversations(ctx, req)
}

func (s *conversationService) StreamConversations(req *imv1.StreamConversationsRequest, stream grpc.ServerStreamingServer[imv1.StreamConversationsResponse]) error {
	fetch := func(ctx context.Context, token string) (page[*imv1.Conversation], error) {
		reply, err := s.up.ListConversations(ctx, &imv1.ListConversationsRequest{
			AccountId: req.GetAccountId(), PageSize: req.GetPageSize(), PageToken: token,
		})
		return page[*imv1.Conversation]{reply.GetConversations(), reply.GetNextPageToken()}, err
	}
	return walk(stream.Context(), req.GetPageToken(), fetch, func(p page[*imv1.Conversation]) error {
		return stream.Send(&imv1.StreamConversationsResponse{Conversations: p.items, NextPageToken: p.next})
	})
}

func (s *conversationService) PinConversation(ctx context.Context, req *imv1.PinConversationRequest) (*imv1.PinConversationResponse, error) {
	return s.up.PinConversation(ctx, req)
}

func (s *conversationService) UnpinConversation(ctx context.Context, req *imv1.UnpinConversationRequest) (*imv1.UnpinConversationResponse, error) {
	return s.up.UnpinConversation(ctx, req)
}

func (s *conversationService) GetUnreadCount(ctx context.Context, req *imv1.GetUnreadCountRequest) (*imv1.GetUnreadCountResponse, error) {
	return s.up.GetUnreadCount(ctx, req)
}

func (s *conversationService) ClearUnreadCount(ctx context.Context, req *imv1.ClearUnreadCountRequest) (*imv1.ClearUnreadCountResponse, error) {
	return s.up.ClearUnreadCount(ctx, req)
}

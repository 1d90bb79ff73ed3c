package service

import (
	"context"
	"crypto/rand"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// The upstream takes so many items in a call. It documents no limit for messages
// and quick comments; that of its other batches is used.
const (
	receiversPerCall = 100
	messagesPerCall  = 100
	receiptsPerCall  = 50
)

type messageService struct {
	imv1.UnsafeMessageServiceServer

	up            imv1.MessageServiceClient
	pieceInterval time.Duration // at least so long between the pieces of a stream message
	clientID      func(ctx context.Context, conversationID string) string
}

func newMessageService(up imv1.MessageServiceClient, o Options) *messageService {
	s := &messageService{up: up, pieceInterval: o.PieceInterval, clientID: o.ClientID}
	if s.clientID == nil {
		s.clientID = func(context.Context, string) string { return rand.Text() }
	}
	return s
}

func (s *messageService) SendMessage(ctx context.Context, req *imv1.SendMessageRequest) (*imv1.SendMessageResponse, error) {
	return s.up.SendMessage(ctx, req)
}

func (s *messageService) ModifyMessage(ctx context.Context, req *imv1.ModifyMessageRequest) (*imv1.ModifyMessageResponse, error) {
	return s.up.ModifyMessage(ctx, req)
}

func (s *messageService) BatchSendMessages(ctx context.Context, req *imv1.BatchSendMessagesRequest) (*imv1.BatchSendMessagesResponse, error) {
	asked := req.NeedMessageDetail == nil || req.GetNeedMessageDetail()
	shown := asked && (req.NeedMessageDetail != nil || len(req.GetReceiverIds()) <= receiversPerCall)
	results, err := batch[string, *imv1.SendResult]{
		limit: receiversPerCall,
		key:   itself[string],
		call: func(ctx context.Context, receivers []string) ([]*imv1.SendResult, error) {
			part := proto.CloneOf(req)
			part.ReceiverIds, part.NeedMessageDetail = receivers, &asked
			reply, err := s.up.BatchSendMessages(ctx, part)
			if err != nil || asked {
				return reply.GetResults(), err
			}
			return withUnnamed(receivers, reply.GetResults()), nil
		},
	}.run(ctx, req.GetReceiverIds())
	for i, r := range results {
		if !shown && r.GetError() == nil {
			results[i] = &imv1.SendResult{AccountId: r.GetAccountId()}
		}
	}
	return &imv1.BatchSendMessagesResponse{Results: results}, err
}

// withUnnamed adds the receivers that an answer without details does not name:
// they got the message, for those that did not are always named.
func withUnnamed(receivers []string, named []*imv1.SendResult) []*imv1.SendResult {
	known := byItem(named)
	for _, receiver := range receivers {
		if _, ok := known[fold(receiver)]; !ok {
			named = append(named, &imv1.SendResult{AccountId: receiver})
		}
	}
	return named
}

func (s *messageService) RecallMessage(ctx context.Context, req *imv1.RecallMessageRequest) (*imv1.RecallMessageResponse, error) {
	return s.up.RecallMessage(ctx, req)
}

func (s *messageService) DeleteConversationMessages(ctx context.Context, req *imv1.DeleteConversationMessagesRequest) (*imv1.DeleteConversationMessagesResponse, error) {
	return s.up.DeleteConversationMessages(ctx, req)
}

func (s *messageService) SendP2PReadReceipt(ctx context.Context, req *imv1.SendP2PReadReceiptRequest) (*imv1.SendP2PReadReceiptResponse, error) {
	return s.up.SendP2PReadReceipt(ctx, req)
}

func (s *messageService) SendTeamReadReceipt(ctx context.Context, req *imv1.SendTeamReadReceiptRequest) (*imv1.SendTeamReadReceiptResponse, error) {
	results, err := batch[int64, *imv1.ReceiptResult]{
		limit: receiptsPerCall,
		key:   itself[int64],
		call: func(ctx context.Context, ids []int64) ([]*imv1.ReceiptResult, error) {
			reply, err := s.up.SendTeamReadReceipt(ctx, &imv1.SendTeamReadReceiptRequest{
				FromAccountId: req.GetFromAccountId(), TeamId: req.GetTeamId(), MessageServerIds: ids,
			})
			return reply.GetResults(), err
		},
	}.run(ctx, req.GetMessageServerIds())
	return &imv1.SendTeamReadReceiptResponse{Results: results}, err
}

func (s *messageService) GetTeamReadReceipt(ctx context.Context, req *imv1.GetTeamReadReceiptRequest) (*imv1.GetTeamReadReceiptResponse, error) {
	return s.up.GetTeamReadReceipt(ctx, req)
}

func (s *messageService) GetMessage(ctx context.Context, req *imv1.GetMessageRequest) (*imv1.GetMessageResponse, error) {
	return s.up.GetMessage(ctx, req)
}

func (s *messageService) BatchGetMessages(ctx context.Context, req *imv1.BatchGetMessagesRequest) (*imv1.BatchGetMessagesResponse, error) {
	results, err := batch[*imv1.MessageKey, *imv1.MessageResult]{
		limit: messagesPerCall,
		key:   func(k *imv1.MessageKey) any { return k.GetMessageServerId() },
		call: func(ctx context.Context, keys []*imv1.MessageKey) ([]*imv1.MessageResult, error) {
			reply, err := s.up.BatchGetMessages(ctx, &imv1.BatchGetMessagesRequest{
				ConversationId: req.GetConversationId(), Messages: keys,
			})
			return reply.GetResults(), err
		},
	}.run(ctx, req.GetMessages())
	return &imv1.BatchGetMessagesResponse{Results: results}, err
}

func (s *messageService) ListMessages(ctx context.Context, req *imv1.ListMessagesRequest) (*imv1.ListMessagesResponse, error) {
	return s.up.ListMessages(ctx, req)
}

func (s *messageService) StreamMessages(req *imv1.StreamMessagesRequest, stream grpc.ServerStreamingServer[imv1.StreamMessagesResponse]) error {
	fetch := func(ctx context.Context, token string) (page[*imv1.Message], error) {
		reply, err := s.up.ListMessages(ctx, &imv1.ListMessagesRequest{
			ConversationId:         req.GetConversationId(),
			BeginTime:              req.GetBeginTime(),
			EndTime:                req.GetEndTime(),
			PageSize:               req.GetPageSize(),
			PageToken:              token,
			OldestFirst:            req.OldestFirst,
			MessageTypes:           req.GetMessageTypes(),
			CheckTeamValid:         req.CheckTeamValid,
			IncludeNoSenseMessages: req.IncludeNoSenseMessages,
		})
		return page[*imv1.Message]{reply.GetMessages(), reply.GetNextPageToken()}, err
	}
	return walk(stream.Context(), req.GetPageToken(), fetch, func(p page[*imv1.Message]) error {
		return stream.Send(&imv1.StreamMessagesResponse{Messages: p.items, NextPageToken: p.next})
	})
}

func (s *messageService) ListThreadMessages(ctx context.Context, req *imv1.ListThreadMessagesRequest) (*imv1.ListThreadMessagesResponse, error) {
	return s.up.ListThreadMessages(ctx, req)
}

func (s *messageService) SearchMessages(ctx context.Context, req *imv1.SearchMessagesRequest) (*imv1.SearchMessagesResponse, error) {
	return s.up.SearchMessages(ctx, req)
}

func (s *messageService) AddQuickComment(ctx context.Context, req *imv1.AddQuickCommentRequest) (*imv1.AddQuickCommentResponse, error) {
	return s.up.AddQuickComment(ctx, req)
}

func (s *messageService) DeleteQuickComment(ctx context.Context, req *imv1.DeleteQuickCommentRequest) (*imv1.DeleteQuickCommentResponse, error) {
	return s.up.DeleteQuickComment(ctx, req)
}

func (s *messageService) BatchGetQuickComments(ctx context.Context, req *imv1.BatchGetQuickCommentsRequest) (*imv1.BatchGetQuickCommentsResponse, error) {
	results, err := batch[*imv1.MessageReference, *imv1.QuickCommentsResult]{
		limit: messagesPerCall,
		key:   func(m *imv1.MessageReference) any { return m.GetMessageServerId() },
		call: func(ctx context.Context, messages []*imv1.MessageReference) ([]*imv1.QuickCommentsResult, error) {
			reply, err := s.up.BatchGetQuickComments(ctx, &imv1.BatchGetQuickCommentsRequest{Messages: messages})
			return reply.GetResults(), err
		},
	}.run(ctx, req.GetMessages())
	return &imv1.BatchGetQuickCommentsResponse{Results: results}, err
}

func (s *messageService) SendStreamMessagePiece(ctx context.Context, req *imv1.SendStreamMessagePieceRequest) (*imv1.SendStreamMessagePieceResponse, error) {
	return s.up.SendStreamMessagePiece(ctx, req)
}

func (s *messageService) SendChatroomMessage(ctx context.Context, req *imv1.SendChatroomMessageRequest) (*imv1.SendChatroomMessageResponse, error) {
	return s.up.SendChatroomMessage(ctx, req)
}

func (s *messageService) BatchSendChatroomMessages(ctx context.Context, req *imv1.BatchSendChatroomMessagesRequest) (*imv1.BatchSendChatroomMessagesResponse, error) {
	reply, err := s.up.BatchSendChatroomMessages(ctx, req)
	if err != nil {
		return nil, err
	}
	id := func(m *imv1.NewChatroomMessage) any { return m.GetMessageClientId() } // filled by the call, if need be
	reply.Results = inOrder(req.GetMessages(), id, byItem(reply.GetResults()))
	return reply, nil
}

func (s *messageService) RecallChatroomMessage(ctx context.Context, req *imv1.RecallChatroomMessageRequest) (*imv1.RecallChatroomMessageResponse, error) {
	return s.up.RecallChatroomMessage(ctx, req)
}

func (s *messageService) ListChatroomMessages(ctx context.Context, req *imv1.ListChatroomMessagesRequest) (*imv1.ListChatroomMessagesResponse, error) {
	return s.up.ListChatroomMessages(ctx, req)
}

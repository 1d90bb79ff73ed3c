package service

import (
	"context"

	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// batchSendMessages asks for the messages that were sent, unless the caller does not
// want them, and leaves them out of a long reply unless the caller wants them. It asks
// for them anyway because an answer without them names only the receivers that failed.
func (s *messageService) batchSendMessages(ctx context.Context, req *imv1.BatchSendMessagesRequest) (*imv1.BatchSendMessagesResponse, error) {
	asked := req.NeedMessageDetail == nil || req.GetNeedMessageDetail()
	shown := asked && (req.NeedMessageDetail != nil || len(req.GetReceiverIds()) <= s.batchSend.limit)
	answer, err := s.batchSend.run(ctx, req, func(ctx context.Context, part proto.Message) (proto.Message, error) {
		of, _ := part.(*imv1.BatchSendMessagesRequest)
		of.NeedMessageDetail = &asked
		reply, err := s.up.BatchSendMessages(ctx, of)
		if err == nil && !asked {
			reply.Results = withUnnamed(of.GetReceiverIds(), reply.GetResults())
		}
		return reply, err
	})
	if err != nil {
		return nil, err
	}
	reply, _ := answer.(*imv1.BatchSendMessagesResponse)
	for i, r := range reply.GetResults() {
		if !shown && r.GetError() == nil {
			reply.Results[i] = &imv1.SendResult{AccountId: r.GetAccountId()}
		}
	}
	return reply, nil
}

// withUnnamed adds the receivers that an answer without details does not name: they got
// the message, because those that did not are always named.
func withUnnamed(receivers []string, named []*imv1.SendResult) []*imv1.SendResult {
	known := make(map[any]bool, len(named))
	for _, r := range named {
		known[fold(r.GetAccountId())] = true
	}
	for _, receiver := range receivers {
		if !known[fold(receiver)] {
			named = append(named, &imv1.SendResult{AccountId: receiver})
		}
	}
	return named
}

package sandbox

import "github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"

var conversationStateOperations = []operation{
	engine.Write("PATCH", "conversations/{conversation_id}/actions/clear_conversation_unread", clearUnread),
	engine.Read("GET", "conversation_overviews/{account_id}", getTotalUnread),
	engine.Write("POST PATCH", "conversations/{conversation_id}/actions/stick_top_conversation", pinConversation),
}

type pinRequest struct {
	conversationRequest
	TopType *int `json:"top_type" required:"true"`
}

type pinView struct {
	Type           int       `json:"type"`
	ConversationID string    `json:"conversation_id"`
	SenderID       accountID `json:"sender_id"`
	ReceiverID     string    `json:"receiver_id"`
	StickTop       bool      `json:"stick_top"`
	SortOrder      int64     `json:"sort_order"`
	UpdateTime     int64     `json:"update_time"`
}

func pinConversation(c *call, r *pinRequest) (any, *engine.Refusal) {
	conv, bad := c.mustFind(r.ID, codeConversationMissing)
	if bad != nil {
		return nil, bad
	}
	switch *r.TopType {
	case 1:
		if !conv.pinned && c.accounts[conv.owner].pinned() >= maxPinned {
			return nil, codePinLimit.Refuse()
		}
		conv.pinned = true
	case 0:
		if !conv.pinned {
			return nil, codeNotPinned.Refuse()
		}
		conv.pinned = false
	default:
		return nil, engine.BadParameter("top_type must be 0 or 1")
	}
	conv.updated = c.Millis()
	return pinView{
		Type: conv.kind, ConversationID: conv.String(), SenderID: conv.owner, ReceiverID: conv.id,
		StickTop: conv.pinned, SortOrder: conv.order, UpdateTime: conv.updated,
	}, nil
}

func (a *account) pinned() (n int) {
	for _, conv := range a.conversations {
		if conv.pinned {
			n++
		}
	}
	return n
}

// unread counts what others sent after the owner last read.
func (c *call) unread(conv *conversation) (n int) {
	owner := c.accounts[conv.owner]
	for _, m := range c.logs[conv.channel()].after(conv.readThrough) {
		if m.countsUnread && m.sender != owner.id && m.reaches(owner) {
			n++
		}
	}
	return n
}

type accountRequest struct {
	AccountID accountID `path:"account_id"`
}

type unreadView struct {
	AccountID   accountID `json:"account_id"`
	UnreadCount int       `json:"unread_count"`
}

func getTotalUnread(c *call, r *accountRequest) (any, *engine.Refusal) {
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	total := unreadView{AccountID: owner.id}
	for _, conv := range owner.conversations {
		total.UnreadCount += c.unread(conv)
	}
	return total, nil
}

func clearUnread(c *call, r *conversationRequest) (any, *engine.Refusal) {
	conv, bad := c.mustFind(r.ID, engine.CodeBadParameter)
	if bad != nil {
		return nil, bad
	}
	conv.readThrough, conv.lastRead = c.lastMessageID, c.Millis()
	return nil, nil
}

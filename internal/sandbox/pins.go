package sandbox

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

func pinConversation(c *call, r *pinRequest) (any, *refusal) {
	conv, bad := c.mustFind(r.ID, codeConversationMissing)
	if bad != nil {
		return nil, bad
	}
	switch *r.TopType {
	case 1:
		if !conv.pinned && c.accounts[conv.owner].pinned() >= maxPinned {
			return nil, refuse(codePinLimit)
		}
		conv.pinned = true
	case 0:
		if !conv.pinned {
			return nil, refuse(codeNotPinned)
		}
		conv.pinned = false
	default:
		return nil, badParameter("top_type must be 0 or 1")
	}
	conv.updated = c.ms()
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

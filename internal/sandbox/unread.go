package sandbox

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

func getTotalUnread(c *call, r *accountRequest) (any, *refusal) {
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

func clearUnread(c *call, r *conversationRequest) (any, *refusal) {
	conv, bad := c.mustFind(r.ID, codeBadParameter)
	if bad != nil {
		return nil, bad
	}
	conv.readThrough, conv.lastRead = c.lastMessageID, c.ms()
	return nil, nil
}

package sandbox

import (
	"slices"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var conversationOperations = []operation{
	engine.Write("POST", "conversations", createConversation).WithV21(),
	engine.Read("GET", "conversations", listConversations).WithV21(),
	engine.Read("GET", "conversations/{conversation_id}", getConversation).WithV21(),
	engine.Write("PATCH", "conversations/{conversation_id}", updateConversation),
	engine.Write("DELETE", "conversations/{conversation_id}", deleteConversation),
	engine.Read("GET POST", "conversations/actions/conversation_ids", batchGetConversations).WithV21(),
	engine.Write("DELETE", "conversations/actions/conversation_ids", batchDeleteConversations),
}

// conversation is one account's view of its exchange with a peer.
type conversation struct {
	conversationID
	extension string
	pinned    bool
	groups    []int64
	last      *lastMessage
	revoked   *revokeNotification // set when the last message was recalled

	// Messages after this one are unread. The count itself is never stored, so
	// that recalls and deletions cannot make it drift.
	readThrough int64

	lastRead, created, updated, order int64
}

// revokeNotification stands in for a last message that was recalled.
type revokeNotification struct {
	ServerID   int64     `json:"server_id"`
	Attach     string    `json:"attach,omitempty"`
	RevokeID   accountID `json:"revoke_id"`
	CustomInfo string    `json:"custom_info,omitempty"`
	RevokeType int       `json:"revoke_type"`
}

type conversationView struct {
	ConversationID     string              `json:"conversation_id"`
	SenderID           accountID           `json:"sender_id"`
	ReceiverID         string              `json:"receiver_id"`
	Type               int                 `json:"type"`
	StickTop           bool                `json:"stick_top"`
	GroupIDs           []int64             `json:"group_ids,omitempty"`
	ServerExtension    string              `json:"server_extension,omitempty"`
	MessageState       int                 `json:"message_state"`
	LastMessage        *lastMessage        `json:"last_message,omitempty"`
	RevokeNotification *revokeNotification `json:"revoke_notification,omitempty"`
	UnreadCount        int                 `json:"unread_count"`
	SortOrder          int64               `json:"sort_order"`
	CreateTime         int64               `json:"create_time"`
	UpdateTime         int64               `json:"update_time"`
	LastReadTime       int64               `json:"last_read_time,omitempty"`
}

func (c *call) view(conv *conversation) conversationView {
	v := conversationView{
		ConversationID:     conv.String(),
		SenderID:           conv.owner,
		ReceiverID:         conv.id,
		Type:               conv.kind,
		StickTop:           conv.pinned,
		GroupIDs:           conv.groups,
		ServerExtension:    conv.extension,
		RevokeNotification: conv.revoked,
		UnreadCount:        c.unread(conv),
		SortOrder:          conv.order,
		CreateTime:         conv.created,
		UpdateTime:         conv.updated,
		LastReadTime:       conv.lastRead,
	}
	if conv.revoked != nil {
		v.MessageState = 1
	}
	switch {
	case conv.last == nil:
	case c.V21:
		v.LastMessage = conv.last
	default:
		v.LastMessage = conv.last.inV2()
	}
	return v
}

// failedConversation is an item of a batch that was refused.
type failedConversation struct {
	ConversationID string `json:"conversation_id"` // as the caller wrote it
	engine.ItemError
}

// open returns the account's conversation with p and creates it if need be;
// in a new one the messages up to readThrough count as read.
func (c *call) open(owner *account, p peer, readThrough int64) *conversation {
	conv := owner.conversations[p]
	if conv == nil {
		conv = &conversation{
			conversationID: conversationID{owner.id, p},
			readThrough:    readThrough,
			created:        c.Millis(),
			updated:        c.Millis(),
			order:          c.nextOrder(),
		}
		owner.conversations[p] = conv
	}
	return conv
}

// find returns a conversation, or nil.
func (s *state) find(id conversationID) *conversation {
	if owner := s.accounts[id.owner]; owner != nil {
		return owner.conversations[id.peer]
	}
	return nil
}

// mustFind refuses an unknown conversation with the code the operation's page
// gives: some say 414 and not 110404.
func (s *state) mustFind(id conversationID, code engine.Code) (*conversation, *engine.Refusal) {
	conv := s.find(id)
	switch {
	case conv != nil:
		return conv, nil
	case code == engine.CodeBadParameter:
		return nil, engine.BadParameter("%s: %s", codeConversationMissing.Text, id)
	default:
		return nil, code.Refusef("%s", id)
	}
}

type createConversationRequest struct {
	ID conversationID `json:"conversation_id" required:"true"`
}

// createConversation answers with the existing conversation if there is one.
func createConversation(c *call, r *createConversationRequest) (any, *engine.Refusal) {
	owner, t, bad := c.ends(r.ID)
	if bad != nil {
		return nil, bad
	}
	if t != nil && !t.members[owner.id] {
		return nil, codeNotTeamMember.Refuse()
	}
	return c.view(c.open(owner, r.ID.peer, c.lastMessageID)), nil
}

type conversationRequest struct {
	ID conversationID `path:"conversation_id"`
}

func getConversation(c *call, r *conversationRequest) (any, *engine.Refusal) {
	conv, bad := c.mustFind(r.ID, engine.CodeBadParameter)
	if bad != nil {
		return nil, bad
	}
	return c.view(conv), nil
}

type updateConversationRequest struct {
	conversationRequest
	ServerExtension *string `json:"server_extension" max:"1024"`
}

// updateConversation sets the extension, which is optional in some sources and
// required in others; without it nothing but update_time changes.
func updateConversation(c *call, r *updateConversationRequest) (any, *engine.Refusal) {
	conv, bad := c.mustFind(r.ID, engine.CodeBadParameter)
	if bad != nil {
		return nil, bad
	}
	if r.ServerExtension != nil {
		conv.extension = *r.ServerExtension
	}
	conv.updated = c.Millis()
	return c.view(conv), nil
}

type deleteConversationRequest struct {
	conversationRequest
	ClearMessage bool `query:"clear_message"`
}

func deleteConversation(c *call, r *deleteConversationRequest) (any, *engine.Refusal) {
	conv, bad := c.mustFind(r.ID, codeConversationMissing)
	if bad != nil {
		return nil, bad
	}
	c.drop(conv, r.ClearMessage)
	return nil, nil
}

// drop removes a conversation, and the owner's view of its history on demand.
func (c *call) drop(conv *conversation, clearMessages bool) {
	owner := c.accounts[conv.owner]
	delete(owner.conversations, conv.peer)
	if clearMessages {
		owner.cleared[conv.peer] = c.lastMessageID
	}
}

type batchDeleteRequest struct {
	IDs          []string `query:"conversation_ids" items:"100"`
	ClearMessage bool     `query:"clear_message"`
}

func batchDeleteConversations(c *call, r *batchDeleteRequest) (any, *engine.Refusal) {
	var owner accountID
	for _, raw := range r.IDs {
		id, bad := parseConversationID(raw)
		if bad != nil {
			continue // a failed item below
		}
		if owner != "" && owner != id.owner {
			return nil, codeOwnersDiffer.Refuse()
		}
		owner = id.owner
	}
	done, failed := c.eachConversation(r.IDs, func(id conversationID) (*conversation, *engine.Refusal) {
		conv := c.find(id)
		if conv == nil {
			return nil, codeConversationMissing.Refuse()
		}
		c.drop(conv, r.ClearMessage)
		return conv, nil
	})
	return batch[string, failedConversation]{engine.Apply(done, (*conversation).String), failed}, nil
}

// eachConversation runs one step for every id of a batch. Neither list is nil,
// so that an empty one goes out as [].
func (c *call) eachConversation(ids []string, step func(conversationID) (*conversation, *engine.Refusal)) ([]*conversation, []failedConversation) {
	done, failed := []*conversation{}, []failedConversation{}
	for _, raw := range ids {
		var conv *conversation
		id, bad := parseConversationID(raw)
		if bad == nil {
			conv, bad = step(id)
		}
		if bad != nil {
			failed = append(failed, failedConversation{raw, bad.Item()})
			continue
		}
		done = append(done, conv)
	}
	return done, failed
}

// batchGetRequest takes the ids from the query of a GET or the body of a POST:
// one of the vendor's SDKs sends a POST.
type batchGetRequest struct {
	IDs []string `query:"conversation_ids" json:"conversation_ids" items:"100"`
}

func batchGetConversations(c *call, r *batchGetRequest) (any, *engine.Refusal) {
	found, failed := c.eachConversation(r.IDs, func(id conversationID) (*conversation, *engine.Refusal) {
		conv := c.find(id)
		if conv == nil {
			return nil, codeConversationMissing.Refuse()
		}
		return conv, nil
	})
	return batch[conversationView, failedConversation]{engine.Apply(found, c.view), failed}, nil
}

type listConversationsRequest struct {
	AccountID accountID `query:"account_id" required:"true"`
	PageToken string    `query:"page_token"`
	Limit     *int      `query:"limit"`
}

func listConversations(c *call, r *listConversationsRequest) (any, *engine.Refusal) {
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	return c.conversationPage(owner, r, func(*conversation) bool { return true })
}

// conversationPage lists an account's conversations: pinned ones first, then by
// sort_order, newest first.
func (c *call) conversationPage(owner *account, r *listConversationsRequest, keep func(*conversation) bool) (any, *engine.Refusal) {
	limit, bad := engine.PageSize(r.Limit, engine.MaxPage)
	if bad != nil {
		return nil, bad
	}
	cursor, bad := engine.DecodeToken(r.PageToken, 2)
	if bad != nil {
		return nil, bad
	}
	var all []*conversation
	for _, conv := range owner.conversations {
		after := cursor == nil || slices.Compare(conv.rank(), cursor) < 0
		if after && keep(conv) {
			all = append(all, conv)
		}
	}
	slices.SortFunc(all, func(a, b *conversation) int { return slices.Compare(b.rank(), a.rank()) })
	shown := page[conversationView]{Items: engine.Apply(all[:min(limit, len(all))], c.view)}
	if len(all) > limit {
		shown.HasMore, shown.NextToken = true, engine.EncodeToken(all[limit-1].rank()...)
	}
	return shown, nil
}

// rank is what conversations are sorted by, descending.
func (conv *conversation) rank() []int64 {
	if conv.pinned {
		return []int64{1, conv.order}
	}
	return []int64{0, conv.order}
}

package sandbox

import (
	"encoding/json"
	"slices"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var chatroomHistoryOperations = []operation{
	engine.Write("DELETE", "chatrooms/{room_id}/messages/{message_client_id}", recallRoomMessage),
	engine.Read("GET", "chatrooms/{room_id}/messages", listRoomMessages).WithV21(),
}

type recallRoomRequest struct {
	RoomID                int64     `path:"room_id"`
	MessageClientID       string    `path:"message_client_id"`
	OperatorID            accountID `query:"operator_id" required:"true"`
	SenderID              accountID `query:"sender_id" required:"true"`
	CreateTime            int64     `query:"create_time" required:"true"`
	NotificationEnabled   *bool     `query:"notification_enabled" required:"true"`
	NotificationExtension string    `query:"notification_extension" max:"1024"`
}

// recallRoomMessage takes a message out of the history. Whether the clients in
// the room are told makes no difference to this API. The client id stays taken.
func recallRoomMessage(c *call, r *recallRoomRequest) (any, *engine.Refusal) {
	operator, bad := c.account(r.OperatorID)
	if bad != nil {
		return nil, bad
	}
	in, bad := c.room(r.RoomID)
	if bad != nil {
		return nil, bad
	}
	m := in.byClientID[r.MessageClientID]
	if m == nil || !m.inHistory || m.sender != r.SenderID || m.createTime != r.CreateTime {
		return nil, codeMessageMissing.Refusef("%q", r.MessageClientID)
	}
	if operator.id != m.sender && !in.leads(operator.id) {
		return nil, codeRecallForbidden.Refuse()
	}
	m.inHistory = false
	return nil, nil
}

type listRoomRequest struct {
	RoomID     int64     `path:"room_id"`
	SenderID   accountID `query:"sender_id" required:"true"`
	PageToken  string    `query:"page_token"`
	Limit      *int      `query:"limit" required:"true"`
	Descending *bool     `query:"descending"` // inverted on the wire: true = oldest first
	Types      []int     `query:"message_type"`
	TypesToo   []int     `query:"message_types"` // one SDK's name for it
}

type roomHistoryItem struct {
	SenderID         accountID       `json:"sender_id"`
	MessageType      int             `json:"message_type"`
	CreateTime       int64           `json:"create_time"`
	MessageClientID  string          `json:"message_client_id"`
	SenderClientType any             `json:"sender_client_type"` // a string in v2
	Text             string          `json:"text,omitempty"`
	Attachment       json.RawMessage `json:"attachment,omitempty"`
	Extension        string          `json:"extension,omitempty"`
}

// listRoomMessages takes sender_id for the account that looks, as a capture
// suggests, and shows the messages of all senders.
func listRoomMessages(c *call, r *listRoomRequest) (any, *engine.Refusal) {
	limit, bad := engine.PageSize(r.Limit, engine.MaxPage)
	if bad != nil {
		return nil, bad
	}
	types := slices.Concat(r.Types, r.TypesToo)
	if bad := checkTypes(types); bad != nil {
		return nil, bad
	}
	if _, bad := c.account(r.SenderID); bad != nil {
		return nil, bad
	}
	in, bad := c.room(r.RoomID)
	if bad != nil {
		return nil, bad
	}
	visible := engine.Only(in.messages, func(m *roomMessage) bool { return m.inHistory && oneOf(types, m.MessageType) })
	w := engine.Window{End: forever, Oldest: enabled(r.Descending), Limit: limit, Token: r.PageToken}
	return pageOf(w, visible, c.roomItem)
}

func (c *call) roomItem(m *roomMessage) roomHistoryItem {
	return roomHistoryItem{
		m.sender, m.MessageType, m.createTime, m.clientID, c.clientType(), m.Text, m.Attachment, m.extension,
	}
}

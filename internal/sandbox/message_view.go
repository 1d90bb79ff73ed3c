package sandbox

import (
	"strconv"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// The forms in which a message goes out. Where v2 and v2.1 differ, v2.1 says more.

// receiver is the other end in the two fields of which one is present.
func (m *message) receiver() (account string, team int64) {
	if m.to.kind == kindP2P {
		return m.to.id, 0
	}
	team, _ = strconv.ParseInt(m.to.id, 10, 64) // checked when the id was parsed
	return "", team
}

// lastMessage is a message inside a conversation.
type lastMessage struct {
	MessageServerID  int64     `json:"message_server_id"`
	MessageClientID  string    `json:"message_client_id,omitempty"` // v2.1 only
	SenderID         accountID `json:"sender_id"`
	ConversationType int       `json:"conversation_type"`
	SenderClientType int       `json:"sender_client_type,omitempty"` // v2.1 only
	ReceiverID       string    `json:"receiver_id,omitempty"`
	TeamID           int64     `json:"team_id,omitempty"`
	CreateTime       int64     `json:"create_time"`
	content
	Extension string `json:"extension,omitempty"`
}

func (m *message) lastMessage() *lastMessage {
	account, team := m.receiver()
	return &lastMessage{
		MessageServerID: m.serverID, MessageClientID: m.clientID, SenderID: m.sender,
		ConversationType: m.to.kind, SenderClientType: clientREST, ReceiverID: account, TeamID: team,
		CreateTime: m.createTime, content: m.content, Extension: m.extension,
	}
}

// inV2 is the last message as v2 has it.
func (l lastMessage) inV2() *lastMessage {
	l.MessageClientID, l.SenderClientType = "", 0
	return &l
}

// sentMessage answers a send. A team is a receiver_id here.
type sentMessage struct {
	MessageServerID  int64     `json:"message_server_id"`
	MessageClientID  string    `json:"message_client_id,omitempty"` // not in a batch
	SenderID         accountID `json:"sender_id"`
	ConversationType int       `json:"conversation_type"`
	ReceiverID       string    `json:"receiver_id"`
	CreateTime       int64     `json:"create_time"`
	content
	ThreadConfig *threadConfig `json:"thread_config,omitempty"`
}

func (m *message) sentView() sentMessage {
	return sentMessage{
		MessageServerID: m.serverID, MessageClientID: m.clientID, SenderID: m.sender,
		ConversationType: m.to.kind, ReceiverID: m.to.id, CreateTime: m.createTime,
		content: m.content, ThreadConfig: m.thread,
	}
}

// storedMessage answers every query for messages.
type storedMessage struct {
	MessageServerID  int64     `json:"message_server_id"`
	MessageClientID  string    `json:"message_client_id"`
	ConversationType int       `json:"conversation_type,omitempty"`
	SenderID         accountID `json:"sender_id"`
	ReceiverID       string    `json:"receiver_id,omitempty"`
	TeamID           int64     `json:"team_id,omitempty"`
	CreateTime       int64     `json:"create_time"`
	content
	Extension          string      `json:"extension,omitempty"`
	SenderClientType   any         `json:"sender_client_type"` // a string in v2
	ReceiverAccountIDs []accountID `json:"receiver_account_ids,omitempty"`
	Inclusive          *bool       `json:"inclusive,omitempty"`
	NewMemberVisible   *bool       `json:"new_member_visible,omitempty"`
	ModifyAccountID    accountID   `json:"modify_account_id,omitempty"`
	ModifyTime         int64       `json:"modify_time,omitempty"`
	ThreadConfig       any         `json:"thread_config,omitempty"`
}

// stored is a message in the form of the call's version: v2 has nothing about
// targets and writes some numbers as strings.
func (c *call) stored(m *message) storedMessage {
	account, team := m.receiver()
	view := storedMessage{
		MessageServerID: m.serverID, MessageClientID: m.clientID, ConversationType: m.to.kind,
		SenderID: m.sender, ReceiverID: account, TeamID: team, CreateTime: m.createTime,
		content: m.content, Extension: m.extension, SenderClientType: c.clientType(),
		ModifyAccountID: m.modifiedBy, ModifyTime: m.modifyTime,
	}
	switch {
	case m.thread == nil:
	case c.V21:
		view.ThreadConfig = m.thread
	default:
		view.ThreadConfig = threadConfigV2{addressV2(m.thread.Root), addressV2(m.thread.Reply)}
	}
	if m.target != nil && c.V21 {
		view.ReceiverAccountIDs = m.target.accounts
		view.Inclusive, view.NewMemberVisible = &m.target.inclusive, &m.target.newMembers
	}
	return view
}

// clientType is the sender's client, which is a string in v2.
func (c *call) clientType() any {
	if c.V21 {
		return clientREST
	}
	return strconv.Itoa(clientREST)
}

// threaded is stored for the thread query, which in v2 leaves out the type of
// conversation.
func (c *call) threaded(m *message) storedMessage {
	view := c.stored(m)
	if !c.V21 {
		view.ConversationType = 0
	}
	return view
}

// address names a message by everything its callers know of it.
type address struct {
	SenderID        accountID `json:"sender_id" required:"true"`
	ReceiverID      accountID `json:"receiver_id" required:"true"` // or a team id, as text
	CreateTime      int64     `json:"create_time" required:"true"`
	MessageServerID int64     `json:"message_server_id" required:"true"`
	MessageClientID string    `json:"message_client_id" required:"true"`
}

// addressV2 has the id as a string.
type addressV2 struct {
	SenderID        accountID `json:"sender_id"`
	ReceiverID      accountID `json:"receiver_id"`
	CreateTime      int64     `json:"create_time"`
	MessageServerID int64     `json:"message_server_id,string"`
	MessageClientID string    `json:"message_client_id"`
}

type threadConfig struct {
	Root  address `json:"thread_root" required:"true"`
	Reply address `json:"thread_reply" required:"true"`
}

type threadConfigV2 struct {
	Root  addressV2 `json:"thread_root"`
	Reply addressV2 `json:"thread_reply"`
}

// addressed looks up the message that all parts of an address agree on.
func (c *call) addressed(kind int, a address) (*message, *engine.Refusal) {
	to := conversationID{a.SenderID, peer{kind, string(a.ReceiverID)}}
	m, bad := c.message(to.channel(), a.MessageServerID)
	if bad != nil {
		return nil, bad
	}
	if m.address() != a || m.streaming(c.Now) {
		return nil, codeMessageMissing.Refusef("%d", a.MessageServerID)
	}
	return m, nil
}

func (m *message) address() address {
	return address{m.sender, accountID(m.to.id), m.createTime, m.serverID, m.clientID}
}

package sandbox

import (
	"encoding/json"
	"strconv"
)

// The forms in which a message goes out. Where v2 and v2.1 differ there are two
// structs that differ in their tags only, and a conversion between them.

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
	MessageServerID  int64           `json:"message_server_id"`
	MessageClientID  string          `json:"message_client_id"`
	SenderID         accountID       `json:"sender_id"`
	ConversationType int             `json:"conversation_type"`
	SenderClientType int             `json:"sender_client_type"`
	ReceiverID       string          `json:"receiver_id,omitempty"`
	TeamID           int64           `json:"team_id,omitempty"`
	MessageType      int             `json:"message_type"`
	SubType          int             `json:"sub_type,omitempty"`
	CreateTime       int64           `json:"create_time"`
	Text             string          `json:"text,omitempty"`
	Attachment       json.RawMessage `json:"attachment,omitempty"`
	Extension        string          `json:"extension,omitempty"`
}

type lastMessageV2 struct {
	MessageServerID  int64           `json:"message_server_id"`
	MessageClientID  string          `json:"-"`
	SenderID         accountID       `json:"sender_id"`
	ConversationType int             `json:"conversation_type"`
	SenderClientType int             `json:"-"`
	ReceiverID       string          `json:"receiver_id,omitempty"`
	TeamID           int64           `json:"team_id,omitempty"`
	MessageType      int             `json:"message_type"`
	SubType          int             `json:"sub_type,omitempty"`
	CreateTime       int64           `json:"create_time"`
	Text             string          `json:"text,omitempty"`
	Attachment       json.RawMessage `json:"attachment,omitempty"`
	Extension        string          `json:"extension,omitempty"`
}

func (m *message) lastMessage() *lastMessage {
	account, team := m.receiver()
	return &lastMessage{
		MessageServerID: m.serverID, MessageClientID: m.clientID, SenderID: m.sender,
		ConversationType: m.to.kind, SenderClientType: clientREST, ReceiverID: account, TeamID: team,
		MessageType: m.messageType, SubType: m.subType, CreateTime: m.createTime,
		Text: m.text, Attachment: m.attachment, Extension: m.extension,
	}
}

// sentMessage answers a send. A team is a receiver_id here.
type sentMessage struct {
	MessageServerID  int64           `json:"message_server_id"`
	MessageClientID  string          `json:"message_client_id,omitempty"` // not in a batch
	SenderID         accountID       `json:"sender_id"`
	ConversationType int             `json:"conversation_type"`
	ReceiverID       string          `json:"receiver_id"`
	CreateTime       int64           `json:"create_time"`
	MessageType      int             `json:"message_type"`
	SubType          int             `json:"sub_type,omitempty"`
	Text             string          `json:"text,omitempty"`
	Attachment       json.RawMessage `json:"attachment,omitempty"`
	ThreadConfig     *threadConfig   `json:"thread_config,omitempty"`
}

func (m *message) sentView() sentMessage {
	return sentMessage{
		MessageServerID: m.serverID, MessageClientID: m.clientID, SenderID: m.sender,
		ConversationType: m.to.kind, ReceiverID: m.to.id, CreateTime: m.createTime,
		MessageType: m.messageType, SubType: m.subType, Text: m.text, Attachment: m.attachment,
		ThreadConfig: m.thread,
	}
}

// storedMessage answers every query for messages.
type storedMessage struct {
	MessageServerID    int64           `json:"message_server_id"`
	MessageClientID    string          `json:"message_client_id"`
	ConversationType   int             `json:"conversation_type,omitempty"`
	SenderID           accountID       `json:"sender_id"`
	ReceiverID         string          `json:"receiver_id,omitempty"`
	TeamID             int64           `json:"team_id,omitempty"`
	MessageType        int             `json:"message_type"`
	SubType            int             `json:"sub_type,omitempty"`
	CreateTime         int64           `json:"create_time"`
	Text               string          `json:"text,omitempty"`
	Attachment         json.RawMessage `json:"attachment,omitempty"`
	Extension          string          `json:"extension,omitempty"`
	SenderClientType   int             `json:"sender_client_type"`
	ReceiverAccountIDs []accountID     `json:"receiver_account_ids,omitempty"`
	Inclusive          *bool           `json:"inclusive,omitempty"`
	NewMemberVisible   *bool           `json:"new_member_visible,omitempty"`
	ModifyAccountID    accountID       `json:"modify_account_id,omitempty"`
	ModifyTime         int64           `json:"modify_time,omitempty"`
	ThreadConfig       any             `json:"thread_config,omitempty"`
}

// storedMessageV2 has the client type as a string and nothing about targets.
type storedMessageV2 struct {
	MessageServerID    int64           `json:"message_server_id"`
	MessageClientID    string          `json:"message_client_id"`
	ConversationType   int             `json:"conversation_type,omitempty"`
	SenderID           accountID       `json:"sender_id"`
	ReceiverID         string          `json:"receiver_id,omitempty"`
	TeamID             int64           `json:"team_id,omitempty"`
	MessageType        int             `json:"message_type"`
	SubType            int             `json:"sub_type,omitempty"`
	CreateTime         int64           `json:"create_time"`
	Text               string          `json:"text,omitempty"`
	Attachment         json.RawMessage `json:"attachment,omitempty"`
	Extension          string          `json:"extension,omitempty"`
	SenderClientType   int             `json:"sender_client_type,string"`
	ReceiverAccountIDs []accountID     `json:"-"`
	Inclusive          *bool           `json:"-"`
	NewMemberVisible   *bool           `json:"-"`
	ModifyAccountID    accountID       `json:"modify_account_id,omitempty"`
	ModifyTime         int64           `json:"modify_time,omitempty"`
	ThreadConfig       any             `json:"thread_config,omitempty"`
}

// storedView is the message in full, that is, as v2.1 has it.
func (m *message) storedView() storedMessage {
	account, team := m.receiver()
	view := storedMessage{
		MessageServerID: m.serverID, MessageClientID: m.clientID, ConversationType: m.to.kind,
		SenderID: m.sender, ReceiverID: account, TeamID: team,
		MessageType: m.messageType, SubType: m.subType, CreateTime: m.createTime,
		Text: m.text, Attachment: m.attachment, Extension: m.extension, SenderClientType: clientREST,
		ModifyAccountID: m.modifiedBy, ModifyTime: m.modifyTime,
	}
	if m.target != nil {
		view.ReceiverAccountIDs = m.target.accounts
		view.Inclusive, view.NewMemberVisible = &m.target.inclusive, &m.target.newMembers
	}
	if m.thread != nil {
		view.ThreadConfig = m.thread
	}
	return view
}

func (c *call) stored(m *message) any {
	view := m.storedView()
	if c.v21 {
		return view
	}
	if m.thread != nil {
		view.ThreadConfig = threadConfigV2{addressV2(m.thread.Root), addressV2(m.thread.Reply)}
	}
	return storedMessageV2(view)
}

// threaded is stored for the thread query, which in v2 leaves out the type of
// conversation.
func (c *call) threaded(m *message) any {
	view := c.stored(m)
	if old, isV2 := view.(storedMessageV2); isV2 {
		old.ConversationType = 0
		return old
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
func (c *call) addressed(kind int, a address) (*message, *refusal) {
	to := conversationID{a.SenderID, peer{kind, string(a.ReceiverID)}}
	m, bad := c.message(to.channel(), a.MessageServerID)
	if bad != nil {
		return nil, bad
	}
	if m.address() != a || m.streaming(c.now) {
		return nil, refusef(codeMessageMissing, "%d", a.MessageServerID)
	}
	return m, nil
}

func (m *message) address() address {
	return address{m.sender, accountID(m.to.id), m.createTime, m.serverID, m.clientID}
}

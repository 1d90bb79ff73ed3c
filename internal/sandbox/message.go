package sandbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// clientREST is the client type of everything sent over this API.
const clientREST = 32

// fate is what became of a stored message.
type fate int

const (
	kept     fate = iota
	recalled      // gone for everyone
	deleted       // gone for everyone, but history still lists it on demand
)

// message is one stored message. It never leaves its log when it is recalled,
// so that later calls about it get the right code; it goes only when the log is
// full.
type message struct {
	serverID   int64
	clientID   string
	sender     accountID
	to         peer
	createTime int64
	content
	extension string

	countsUnread bool
	inHistory    bool
	target       *target       // nil: for everyone in the conversation
	thread       *threadConfig // nil: no reply
	receipt      *receipt      // nil: no team receipts wanted
	stream       *stream       // nil: was sent in one piece

	fate       fate
	hidden     accountSet // who has no copy: "no sense", or recalled one-way
	modifiedBy accountID
	modifyTime int64
	readAt     int64 // when the P2P receiver confirmed it
	comments   []comment
}

// content is what modifying a message replaces. It goes out as it is.
type content struct {
	MessageType int             `json:"message_type"`
	SubType     int             `json:"sub_type,omitempty"`
	Text        string          `json:"text,omitempty"`
	Attachment  json.RawMessage `json:"attachment,omitempty"`
}

// clientRef is a client message id in the scope in which it must be unique.
type clientRef struct {
	sender   accountID
	clientID string
}

func (m *message) At() (position, time int64) { return m.serverID, m.createTime }

func (m *message) channel() channel { return conversationID{m.sender, m.to}.channel() }

// peerOf is the other end of the conversation in which account sees m.
func (m *message) peerOf(account accountID) peer {
	if m.to.kind == kindP2P && account != m.sender {
		return peer{kindP2P, string(m.sender)}
	}
	return m.to
}

// streaming reports whether more pieces of m may still come.
func (m *message) streaming(now time.Time) bool {
	return m.stream != nil && m.stream.open(now)
}

// reaches reports whether m is in front of an account in any form.
func (m *message) reaches(a *account) bool {
	return m.fate == kept && !m.hidden[a.id] && m.addressed(a)
}

// addressed is reaches without regard to what was recalled or sent unsensed.
func (m *message) addressed(a *account) bool {
	return m.target.includes(a.id, m.sender) && m.serverID > a.cleared[m.peerOf(a.id)]
}

// readable reports whether an account's cloud history holds m. With noSense it
// also holds the copies that "no sense" and one-way operations took away.
func (c *call) readable(m *message, a *account, noSense bool) bool {
	if !m.inHistory || m.streaming(c.Now) {
		return false
	}
	return m.reaches(a) || noSense && m.fate != recalled && m.addressed(a)
}

// message looks up a message of a channel that is still there.
func (c *call) message(ch channel, serverID int64) (*message, *engine.Refusal) {
	m := c.messages[serverID]
	if m == nil || m.fate != kept || m.channel() != ch {
		return nil, codeMessageMissing.Refusef("%d", serverID)
	}
	return m, nil
}

// messageLog holds a channel's messages in the order of their ids.
type messageLog struct {
	messages []*message
}

// after returns the messages behind an id.
func (l *messageLog) after(serverID int64) []*message {
	if l == nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(l.messages, serverID, func(m *message, id int64) int {
		return cmp.Compare(m.serverID, id)
	})
	if found {
		i++
	}
	return l.messages[i:]
}

// store gives a new message its ids and time and puts it in its log. When the
// log is full its oldest message is forgotten altogether.
func (c *call) store(m *message) {
	c.lastMessageID++
	m.serverID, m.createTime = c.lastMessageID, c.Millis()
	if m.clientID == "" {
		m.clientID = fmt.Sprintf("%032x", m.serverID)
	}
	l := c.logs[m.channel()]
	if l == nil {
		l = &messageLog{}
		c.logs[m.channel()] = l
	}
	if len(l.messages) == maxStored {
		oldest := l.messages[0]
		delete(c.messages, oldest.serverID)
		delete(c.sent, clientRef{oldest.sender, oldest.clientID})
		l.messages = slices.Delete(l.messages, 0, 1)
	}
	l.messages = append(l.messages, m)
	c.messages[m.serverID] = m
	c.sent[clientRef{m.sender, m.clientID}] = true
}

// deliver stores a message and moves the conversations of all who have a copy.
func (c *call) deliver(m *message, updateConversation bool) {
	c.store(m)
	if !updateConversation {
		return
	}
	for _, id := range c.audience(m) {
		reader := c.accounts[id]
		if !m.reaches(reader) {
			continue
		}
		conv := c.open(reader, m.peerOf(id), m.serverID-1)
		conv.last, conv.revoked = m.lastMessage(), nil
		conv.updated, conv.order = c.Millis(), c.nextOrder()
	}
}

// audience is the sender and everyone on the other side, sorted.
func (c *call) audience(m *message) []accountID {
	all := accountSet{m.sender: true}
	if m.to.kind == kindP2P {
		all[accountID(m.to.id)] = true
	} else {
		for id := range c.teams[m.to].members {
			all[id] = true
		}
	}
	return all.sorted()
}

// refresh shows the present content of m wherever it is the last message.
func (c *call) refresh(m *message) {
	c.eachLast(m, func(conv *conversation) { conv.last = m.lastMessage() })
}

// eachLast visits the conversations whose last message is m.
func (c *call) eachLast(m *message, visit func(*conversation)) {
	for _, id := range c.audience(m) {
		conv := c.accounts[id].conversations[m.peerOf(id)]
		if conv != nil && conv.last != nil && conv.last.MessageServerID == m.serverID {
			visit(conv)
		}
	}
}

package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// Kinds of conversations.
const (
	kindP2P       = 1
	kindTeam      = 2 // advanced team
	kindSuperTeam = 3
)

// The first ids handed out. Both are above 2^53, so that a client that takes
// them through a double loses digits and shows it.
const (
	firstMessageID = 1232001762022391810
	firstGroupID   = 7012345678901234567
)

// state is everything that the sandbox knows. The engine's lock guards it.
type state struct {
	accounts map[accountID]*account
	teams    map[peer]*team
	rooms    map[int64]*room
	logs     map[channel]*messageLog
	messages map[int64]*message // every stored message by server id
	sent     map[clientRef]bool // client message ids in use
	clock    *engine.Clock

	lastMessageID, lastGroupID, lastOrder int64
}

func newState(clock *engine.Clock) *state {
	return &state{
		accounts:    map[accountID]*account{},
		teams:       map[peer]*team{},
		rooms:       map[int64]*room{},
		logs:        map[channel]*messageLog{},
		messages:    map[int64]*message{},
		sent:        map[clientRef]bool{},
		clock:       clock,
		lastGroupID: firstGroupID - 1,
	}
}

// call is the state as one call sees it.
type call struct {
	*state
	engine.Call
}

// nextOrder returns a sort key: time in microseconds, but never the same twice.
func (c *call) nextOrder() int64 {
	c.lastOrder = max(c.lastOrder+1, c.Now.UnixMicro())
	return c.lastOrder
}

// peer is the other end of a conversation.
type peer struct {
	kind int
	id   string // account, or decimal team id
}

// conversationID names one account's view of a conversation. "a|1|b" and
// "b|1|a" are two conversations over one log of messages.
type conversationID struct {
	owner accountID
	peer
}

func (id conversationID) String() string {
	return fmt.Sprintf("%s|%d|%s", id.owner, id.kind, id.id)
}

// UnmarshalText parses owner|type|peer.
func (id *conversationID) UnmarshalText(text []byte) error {
	parsed, bad := parseConversationID(string(text))
	if bad != nil {
		return fmt.Errorf("%q is not owner|type|peer", text)
	}
	*id = parsed
	return nil
}

func parseConversationID(s string) (conversationID, *engine.Refusal) {
	malformed := engine.BadParameter("%q is not owner|type|peer", s)
	parts := strings.Split(strings.ToLower(s), "|")
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return conversationID{}, malformed
	}
	kind := slices.Index([]string{"1", "2", "3"}, parts[1]) + 1
	switch kind {
	case 0:
		return conversationID{}, malformed
	case kindTeam, kindSuperTeam:
		if n, err := strconv.ParseInt(parts[2], 10, 64); err != nil || strconv.FormatInt(n, 10) != parts[2] {
			return conversationID{}, malformed
		}
	}
	return conversationID{accountID(parts[0]), peer{kind, parts[2]}}, nil
}

// channel names a log of messages: the two accounts of a P2P conversation in
// sorted order, or the team alone.
type channel struct {
	kind int
	a, b string
}

func (id conversationID) channel() channel {
	if id.kind != kindP2P {
		return channel{kind: id.kind, a: id.id}
	}
	owner := string(id.owner)
	return channel{kindP2P, min(owner, id.id), max(owner, id.id)}
}

// ends looks up both ends of a conversation; the team is nil for P2P. Whether
// the owner is in the team is not checked.
func (s *state) ends(id conversationID) (*account, *team, *engine.Refusal) {
	owner, bad := s.account(id.owner)
	if bad != nil {
		return nil, nil, bad
	}
	if id.kind == kindP2P {
		_, bad := s.account(accountID(id.id))
		return owner, nil, bad
	}
	t := s.teams[id.peer]
	if t == nil {
		return nil, nil, codeTeamMissing.Refusef("%s", id.id)
	}
	return owner, t, nil
}

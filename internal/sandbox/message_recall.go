package sandbox

import (
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var messageRecallOperations = []operation{
	engine.Write("DELETE", "conversations/{conversation_id}/messages/{message_server_id}", recallMessage),
	engine.Write("DELETE", "conversations/{conversation_id}/messages", clearMessages),
}

// Types of recall.
const (
	recallOneWay = 1 // the other side's copies go, with a notice
	recallBoth   = 2 // all copies go, with a notice
	recallDelete = 3 // all copies go, nobody is told
)

type messageRequest struct {
	ID       conversationID `path:"conversation_id"`
	ServerID int64          `path:"message_server_id"`
}

type recallRequest struct {
	messageRequest
	Type                 int    `query:"type" required:"true"`
	Description          string `query:"description" max:"1024"`
	PushContent          string `query:"push_content" max:"500"`
	PushPayload          string `query:"push_payload" max:"2048"`
	RouteEnvironment     string `query:"route_environment"`
	Attach               string `query:"attach" max:"1024"`
	CheckTeamMemberValid bool   `query:"check_team_member_valid"`
	MessageTime          int64  `query:"message_time"` // speeds the upstream's look-up
	IgnoreTime           int    `query:"ignore_revoke_time"`
	IgnoreTimeMisspelt   int    `query:"ingore_revoke_time"`
}

func (r *recallRequest) Check() *engine.Refusal {
	if r.Type < recallOneWay || r.Type > recallDelete {
		return engine.BadParameter("type must be 1, 2 or 3")
	}
	if r.Type != recallBoth && r.ID.kind == kindSuperTeam {
		return engine.BadParameter("type %d is not for super teams", r.Type)
	}
	return nil
}

func recallMessage(c *call, r *recallRequest) (any, *engine.Refusal) {
	owner, t, bad := c.ends(r.ID)
	if bad != nil {
		return nil, bad
	}
	if t != nil && r.CheckTeamMemberValid && !t.members[owner.id] {
		return nil, codeNotTeamMember.Refuse()
	}
	m, bad := c.message(r.ID.channel(), r.ServerID)
	if bad != nil {
		return nil, bad
	}
	if bad := c.mayRecall(m, t, r); bad != nil {
		return nil, bad
	}
	c.recall(m, r)
	return nil, nil
}

func (c *call) mayRecall(m *message, t *team, r *recallRequest) *engine.Refusal {
	window := recallWindow
	if r.Type != recallBoth {
		window = oneWayRecallWindow
		if m.target != nil {
			return codeTargetedNoDelete.Refuse()
		}
	}
	ignoreTime := r.IgnoreTime == 1 || r.IgnoreTimeMisspelt == 1
	switch {
	case m.to == peer{kindP2P, string(m.sender)}:
		return codeRecallToSelf.Refuse()
	case m.sender != r.ID.owner && (t == nil || !t.leads(r.ID.owner)):
		return codeRecallForbidden.Refuse()
	case !ignoreTime && c.Now.Sub(time.UnixMilli(m.createTime)) > window:
		return codeRecallTooLate.Refuse()
	}
	return nil
}

// recall takes copies away and, except after a silent deletion, leaves a notice
// where the message was the last one.
func (c *call) recall(m *message, r *recallRequest) {
	var notice *revokeNotification
	if r.Type != recallDelete {
		notice = &revokeNotification{
			ServerID: m.serverID, Attach: r.Attach, RevokeID: r.ID.owner,
			CustomInfo: r.Description, RevokeType: revokeType(m.to.kind, r.Type),
		}
	}
	c.eachLast(m, func(conv *conversation) {
		if r.Type == recallOneWay && conv.owner == m.sender {
			return
		}
		conv.last, conv.revoked, conv.updated = nil, notice, c.Millis()
	})
	switch r.Type {
	case recallBoth:
		m.fate = recalled
	case recallDelete:
		m.fate = deleted
	case recallOneWay:
		for _, id := range c.audience(m) {
			if id != m.sender {
				m.hidden[id] = true
			}
		}
	}
}

// revokeType: 1 P2P both sides, 2 team both sides, 3 P2P one side, 4 team one
// side. (The client SDKs number differently and tell super teams apart.)
func revokeType(kind, recall int) int {
	revoke := 1
	if kind != kindP2P {
		revoke = 2
	}
	if recall == recallOneWay {
		revoke += 2
	}
	return revoke
}

type clearMessagesRequest struct {
	ID   conversationID `path:"conversation_id"`
	Type int            `query:"type" required:"true"`
}

// clearMessages empties the owner's view of a conversation: type 1 roaming, 2
// history, 3 both. Roaming copies only exist for clients that log in, so type 1
// changes nothing that this API shows.
func clearMessages(c *call, r *clearMessagesRequest) (any, *engine.Refusal) {
	if r.Type < 1 || r.Type > 3 {
		return nil, engine.BadParameter("type must be 1, 2 or 3")
	}
	owner, _, bad := c.ends(r.ID)
	if bad != nil {
		return nil, bad
	}
	if r.Type == 1 {
		return nil, nil
	}
	owner.cleared[r.ID.peer] = c.lastMessageID
	if conv := c.find(r.ID); conv != nil {
		conv.last, conv.revoked, conv.updated = nil, nil, c.Millis()
	}
	return nil, nil
}

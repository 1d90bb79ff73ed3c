package sandbox

import (
	"math"
	"slices"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var messageHistoryOperations = []operation{
	engine.Read("GET", "conversations/{conversation_id}/messages/{message_server_id}", getMessage).WithV21(),
	engine.Read("GET", "conversations/{conversation_id}/messages", listMessages).WithV21(),
	engine.Read("POST", "conversations/{conversation_id}/batch_messages", batchGetMessages).WithV21(),
	engine.Read("GET", "messages/actions/thread_messages", listThread).WithV21(),
}

type getMessageRequest struct {
	messageRequest
	MessageTime          int64 `query:"message_time"` // speeds the upstream's look-up
	CheckTeamValid       bool  `query:"check_team_valid"`
	CheckTeamMemberValid bool  `query:"check_team_member_valid"`
}

// getMessage checks the team only on demand; without, a message of a team that
// does not exist is just a missing message.
func getMessage(c *call, r *getMessageRequest) (any, *engine.Refusal) {
	viewer, bad := c.viewer(r.ID, r.CheckTeamValid || r.CheckTeamMemberValid, r.CheckTeamMemberValid)
	if bad != nil {
		return nil, bad
	}
	m, bad := c.readableMessage(r.ID, viewer, r.ServerID)
	if bad != nil {
		return nil, bad
	}
	return c.stored(m), nil
}

// viewer looks up the account whose view of a conversation is asked for.
func (c *call) viewer(id conversationID, checkTeam, checkMember bool) (*account, *engine.Refusal) {
	viewer, t, bad := c.ends(id)
	if bad != nil && bad.Code == codeTeamMissing && !checkTeam {
		return c.account(id.owner)
	}
	if bad == nil && t != nil && checkMember && !t.members[viewer.id] {
		return nil, codeNotTeamMember.Refuse()
	}
	return viewer, bad
}

func (c *call) readableMessage(id conversationID, viewer *account, serverID int64) (*message, *engine.Refusal) {
	m, bad := c.message(id.channel(), serverID)
	if bad == nil && !c.readable(m, viewer, false) {
		bad = codeMessageMissing.Refusef("%d", serverID)
	}
	return m, bad
}

type batchGetMessagesRequest struct {
	ID       conversationID `path:"conversation_id"`
	Messages []messageKey   `json:"messages" items:"100"`
}

type messageKey struct {
	ServerID   int64 `json:"message_server_id" required:"true"`
	CreateTime int64 `json:"create_time" required:"true"`
}

type failedMessage struct {
	messageKey
	engine.ItemError
}

func batchGetMessages(c *call, r *batchGetMessagesRequest) (any, *engine.Refusal) {
	viewer, _, bad := c.ends(r.ID)
	if bad != nil {
		return nil, bad
	}
	found := batch[storedMessage, failedMessage]{[]storedMessage{}, []failedMessage{}}
	for _, key := range r.Messages {
		m, bad := c.readableMessage(r.ID, viewer, key.ServerID)
		if bad != nil || m.createTime != key.CreateTime {
			found.FailedList = append(found.FailedList, failedMessage{key, codeMessageMissing.Refuse().Item()})
			continue
		}
		found.SuccessList = append(found.SuccessList, c.stored(m))
	}
	return found, nil
}

type historyRequest struct {
	BeginTime  *int64 `query:"begin_time" required:"true"`
	EndTime    *int64 `query:"end_time" required:"true"`
	PageToken  string `query:"page_token"`
	Limit      *int   `query:"limit" required:"true"`
	Descending bool   `query:"descending"` // inverted on the wire: true = oldest first
}

func (r *historyRequest) window() (engine.Window, *engine.Refusal) {
	limit, bad := engine.PageSize(r.Limit, engine.MaxPage)
	return engine.Window{Begin: *r.BeginTime, End: *r.EndTime, Oldest: r.Descending, Limit: limit, Token: r.PageToken}, bad
}

type listMessagesRequest struct {
	ID conversationID `path:"conversation_id"`
	historyRequest
	MessageTypes      []int `query:"message_type"`
	CheckTeamValid    *bool `query:"check_team_valid"`
	IncludeNoSenseMsg bool  `query:"include_no_sense_msg"`
}

// listMessages checks team and membership for advanced teams only.
func listMessages(c *call, r *listMessagesRequest) (any, *engine.Refusal) {
	w, bad := r.window()
	if bad != nil {
		return nil, bad
	}
	if bad := checkTypes(r.MessageTypes); bad != nil {
		return nil, bad
	}
	checkTeam := r.ID.kind == kindTeam && enabled(r.CheckTeamValid)
	viewer, bad := c.viewer(r.ID, checkTeam, checkTeam)
	if bad != nil {
		return nil, bad
	}
	visible := engine.Only(c.logs[r.ID.channel()].after(0), func(m *message) bool {
		return oneOf(r.MessageTypes, m.MessageType) && c.readable(m, viewer, r.IncludeNoSenseMsg)
	})
	return pageOf(w, visible, c.stored)
}

// checkTypes checks a filter by message type.
func checkTypes(types []int) *engine.Refusal {
	for _, t := range types {
		if !slices.Contains(queryTypes, t) {
			return engine.BadParameter("message type %d is not known", t)
		}
	}
	return nil
}

// oneOf is the meaning of a filter: an empty one lets everything pass.
func oneOf[T comparable](filter []T, v T) bool {
	return len(filter) == 0 || slices.Contains(filter, v)
}

type listThreadRequest struct {
	historyRequest
	ConversationType int       `query:"conversation_type" required:"true"`
	SenderID         accountID `query:"sender_id" required:"true"`
	ReceiverID       accountID `query:"receiver_id" required:"true"`
	MessageServerID  int64     `query:"message_server_id" required:"true"`
	MessageClientID  string    `query:"message_client_id" required:"true"`
	CreateTime       int64     `query:"create_time" required:"true"`
}

type threadPage struct {
	HasMore    bool            `json:"has_more"`
	NextToken  string          `json:"next_token,omitempty"`
	ThreadRoot storedMessage   `json:"thread_root"`
	Total      int             `json:"total"`
	Timestamp  int64           `json:"timestamp"`
	Messages   []storedMessage `json:"messages"`
}

// listThread names no viewer, so replies to some members only are in it too.
// The total counts all replies, whatever the time range.
func listThread(c *call, r *listThreadRequest) (any, *engine.Refusal) {
	w, bad := r.window()
	if bad != nil {
		return nil, bad
	}
	if r.ConversationType < kindP2P || r.ConversationType > kindSuperTeam {
		return nil, engine.BadParameter("conversation_type must be 1, 2 or 3")
	}
	id := conversationID{r.SenderID, peer{r.ConversationType, string(r.ReceiverID)}}
	if _, _, bad := c.ends(id); bad != nil {
		return nil, bad
	}
	root, bad := c.addressed(r.ConversationType, address{
		r.SenderID, r.ReceiverID, r.CreateTime, r.MessageServerID, r.MessageClientID,
	})
	if bad != nil {
		return nil, bad
	}
	replies := engine.Only(c.logs[id.channel()].after(root.serverID), func(m *message) bool {
		inThread := m.thread != nil && m.thread.Root.MessageServerID == root.serverID
		return inThread && m.fate == kept && m.inHistory && !m.streaming(c.Now)
	})
	page, next, bad := engine.Pick(w, replies)
	if bad != nil {
		return nil, bad
	}
	return threadPage{
		HasMore: next != "", NextToken: next, ThreadRoot: c.threaded(root),
		Total: len(replies), Timestamp: c.Millis(), Messages: engine.Apply(page, c.threaded),
	}, nil
}

// forever is an open end of a time range.
const forever = math.MaxInt64

package sandbox

import (
	"math"
	"slices"
)

type getMessageRequest struct {
	messageRequest
	MessageTime          int64 `query:"message_time"` // speeds the upstream's look-up
	CheckTeamValid       bool  `query:"check_team_valid"`
	CheckTeamMemberValid bool  `query:"check_team_member_valid"`
}

// getMessage checks the team only on demand; without, a message of a team that
// does not exist is just a missing message.
func getMessage(c *call, r *getMessageRequest) (any, *refusal) {
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
func (c *call) viewer(id conversationID, checkTeam, checkMember bool) (*account, *refusal) {
	viewer, t, bad := c.ends(id)
	if bad != nil && bad.code == codeTeamMissing && !checkTeam {
		return c.account(id.owner)
	}
	if bad == nil && t != nil && checkMember && !t.members[viewer.id] {
		return nil, refuse(codeNotTeamMember)
	}
	return viewer, bad
}

func (c *call) readableMessage(id conversationID, viewer *account, serverID int64) (*message, *refusal) {
	m, bad := c.message(id.channel(), serverID)
	if bad == nil && !c.readable(m, viewer, false) {
		bad = refusef(codeMessageMissing, "%d", serverID)
	}
	return m, bad
}

type batchGetMessagesRequest struct {
	ID       conversationID `path:"conversation_id"`
	Messages []messageKey   `json:"messages"`
}

type messageKey struct {
	ServerID   int64 `json:"message_server_id" required:"true"`
	CreateTime int64 `json:"create_time" required:"true"`
}

type failedMessage struct {
	messageKey
	ErrorCode int    `json:"error_code"`
	ErrorMsg  string `json:"error_msg"`
}

type messagesFound struct {
	SuccessList []any           `json:"success_list"`
	FailedList  []failedMessage `json:"failed_list"`
}

func batchGetMessages(c *call, r *batchGetMessagesRequest) (any, *refusal) {
	if bad := checkCount("messages", len(r.Messages), maxBatch); bad != nil {
		return nil, bad
	}
	viewer, _, bad := c.ends(r.ID)
	if bad != nil {
		return nil, bad
	}
	found := messagesFound{[]any{}, []failedMessage{}}
	for _, key := range r.Messages {
		m, bad := c.readableMessage(r.ID, viewer, key.ServerID)
		if bad != nil || m.createTime != key.CreateTime {
			missing := refuse(codeMessageMissing)
			found.FailedList = append(found.FailedList, failedMessage{key, missing.code, missing.msg})
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

func (r *historyRequest) window() (window, *refusal) {
	limit, bad := pageSize(r.Limit, maxPage)
	return window{*r.BeginTime, *r.EndTime, r.Descending, limit, r.PageToken}, bad
}

type listMessagesRequest struct {
	ID conversationID `path:"conversation_id"`
	historyRequest
	MessageTypes      []int `query:"message_type"`
	CheckTeamValid    *bool `query:"check_team_valid"`
	IncludeNoSenseMsg bool  `query:"include_no_sense_msg"`
}

type messagePage struct {
	HasMore   bool   `json:"has_more"`
	NextToken string `json:"next_token,omitempty"`
	Items     []any  `json:"items"`
}

// listMessages checks team and membership for advanced teams only.
func listMessages(c *call, r *listMessagesRequest) (any, *refusal) {
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
	visible := only(c.logs[r.ID.channel()].after(0), func(m *message) bool {
		return oneOf(r.MessageTypes, m.messageType) && c.readable(m, viewer, r.IncludeNoSenseMsg)
	})
	page, next, bad := pick(w, visible)
	if bad != nil {
		return nil, bad
	}
	return messagePage{next != "", next, apply(page, c.stored)}, nil
}

// checkTypes checks a filter by message type.
func checkTypes(types []int) *refusal {
	for _, t := range types {
		if !slices.Contains(queryTypes, t) {
			return badParameter("message type %d is not known", t)
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
	HasMore    bool   `json:"has_more"`
	NextToken  string `json:"next_token,omitempty"`
	ThreadRoot any    `json:"thread_root"`
	Total      int    `json:"total"`
	Timestamp  int64  `json:"timestamp"`
	Messages   []any  `json:"messages"`
}

// listThread names no viewer, so replies to some members only are in it too.
// The total counts all replies, whatever the time range.
func listThread(c *call, r *listThreadRequest) (any, *refusal) {
	w, bad := r.window()
	if bad != nil {
		return nil, bad
	}
	if r.ConversationType < kindP2P || r.ConversationType > kindSuperTeam {
		return nil, badParameter("conversation_type must be 1, 2 or 3")
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
	replies := only(c.logs[id.channel()].after(root.serverID), func(m *message) bool {
		inThread := m.thread != nil && m.thread.Root.MessageServerID == root.serverID
		return inThread && m.fate == kept && m.inHistory && !m.streaming(c.now)
	})
	page, next, bad := pick(w, replies)
	if bad != nil {
		return nil, bad
	}
	return threadPage{
		HasMore: next != "", NextToken: next, ThreadRoot: c.threaded(root),
		Total: len(replies), Timestamp: c.ms(), Messages: apply(page, c.threaded),
	}, nil
}

// forever is an open end of a time range.
const forever = math.MaxInt64

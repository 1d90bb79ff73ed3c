package sandbox

import (
	"slices"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var messageCommentOperations = []operation{
	engine.Write("PATCH", "messages/actions/quick_comment", addQuickComment),
	engine.Write("DELETE", "messages/actions/quick_comment", deleteQuickComment),
	engine.Read("POST", "messages/actions/quick_comment", queryQuickComments),
}

// comment is a quick comment, one per message, operator and index.
type comment struct {
	OperatorID accountID `json:"operator_id"`
	Index      int64     `json:"index"`
	Extension  string    `json:"extension,omitempty"`
	Time       int64     `json:"time"`
}

// messageRef is an address together with the type of conversation.
type messageRef struct {
	ConversationType int `json:"conversation_type" required:"true"`
	address
}

type commentRequest struct {
	OperatorID accountID   `json:"operator_id" required:"true"`
	Index      int64       `json:"index" required:"true"`
	Extension  string      `json:"extension" max:"1024"`
	Message    messageRef  `json:"message" required:"true"`
	PushConfig *pushConfig `json:"push_config"`
}

type commentTime struct {
	Time int64 `json:"time"`
}

// commentable looks up the message and makes sure the operator can see it.
func (c *call) commentable(r *commentRequest) (*message, *engine.Refusal) {
	if r.Index < 1 {
		return nil, engine.BadParameter("index must be positive")
	}
	if bad := r.PushConfig.check(); bad != nil {
		return nil, bad
	}
	operator, bad := c.account(r.OperatorID)
	if bad != nil {
		return nil, bad
	}
	m, bad := c.addressed(r.Message.ConversationType, r.Message.address)
	if bad != nil {
		return nil, bad
	}
	if m.target != nil {
		return nil, codeTargetedNoComment.Refuse()
	}
	if !c.takesPart(operator, m.channel()) || !m.reaches(operator) {
		return nil, codeMessageMissing.Refusef("%d", m.serverID)
	}
	return m, nil
}

// find returns where the request's comment stands, or -1.
func (r *commentRequest) find(comments []comment) int {
	return slices.IndexFunc(comments, func(have comment) bool {
		return have.OperatorID == r.OperatorID && have.Index == r.Index
	})
}

// addQuickComment replaces an earlier comment of the same operator and index.
func addQuickComment(c *call, r *commentRequest) (any, *engine.Refusal) {
	m, bad := c.commentable(r)
	if bad != nil {
		return nil, bad
	}
	added := comment{r.OperatorID, r.Index, r.Extension, c.Millis()}
	if i := r.find(m.comments); i >= 0 {
		m.comments[i] = added
	} else if len(m.comments) >= maxComments {
		return nil, codeCommentLimit.Refuse()
	} else {
		m.comments = append(m.comments, added)
	}
	return commentTime{added.Time}, nil
}

// deleteQuickComment succeeds for a comment that is not there.
func deleteQuickComment(c *call, r *commentRequest) (any, *engine.Refusal) {
	m, bad := c.commentable(r)
	if bad != nil {
		return nil, bad
	}
	if i := r.find(m.comments); i >= 0 {
		m.comments = slices.Delete(m.comments, i, i+1)
	}
	return commentTime{c.Millis()}, nil
}

type queryCommentsRequest struct {
	Messages []messageRef `json:"messages" items:"100"`
}

type commentedMessage struct {
	messageRef
	Comments []comment `json:"comments"`
}

type failedRef struct {
	messageRef
	engine.ItemError
}

func queryQuickComments(c *call, r *queryCommentsRequest) (any, *engine.Refusal) {
	found := batch[commentedMessage, failedRef]{[]commentedMessage{}, []failedRef{}}
	for _, ref := range r.Messages {
		m, bad := c.addressed(ref.ConversationType, ref.address)
		if bad != nil {
			found.FailedList = append(found.FailedList, failedRef{ref, bad.Code.Refuse().Item()})
			continue
		}
		found.SuccessList = append(found.SuccessList, commentedMessage{ref, append([]comment{}, m.comments...)})
	}
	return found, nil
}

package sandbox

import (
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var messageModifyOperations = []operation{
	engine.Write("POST", "messages/actions/modifyMsg", modifyMessage),
}

type modifyRequest struct {
	Operator accountID `json:"operator" required:"true"`
	Type     int       `json:"type" required:"true"`
	Message  struct {
		messageBody
		ServerID   int64     `json:"message_server_id" required:"true"`
		ReceiverID accountID `json:"receiver_id" required:"true"` // or a team id, as text
		Time       int64     `json:"time" required:"true"`
		SenderID   accountID `json:"sender_id" required:"true"`
	} `json:"message" required:"true"`
	delivery
	MessageConfig struct {
		ConversationUpdateEnabled *bool `json:"conversation_update_enabled"`
	} `json:"message_config"`
}

type modifiedMessage struct {
	ModifyAccountID accountID `json:"modify_account_id"`
	ModifyTime      int64     `json:"modify_time"`
	MessageServerID int64     `json:"message_server_id"`
	SenderID        accountID `json:"sender_id"`
	ReceiverID      string    `json:"receiver_id"`
	CreateTime      int64     `json:"create_time"`
	content
	Extension string `json:"extension,omitempty"`
}

func modifyMessage(c *call, r *modifyRequest) (any, *engine.Refusal) {
	made, bad := r.Message.content()
	if bad != nil {
		return nil, bad
	}
	m, bad := c.original(r)
	if bad != nil {
		return nil, bad
	}
	if bad := c.mayModify(m, r); bad != nil {
		return nil, bad
	}
	m.content = made
	m.modifiedBy, m.modifyTime = r.Operator, c.Millis()
	if r.Extension != nil {
		m.extension = *r.Extension
	}
	if enabled(r.MessageConfig.ConversationUpdateEnabled) {
		c.refresh(m)
	}
	return modifiedMessage{
		ModifyAccountID: m.modifiedBy, ModifyTime: m.modifyTime,
		MessageServerID: m.serverID, SenderID: m.sender, ReceiverID: m.to.id, CreateTime: m.createTime,
		content: m.content, Extension: m.extension,
	}, nil
}

// original looks up the message to modify; everything the caller says about it
// must be true.
func (c *call) original(r *modifyRequest) (*message, *engine.Refusal) {
	if r.Type < kindP2P || r.Type > kindSuperTeam {
		return nil, engine.BadParameter("type must be 1, 2 or 3")
	}
	to := peer{r.Type, string(r.Message.ReceiverID)}
	m, bad := c.message(conversationID{r.Message.SenderID, to}.channel(), r.Message.ServerID)
	if bad != nil {
		return nil, bad
	}
	if m.sender != r.Message.SenderID || m.createTime != r.Message.Time || m.streaming(c.Now) {
		return nil, codeMessageMissing.Refusef("%d", r.Message.ServerID)
	}
	return m, nil
}

func (c *call) mayModify(m *message, r *modifyRequest) *engine.Refusal {
	if r.Operator != m.sender {
		if m.to.kind == kindP2P {
			return engine.CodeForbidden.Refusef("only the sender may modify a message")
		}
		if !c.teams[m.to].leads(r.Operator) {
			return codeOwnerOrManagerOnly.Refuse()
		}
	}
	if bad := c.mayPost(conversationID{r.Operator, m.to}, &r.delivery); bad != nil {
		return bad
	}
	if *r.Message.MessageType != m.MessageType {
		return engine.BadParameter("message_type of a message can not change")
	}
	if c.Now.Sub(time.UnixMilli(m.createTime)) > modifyWindow {
		return engine.BadParameter("message is older than 7 days")
	}
	if c.Millis()-m.modifyTime < modifyInterval.Milliseconds() {
		return codeModifyTooFast.Refuse()
	}
	return nil
}

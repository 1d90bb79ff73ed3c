package sandbox

import (
	"encoding/json"
	"slices"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var messageSendOperations = []operation{
	engine.Write("POST", "conversations/{conversation_id}/messages", sendMessage),
	engine.Write("POST", "conversations/messages", batchSendMessages),
}

// sendOptions are the members next to "message" in send and batch send.
type sendOptions struct {
	delivery
	MessageConfig   messageConfig `json:"message_config"`
	SenderNoSense   bool          `json:"sender_no_sense"`
	ReceiverNoSense bool          `json:"receiver_no_sense"`
}

// messageConfig has true as the default of every member. Offline, roaming and
// multi-device copies belong to connected clients, of which there are none.
type messageConfig struct {
	UnreadEnabled             *bool `json:"unread_enabled"`
	MultiSyncEnabled          *bool `json:"mutil_sync_enabled"` // spelt so on the wire
	OfflineEnabled            *bool `json:"offline_enabled"`
	HistoryEnabled            *bool `json:"history_enabled"`
	RoamingEnabled            *bool `json:"roaming_enabled"`
	ConversationUpdateEnabled *bool `json:"conversation_update_enabled"`
}

// enabled reads a flag that defaults to true.
func enabled(flag *bool) bool { return flag == nil || *flag }

type targetOption struct {
	Accounts             []accountID `json:"receiver_account_ids" items:"200"`
	Inclusive            bool        `json:"inclusive"`
	CheckTeamMemberValid bool        `json:"check_team_member_valid"`
	VisibleToNewMember   bool        `json:"visible_to_new_member"`
}

type aiParams struct {
	Account         string          `json:"account"`
	Content         json.RawMessage `json:"content"` // objects in some sources, JSON text in others
	Messages        json.RawMessage `json:"messages"`
	PromptVariables json.RawMessage `json:"prompt_variables"`
	Config          json.RawMessage `json:"config"`
	SendOriginal    *bool           `json:"send_original"`
}

// check refuses AI messages, which the sandbox has no model for.
func (a *aiParams) check() *engine.Refusal {
	if a != nil && a.Account != "" {
		return codeAIDisabled.Refuse()
	}
	return nil
}

type sendMessageRequest struct {
	ID      conversationID `path:"conversation_id"`
	Message struct {
		messageBody
		ClientID string `json:"message_client_id" max:"128"`
	} `json:"message" required:"true"`
	sendOptions
	TargetOption *targetOption `json:"target_option"`
	RobotConfig  struct {
		AccountID     string `json:"robot_account_id"`
		Topic         string `json:"robot_topic"`
		Function      string `json:"robot_function"`
		CustomContent string `json:"robot_custom_content"`
	} `json:"robot_config"`
	ThreadConfig *threadConfig `json:"thread_config"`
	AIParams     *aiParams     `json:"ai_params"`
}

func sendMessage(c *call, r *sendMessageRequest) (any, *engine.Refusal) {
	made, bad := r.Message.content()
	if bad != nil {
		return nil, bad
	}
	if r.RobotConfig.AccountID != "" {
		return nil, codeNotRobot.Refuse()
	}
	if bad := r.AIParams.check(); bad != nil {
		return nil, bad
	}
	m, bad := c.compose(r.ID, &draft{
		content: made, clientID: r.Message.ClientID,
		options: &r.sendOptions, target: r.TargetOption, thread: r.ThreadConfig,
	})
	if bad != nil {
		return nil, bad
	}
	c.deliver(m, enabled(r.MessageConfig.ConversationUpdateEnabled))
	return m.sentView(), nil
}

// Check adds the rule of the "no sense" flags to those of every delivery.
func (o *sendOptions) Check() *engine.Refusal {
	if o.SenderNoSense && o.ReceiverNoSense {
		return codeNobodySenses.Refuse()
	}
	return o.delivery.Check()
}

// draft is a checked message on its way into a conversation.
type draft struct {
	content
	clientID string
	options  *sendOptions
	target   *targetOption
	thread   *threadConfig
}

// compose makes a message out of a draft, or says why it may not be sent.
func (c *call) compose(id conversationID, d *draft) (*message, *engine.Refusal) {
	if bad := c.mayPost(id, &d.options.delivery); bad != nil {
		return nil, bad
	}
	if d.clientID != "" && c.sent[clientRef{id.owner, d.clientID}] {
		return nil, codeDuplicateClientID.Refuse()
	}
	m := &message{
		clientID: d.clientID, sender: id.owner, to: id.peer, content: d.content,
		extension:    value(d.options.Extension),
		countsUnread: enabled(d.options.MessageConfig.UnreadEnabled),
		inHistory:    enabled(d.options.MessageConfig.HistoryEnabled),
		thread:       d.thread,
		hidden:       accountSet{},
	}
	var bad *engine.Refusal
	if m.target, bad = c.aim(id, d.target, d.options.PushConfig); bad != nil {
		return nil, bad
	}
	if bad := c.checkThread(id, d.thread); bad != nil {
		return nil, bad
	}
	if id.kind == kindTeam && d.options.TeamOption.MarkAsRead {
		if len(c.teams[id.peer].members) > maxReceiptTeam {
			return nil, codeReceiptTeamTooBig.Refuse()
		}
		m.receipt = c.newReceipt(m)
	}
	for _, reader := range c.audience(m) {
		noSense := d.options.ReceiverNoSense
		if reader == m.sender {
			noSense = d.options.SenderNoSense
		}
		if noSense {
			m.hidden[reader] = true
		}
	}
	return m, nil
}

// target limits a team message to, or keeps it from, some members.
type target struct {
	accounts   []accountID
	inclusive  bool
	newMembers bool
}

// includes is also right for the nil target: a message for all.
func (t *target) includes(account, sender accountID) bool {
	return t == nil || account == sender || slices.Contains(t.accounts, account) == t.inclusive
}

// aim checks a target_option against the team, and forced push against it.
func (c *call) aim(id conversationID, o *targetOption, push *pushConfig) (*target, *engine.Refusal) {
	if o == nil {
		return nil, nil
	}
	if id.kind == kindP2P {
		return nil, engine.BadParameter("target_option is for teams only")
	}
	isSuper := id.kind == kindSuperTeam
	switch {
	case isSuper && !o.Inclusive:
		return nil, codeTargetSuperExclusive.Refuse()
	case isSuper && o.VisibleToNewMember:
		return nil, codeTargetSuperNewMember.Refuse()
	case o.Inclusive && o.VisibleToNewMember:
		return nil, codeTargetNewMember.Refuse()
	case slices.Contains(o.Accounts, id.owner):
		return nil, codeTargetHasSender.Refuse()
	}
	members := c.teams[id.peer].members
	for _, listed := range o.Accounts {
		if o.CheckTeamMemberValid && !members[listed] {
			return nil, codeNotTeamMember.Refusef("%q", listed)
		}
	}
	t := &target{slices.Clone(o.Accounts), o.Inclusive, o.VisibleToNewMember}
	if push != nil && push.ForcePushEnable && !push.ForcePushAll {
		for _, forced := range push.ForcePushIDs {
			if !t.includes(forced, id.owner) {
				return nil, codeForcePushOutside.Refusef("%q", forced)
			}
		}
	}
	return t, nil
}

// checkThread refuses a reply to messages that are not in the conversation.
func (c *call) checkThread(id conversationID, t *threadConfig) *engine.Refusal {
	if t == nil {
		return nil
	}
	for _, ref := range []address{t.Root, t.Reply} {
		m, bad := c.addressed(id.kind, ref)
		if bad != nil {
			return bad
		}
		if m.channel() != id.channel() {
			return codeMessageMissing.Refusef("%d", ref.MessageServerID)
		}
	}
	return nil
}

type batchSendRequest struct {
	SenderID    accountID   `json:"sender_id" required:"true"`
	ReceiverIDs []accountID `json:"receiver_ids" items:"100"`
	Message     messageBody `json:"message" required:"true"`
	sendOptions
	NeedMessageDetail bool `json:"need_message_detail"`
}

type failedAccount struct {
	AccountID accountID `json:"account_id"`
	engine.ItemError
}

type messagesSent struct {
	SuccessList []sentMessage   `json:"success_list"`
	FailedList  []failedAccount `json:"failed_list,omitempty"`
}

// batchSendMessages sends one message to many accounts. What is wrong with the
// message or its sender fails the call; what is wrong with a receiver fails
// that receiver. Details are always returned, as captures show.
func batchSendMessages(c *call, r *batchSendRequest) (any, *engine.Refusal) {
	made, bad := r.Message.content()
	if bad != nil {
		return nil, bad
	}
	toSelf := conversationID{r.SenderID, peer{kindP2P, string(r.SenderID)}}
	if bad := c.mayPost(toSelf, &delivery{}); bad != nil {
		return nil, bad // it is the sender who may not
	}
	result := messagesSent{SuccessList: []sentMessage{}}
	for _, receiver := range r.ReceiverIDs {
		id := conversationID{r.SenderID, peer{kindP2P, string(receiver)}}
		m, bad := c.compose(id, &draft{content: made, options: &r.sendOptions})
		if bad != nil {
			result.FailedList = append(result.FailedList, failedAccount{receiver, bad.Item()})
			continue
		}
		c.deliver(m, enabled(r.MessageConfig.ConversationUpdateEnabled))
		view := m.sentView()
		view.MessageClientID = ""
		result.SuccessList = append(result.SuccessList, view)
	}
	return result, nil
}

package sandbox

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var chatroomOperations = []operation{
	engine.Write("POST", "chatrooms/{room_id}/messages", sendRoomMessage),
	engine.Write("POST", "chatrooms/messages", batchSendRoomMessages),
}

// room is a chat room. Its messages have no server id: a room and a client
// message id name one.
type room struct {
	id             int64
	creator        accountID
	managers       accountSet
	members        map[accountID]*roomMember
	muted, closed  bool
	messages       []*roomMessage
	byClientID     map[string]*roomMessage
	lastPosition   int64
	prioritySecond int64 // the second in which priorityCount messages had high priority
	priorityCount  int
}

type roomMember struct {
	nick, avatar              string
	muted, tempMuted, blocked bool
}

func (r *room) leads(id accountID) bool { return id == r.creator || r.managers[id] }

type roomMessage struct {
	position     int64
	clientID     string
	sender       accountID
	nick, avatar string
	createTime   int64
	content
	extension    string
	highPriority bool
	abandoned    bool // dropped by abandon_ratio
	inHistory    bool
}

func (m *roomMessage) At() (position, time int64) { return m.position, m.createTime }

func (s *state) room(id int64) (*room, *engine.Refusal) {
	r := s.rooms[id]
	if r == nil {
		return nil, codeRoomMissing.Refusef("%d", id)
	}
	return r, nil
}

// roomOptions are the members next to the message or messages of a send.
type roomOptions struct {
	SenderID       accountID       `json:"sender_id" required:"true"`
	ReceiverIDs    []accountID     `json:"receiver_ids" max:"100"`
	ResendFlag     int             `json:"resend_flag"`
	Extension      string          `json:"extension" max:"1024"`
	MessageConfig  roomConfig      `json:"message_config"`
	RouteConfig    *routeConfig    `json:"route_config"`
	AntispamConfig *antispamConfig `json:"antispam_config"`
}

type roomConfig struct {
	IgnoreChatBanned    bool   `json:"ignore_chat_banned"`
	HistoryEnabled      *bool  `json:"history_enabled"`
	HighPriority        bool   `json:"high_priority"`
	NeedResend          bool   `json:"need_high_priority_msg_resend"`
	AbandonRatio        int    `json:"abandon_ratio"`
	NotifyTargetTags    string `json:"notify_target_tags"`
	ChatMsgPriority     int    `json:"chat_msg_priority"`
	ForbiddenIfTooOften int    `json:"forbidden_if_high_priority_msg_freq"`
}

func (o *roomOptions) Check() *engine.Refusal {
	config := o.MessageConfig
	switch {
	case o.ResendFlag != 0 && o.ResendFlag != 1:
		return engine.BadParameter("resend_flag must be 0 or 1")
	case config.AbandonRatio < 0 || config.AbandonRatio > 9999:
		return engine.BadParameter("abandon_ratio must be 0 to 9999")
	case config.ChatMsgPriority < 0 || config.ChatMsgPriority > 3:
		return engine.BadParameter("chat_msg_priority must be 0 to 3")
	case config.ForbiddenIfTooOften != 0 && config.ForbiddenIfTooOften != 1:
		return engine.BadParameter("forbidden_if_high_priority_msg_freq must be 0 or 1")
	}
	return nil
}

type roomBody struct {
	messageBody
	ClientID  string  `json:"message_client_id" required:"true"`
	LocationX float64 `json:"location_x"`
	LocationY float64 `json:"location_y"`
	LocationZ float64 `json:"location_z"`
}

// roomView is a sent message as the answer shows it.
type roomView struct {
	MessageClientID string    `json:"message_client_id"`
	CreateTime      int64     `json:"create_time"`
	SenderID        accountID `json:"sender_id"`
	SenderNick      string    `json:"sender_nick"`
	SenderAvatar    string    `json:"sender_avatar"`
	RoomID          int64     `json:"room_id"`
	HighPriority    bool      `json:"high_priority"`
	MsgAbandon      bool      `json:"msg_abandon,omitempty"`
	content
}

func (r *room) view(m *roomMessage) roomView {
	return roomView{
		MessageClientID: m.clientID, CreateTime: m.createTime,
		SenderID: m.sender, SenderNick: m.nick, SenderAvatar: m.avatar, RoomID: r.id,
		HighPriority: m.highPriority, MsgAbandon: m.abandoned,
		content: m.content,
	}
}

type sendRoomRequest struct {
	RoomID int64 `path:"room_id"`
	roomOptions
	Message  roomBody  `json:"message" required:"true"`
	AIParams *aiParams `json:"ai_params"`
}

type roomMessageSent struct {
	Message    roomView        `json:"message"`
	FailedList []failedAccount `json:"failed_list,omitempty"`
}

func sendRoomMessage(c *call, r *sendRoomRequest) (any, *engine.Refusal) {
	if bad := r.AIParams.check(); bad != nil {
		return nil, bad
	}
	to, failed, bad := c.enter(r.RoomID, &r.roomOptions)
	if bad != nil {
		return nil, bad
	}
	m, bad := c.sendTo(to, &r.roomOptions, &r.Message)
	if bad != nil {
		return nil, bad
	}
	return roomMessageSent{to.view(m), failed}, nil
}

type batchRoomRequest struct {
	RoomID int64 `json:"room_id" required:"true"`
	roomOptions
	Messages []roomBody `json:"messages" items:"20"`
}

type failedRoomMessage struct {
	MessageClientID string `json:"message_client_id"`
	engine.ItemError
}

// roomFailures is the one element of failed_list. The sources disagree about
// that list; this is the array of objects that one of them declares.
type roomFailures struct {
	Accounts []failedAccount     `json:"failed_account_ids"`
	Messages []failedRoomMessage `json:"failed_messages"`
}

type roomMessagesSent struct {
	SuccessList []roomView     `json:"success_list"`
	FailedList  []roomFailures `json:"failed_list,omitempty"`
}

func batchSendRoomMessages(c *call, r *batchRoomRequest) (any, *engine.Refusal) {
	to, failed, bad := c.enter(r.RoomID, &r.roomOptions)
	if bad != nil {
		return nil, bad
	}
	result := roomMessagesSent{SuccessList: []roomView{}}
	failures := roomFailures{append([]failedAccount{}, failed...), []failedRoomMessage{}}
	for i := range r.Messages {
		m, bad := c.sendTo(to, &r.roomOptions, &r.Messages[i])
		if bad != nil {
			failures.Messages = append(failures.Messages, failedRoomMessage{r.Messages[i].ClientID, bad.Item()})
			continue
		}
		result.SuccessList = append(result.SuccessList, to.view(m))
	}
	if len(failures.Accounts)+len(failures.Messages) > 0 {
		result.FailedList = []roomFailures{failures}
	}
	return result, nil
}

// enter checks room and sender, and lists the receivers of a directed message
// who are not there. The sender need not be a member.
func (c *call) enter(id int64, o *roomOptions) (*room, []failedAccount, *engine.Refusal) {
	sender, bad := c.account(o.SenderID)
	if bad != nil {
		return nil, nil, bad
	}
	r, bad := c.room(id)
	if bad != nil {
		return nil, nil, bad
	}
	if bad := r.mayPost(sender, o); bad != nil {
		return nil, nil, bad
	}
	var failed []failedAccount
	for _, receiver := range o.ReceiverIDs {
		if r.members[receiver] == nil {
			failed = append(failed, failedAccount{receiver, codeRoomMemberMissing.Refuse().Item()})
		}
	}
	return r, failed, nil
}

// mayPost decides whether an account may send to the room.
func (r *room) mayPost(sender *account, o *roomOptions) *engine.Refusal {
	member := cmp.Or(r.members[sender.id], &roomMember{})
	switch {
	case r.closed:
		return codeRoomClosed.Refuse()
	case sender.banned:
		return codeAccountBanned.Refuse()
	case sender.muted:
		return codeAccountMuted.Refuse()
	case member.blocked:
		return codeRoomMemberBlockListed.Refuse()
	case r.muted && !r.leads(sender.id):
		return codeRoomMuted.Refuse()
	case member.muted:
		return codeRoomMemberMuted.Refuse()
	case member.tempMuted && !o.MessageConfig.IgnoreChatBanned:
		return codeRoomTempMuted.Refuse()
	default:
		return nil
	}
}

// sendTo stores one message, or returns the one it repeats.
func (c *call) sendTo(r *room, o *roomOptions, body *roomBody) (*roomMessage, *engine.Refusal) {
	made, bad := body.content()
	if bad != nil {
		return nil, bad
	}
	if bad := engine.CheckLength("message_client_id", body.ClientID, maxClientID); bad != nil {
		return nil, bad
	}
	if first := r.byClientID[body.ClientID]; first != nil {
		if o.ResendFlag == 1 {
			return first, nil
		}
		return nil, codeDuplicateClientID.Refuse()
	}
	config := o.MessageConfig
	high := config.HighPriority && r.takePriority(c.Now)
	if config.HighPriority && !high && config.ForbiddenIfTooOften == 1 {
		return nil, engine.CodeForbidden.Refusef("more than %d high priority messages per second", maxHighPriority)
	}
	m := &roomMessage{
		clientID: body.ClientID, sender: o.SenderID, nick: c.accounts[o.SenderID].name,
		createTime: c.Millis(), content: made, extension: o.Extension,
		highPriority: high, abandoned: abandon(body.ClientID, config.AbandonRatio),
	}
	m.inHistory = enabled(config.HistoryEnabled) && len(o.ReceiverIDs) == 0 && !m.abandoned
	if member := r.members[o.SenderID]; member != nil {
		m.nick, m.avatar = cmp.Or(member.nick, m.nick), member.avatar
	}
	r.store(m)
	return m, nil
}

// takePriority counts a high priority message and reports whether it fits.
func (r *room) takePriority(now time.Time) bool {
	if second := now.Unix(); second != r.prioritySecond {
		r.prioritySecond, r.priorityCount = second, 0
	}
	r.priorityCount++
	return r.priorityCount <= maxHighPriority
}

// abandon decides by the client id, so that it is a matter of chance but the
// same in every run.
func abandon(clientID string, ratio int) bool {
	h := fnv.New32a()
	h.Write([]byte(clientID))
	return int(h.Sum32()%10000) < ratio
}

func (r *room) store(m *roomMessage) {
	r.lastPosition++
	m.position = r.lastPosition
	if len(r.messages) == maxStored {
		delete(r.byClientID, r.messages[0].clientID)
		r.messages = slices.Delete(r.messages, 0, 1)
	}
	r.messages = append(r.messages, m)
	r.byClientID[m.clientID] = m
}

package e2e

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// TestRandomReplies lets the upstream tell of random conversations and messages,
// in random forms, and compares what a caller sees with what was told.
func TestRandomReplies(t *testing.T) {
	r := newRig(t)
	ask := func(rt *rapid.T, rpc, request, data string, want proto.Message) {
		r.answerData(data)
		o, err := r.try(t.Context(), rapid.SampledFrom(doorNames).Draw(rt, "door"), rpc, []byte(request))
		if err != nil {
			rt.Fatal(err)
		}
		if o.status != nil {
			rt.Fatalf("failed: %v\nthe upstream said %s", o, data)
		}
		if diff := cmp.Diff(want, o.reply, protocmp.Transform()); diff != "" {
			rt.Fatalf("reply differs (-want +have):\n%s\nthe upstream said %s", diff, data)
		}
	}
	t.Run("conversation", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			c, data := drift{rt}.conversation()
			ask(rt, "ConversationService/GetConversation", `{"conversation_id":"a|1|b"}`, data, &imv1.GetConversationResponse{Conversation: c})
		})
	})
	t.Run("message", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			m, data := drift{rt}.message(false)
			ask(rt, "MessageService/GetMessage", `{"conversation_id":"a|1|b","message_server_id":1}`, data, &imv1.GetMessageResponse{Message: m})
		})
	})
	t.Run("message of a chat room", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			d := drift{rt}
			m, data := d.chatroomMessage()
			ask(rt, "ChatroomMessageService/ListChatroomMessages", `{"room_id":1,"sender_id":"a"}`, d.object(member{"items", "[" + data + "]"}),
				&imv1.ListChatroomMessagesResponse{Messages: []*imv1.ChatroomMessage{m}})
		})
	})
}

// conversation draws a conversation and how the upstream tells of it.
func (d drift) conversation() (c *imv1.Conversation, data string) {
	t := d.T
	c = &imv1.Conversation{
		ConversationId:  someText.Draw(t, "conversation_id"),
		SenderId:        anyText.Draw(t, "sender_id"),
		ReceiverId:      anyText.Draw(t, "receiver_id"),
		Type:            imv1.ConversationType(rapid.Int32().Draw(t, "type")),
		Pinned:          maybe(t, "pinned", rapid.Bool()),
		GroupIds:        rapid.SliceOfN(rapid.Int64(), 0, 5).Draw(t, "group_ids"),
		ServerExtension: maybe(t, "server_extension", anyText),
		MessageState:    imv1.MessageState(rapid.Int32Range(0, 2).Draw(t, "message_state")),
		UnreadCount:     maybe(t, "unread_count", rapid.Int32()),
		SortOrder:       rapid.Int64().Draw(t, "sort_order"),
		CreateTime:      maybeInstant(t, "create_time"),
		UpdateTime:      maybeInstant(t, "update_time"),
		LastReadTime:    maybeInstant(t, "last_read_time"),
	}
	state := ""
	if c.GetMessageState() != 0 {
		state = d.number(int64(c.GetMessageState()) - 1) // normal is 0 there, and here it is "not reported"
	}
	last, revoked := "", ""
	if rapid.Bool().Draw(t, "last_message given") {
		c.LastMessage, last = d.message(rapid.Bool().Draw(t, "as the request that sent it"))
	}
	if rapid.Bool().Draw(t, "revoke_notification given") {
		c.RecallNotification, revoked = d.notice()
	}
	notice := rapid.SampledFrom([]string{"revoke_notification", "revoke_message"}).Draw(t, "name of the notice")
	return c, d.object(
		member{"conversation_id", d.text(c.GetConversationId())},
		member{"sender_id", d.filled(c.GetSenderId())},
		member{"receiver_id", d.filled(c.GetReceiverId())},
		member{"type", d.integer(int64(c.GetType()))},
		member{"stick_top", d.boolean(c.Pinned)},
		member{"group_ids", array(c.GetGroupIds(), d.number)},
		member{"server_extension", d.optional(c.ServerExtension)},
		member{"message_state", state},
		member{"last_message", last},
		member{notice, revoked},
		member{"unread_count", d.number32(c.UnreadCount)},
		member{"sort_order", d.integer(c.GetSortOrder())},
		member{"create_time", d.time(c.GetCreateTime())},
		member{"update_time", d.time(c.GetUpdateTime())},
		member{"last_read_time", d.time(c.GetLastReadTime())},
		member{"of the future", jsonValue(t, 2)},
	)
}

func (d drift) notice() (n *imv1.RecallNotification, data string) {
	t := d.T
	n = &imv1.RecallNotification{
		MessageServerId: rapid.Int64().Draw(t, "server_id"),
		Attach:          someText.Draw(t, "attach"),
		OperatorId:      anyText.Draw(t, "revoke_id"),
		CustomInfo:      anyText.Draw(t, "custom_info"),
		RecallType:      imv1.RecallType(rapid.Int32().Draw(t, "revoke_type")),
	}
	return n, d.object(
		member{"server_id", d.integer(n.GetMessageServerId())},
		member{"attach", d.text(n.GetAttach())},
		member{"revoke_id", d.filled(n.GetOperatorId())},
		member{"custom_info", d.filled(n.GetCustomInfo())},
		member{"revoke_type", d.integer(int64(n.GetRecallType()))},
	)
}

// message draws a message; wrapped puts its content one level deeper, in which
// form some pages show the last message of a conversation.
func (d drift) message(wrapped bool) (m *imv1.Message, data string) {
	t := d.T
	m = &imv1.Message{
		MessageServerId:    rapid.Int64().Draw(t, "message_server_id"),
		MessageClientId:    someText.Draw(t, "message_client_id"),
		ConversationType:   imv1.ConversationType(rapid.Int32Range(0, 3).Draw(t, "conversation_type")),
		SenderId:           anyText.Draw(t, "sender_id"),
		ReceiverId:         anyText.Draw(t, "receiver_id"),
		TeamId:             rapid.Int64().Draw(t, "team_id"),
		CreateTime:         maybeInstant(t, "create_time"),
		Extension:          maybe(t, "extension", anyText),
		SenderClientType:   imv1.ClientType(rapid.Int32().Draw(t, "sender_client_type")),
		ReceiverAccountIds: rapid.SliceOfN(anyText, 0, 3).Draw(t, "receiver_account_ids"),
		Inclusive:          maybe(t, "inclusive", rapid.Bool()),
		VisibleToNewMember: maybe(t, "visible_to_new_member", rapid.Bool()),
		ModifyAccountId:    anyText.Draw(t, "modify_account_id"),
		ModifyTime:         maybeInstant(t, "modify_time"),
	}
	content, members := d.content()
	m.Content = content
	thread := ""
	if rapid.Bool().Draw(t, "thread_config given") {
		root, rootData := d.threadMessage()
		reply, replyData := d.threadMessage()
		m.ThreadConfig = &imv1.ThreadConfig{ThreadRoot: root, ThreadReply: reply}
		thread = d.object(member{"thread_root", rootData}, member{"thread_reply", replyData})
	}
	if wrapped {
		members = []member{{"message", d.object(members...)}}
	}
	visible := rapid.SampledFrom([]string{"new_member_visible", "visible_to_new_member"}).Draw(t, "name of the visibility")
	return m, d.object(append(members,
		member{"message_server_id", d.integer(m.GetMessageServerId())},
		member{"message_client_id", d.text(m.GetMessageClientId())},
		member{"conversation_type", d.integer(int64(m.GetConversationType()))},
		member{"sender_id", d.filled(m.GetSenderId())},
		member{"receiver_id", d.filled(m.GetReceiverId())},
		member{"team_id", d.integer(m.GetTeamId())},
		member{"create_time", d.time(m.GetCreateTime())},
		member{"extension", d.optional(m.Extension)},
		member{"sender_client_type", d.integer(int64(m.GetSenderClientType()))},
		member{"receiver_account_ids", array(m.GetReceiverAccountIds(), d.text)},
		member{"inclusive", d.boolean(m.Inclusive)},
		member{visible, d.boolean(m.VisibleToNewMember)},
		member{"modify_account_id", d.filled(m.GetModifyAccountId())},
		member{"modify_time", d.time(m.GetModifyTime())},
		member{"thread_config", thread},
	)...)
}

func (d drift) chatroomMessage() (m *imv1.ChatroomMessage, data string) {
	t := d.T
	content, members := d.content()
	m = &imv1.ChatroomMessage{
		MessageClientId:  someText.Draw(t, "message_client_id"),
		CreateTime:       maybeInstant(t, "create_time"),
		SenderId:         anyText.Draw(t, "sender_id"),
		SenderNick:       maybe(t, "sender_nick", anyText),
		SenderAvatar:     maybe(t, "sender_avatar", anyText),
		RoomId:           rapid.Int64().Draw(t, "room_id"),
		Content:          content,
		HighPriority:     maybe(t, "high_priority", rapid.Bool()),
		Abandoned:        maybe(t, "msg_abandon", rapid.Bool()),
		Extension:        maybe(t, "extension", anyText),
		SenderClientType: imv1.ClientType(rapid.Int32().Draw(t, "sender_client_type")),
	}
	answered := ""
	if rapid.Bool().Draw(t, "replay_message given") {
		m.ReplyTo = &imv1.ChatroomReply{
			MessageClientId: someText.Draw(t, "answered"), CreateTime: maybeInstant(t, "time of the answered"), SenderId: anyText.Draw(t, "answered sender"),
		}
		answered = d.object(
			member{"message_client_id", d.text(m.GetReplyTo().GetMessageClientId())},
			member{"create_time", d.time(m.GetReplyTo().GetCreateTime())},
			member{"sender_id", d.filled(m.GetReplyTo().GetSenderId())},
		)
	}
	return m, d.object(append(members,
		member{"message_client_id", d.text(m.GetMessageClientId())},
		member{"create_time", d.time(m.GetCreateTime())},
		member{"sender_id", d.filled(m.GetSenderId())},
		member{"sender_nick", d.optional(m.SenderNick)},
		member{"sender_avatar", d.optional(m.SenderAvatar)},
		member{"room_id", d.integer(m.GetRoomId())},
		member{"high_priority", d.boolean(m.HighPriority)},
		member{"msg_abandon", d.boolean(m.Abandoned)},
		member{"extension", d.optional(m.Extension)},
		member{"sender_client_type", d.integer(int64(m.GetSenderClientType()))},
		member{"replay_message", answered},
	)...)
}

func (d drift) threadMessage() (m *imv1.MessageReference, data string) {
	t := d.T
	m = &imv1.MessageReference{
		SenderId:        new(someText.Draw(t, "thread sender")), // an empty object is an absent message,
		ReceiverId:      maybe(t, "thread receiver", anyText),
		CreateTime:      maybeInstant(t, "thread time"),
		MessageServerId: rapid.Int64().Draw(t, "thread id"),
		MessageClientId: maybe(t, "thread client id", anyText),
	}
	return m, d.object(
		member{"sender_id", d.text(m.GetSenderId())},
		member{"receiver_id", d.optional(m.ReceiverId)},
		member{"create_time", d.time(m.GetCreateTime())},
		member{"message_server_id", d.integer(m.GetMessageServerId())},
		member{"message_client_id", d.optional(m.MessageClientId)},
	)
}

// content draws what a message says, and the members of the message for it.
func (d drift) content() (*imv1.MessageContent, []member) {
	t := d.T
	kind := rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6, 10, 12, 77, 100}).Draw(t, "message_type")
	tag := member{"message_type", d.number(int64(kind))}
	sub := maybe(t, "sub_type", rapid.Int32())
	rest := []member{tag, {"sub_type", d.number32(sub)}}
	if kind == 0 || kind == 10 {
		said := anyText.Draw(t, "text")
		c := &imv1.MessageContent{Kind: &imv1.MessageContent_Text{Text: said}, SubType: sub}
		if kind == 10 {
			c.Kind = &imv1.MessageContent_Tip{Tip: said}
		}
		return c, append(rest, member{"text", d.text(said)})
	}
	c, value := d.attached(kind)
	c.SubType, c.Description = sub, maybe(t, "description", anyText)
	return c, append(rest, member{"text", d.optional(c.Description)}, member{"attachment", value})
}

func (d drift) attached(kind int) (c *imv1.MessageContent, value string) {
	t := d.T
	switch kind {
	case 4:
		more, extra := maybeExtra(t)
		place := &imv1.MessageContent_Location{
			Title: maybe(t, "title", anyText), Longitude: maybe(t, "lng", rapid.Float64()),
			Latitude: maybe(t, "lat", rapid.Float64()), Extra: extra,
		}
		value = d.object(more, member{"title", d.optional(place.Title)},
			member{"lng", d.decimal(place.Longitude)}, member{"lat", d.decimal(place.Latitude)})
		return &imv1.MessageContent{Kind: &imv1.MessageContent_Location_{Location: place}}, value
	case 5:
		data := jsonObject(t, 2)
		note := &imv1.MessageContent_Notification{Id: maybe(t, "id", rapid.Int64()), Data: &data}
		value = d.object(member{"id", d.number64(note.Id)}, member{"data", data})
		return &imv1.MessageContent{Kind: &imv1.MessageContent_Notification_{Notification: note}}, value
	case 12:
		value = jsonObject(t, 2)
		return &imv1.MessageContent{Kind: &imv1.MessageContent_CallRecord{CallRecord: value}}, value
	case 77:
		value = jsonValue(t, 2)
		number := int32(kind)
		other := &imv1.MessageContent_Other{MessageType: &number, Attachment: &value}
		return &imv1.MessageContent{Kind: &imv1.MessageContent_Other_{Other: other}}, value
	case 100:
		value = jsonObject(t, 3)
		return &imv1.MessageContent{Kind: &imv1.MessageContent_Custom{Custom: value}}, value
	default:
		c, members := attachment(d, kind)
		return c, d.object(members...)
	}
}

func (d drift) decimal(x *float64) string {
	if x == nil {
		return ""
	}
	digits := strconv.FormatFloat(*x, 'g', -1, 64)
	if d.maybe("number as text") {
		return quote(digits)
	}
	return digits
}

package e2e

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// someLetter draws a message and a chat, mostly one that the message belongs to.
// If there is no message, it is one that does not exist.
func (m *machine) someLetter(t *rapid.T) (id chatID, l *letter) {
	t.Helper()
	if len(m.letters) == 0 {
		from := anyID.Draw(t, "id")
		return from, &letter{from: from, shown: &imv1.Message{MessageServerId: 1, CreateTime: m.stamp()}}
	}
	switch rapid.IntRange(0, 2).Draw(t, "which") {
	case 0: // the same as before
	case 1:
		m.recent = m.letters[rapid.IntRange(max(0, len(m.letters)-3), len(m.letters)-1).Draw(t, "new message")]
	default:
		m.recent = rapid.SampledFrom(m.letters).Draw(t, "message")
	}
	l = m.recent
	switch rapid.IntRange(0, 9).Draw(t, "seen by") {
	case 0:
		return anyID.Draw(t, "id"), l
	case 1, 2, 3, 4, 5:
		return l.from, l
	default:
		return l.in(rapid.SampledFrom(l.audience()).Draw(t, "account")), l
	}
}

// saying draws what a message says, and its type.
func saying(t *rapid.T, kind imv1.MessageType) *imv1.MessageContent {
	t.Helper()
	n := strconv.Itoa(rapid.IntRange(0, 99).Draw(t, "content"))
	content := &imv1.MessageContent{SubType: rapid.Ptr(rapid.Int32Range(1, 3), true).Draw(t, "sub_type")}
	switch kind {
	case imv1.MessageType_MESSAGE_TYPE_TIP:
		content.Kind = &imv1.MessageContent_Tip{Tip: "tip " + n}
	case imv1.MessageType_MESSAGE_TYPE_CUSTOM:
		content.Kind = &imv1.MessageContent_Custom{Custom: `{"n":` + n + `}`}
		content.Description = new("description " + n)
	case imv1.MessageType_MESSAGE_TYPE_IMAGE:
		content.Kind = &imv1.MessageContent_Image_{Image: &imv1.MessageContent_Image{Url: "https://example.com/" + n, Width: new(int32(len(n)))}}
	default:
		content.Kind = &imv1.MessageContent_Text{Text: "text " + n}
	}
	return content
}

var kinds = rapid.SampledFrom([]imv1.MessageType{
	imv1.MessageType_MESSAGE_TYPE_TEXT, imv1.MessageType_MESSAGE_TYPE_TIP,
	imv1.MessageType_MESSAGE_TYPE_CUSTOM, imv1.MessageType_MESSAGE_TYPE_IMAGE,
})

// flag draws a flag that is mostly left out.
func flag(t *rapid.T, name string) *bool {
	t.Helper()
	return rapid.SampledFrom([]*bool{nil, nil, nil, new(false), new(true)}).Draw(t, name)
}

// on reports whether a flag is set that is true unless set.
func on(flag *bool) bool { return flag == nil || *flag }

func (m *machine) SendMessage(t *rapid.T) {
	id, kind := anyID.Draw(t, "id"), kinds.Draw(t, "type")
	content := saying(t, kind)
	config := &imv1.MessageConfig{
		UnreadEnabled: flag(t, "unread_enabled"), HistoryEnabled: flag(t, "history_enabled"),
		ConversationUpdateEnabled: flag(t, "conversation_update_enabled"),
		RoamingEnabled:            flag(t, "roaming_enabled"), OfflineEnabled: flag(t, "offline_enabled"), MultiSyncEnabled: flag(t, "multi_sync_enabled"),
	}
	request := &imv1.SendMessageRequest{
		ConversationId: id.String(), MessageConfig: config,
		Message: &imv1.NewMessage{
			Content: content, MessageClientId: rapid.SampledFrom([]string{"", "", "", "c1", "c2", "c3", "c4"}).Draw(t, "message_client_id"),
		},
		Extension: rapid.Ptr(extension, true).Draw(t, "extension"),
	}
	switch rapid.IntRange(0, 6).Draw(t, "no sense") {
	case 1:
		request.SenderNoSense = new(true)
	case 2:
		request.ReceiverNoSense = new(true)
	}
	want := id.mayPost()
	if clientID := request.GetMessage().GetMessageClientId(); want == 0 && m.used(id.owner, clientID) {
		want = clientIDUsed
	}
	reply, err := m.messages.SendMessage(t.Context(), request)
	if refused(t, err, want) {
		return
	}
	l := m.sent(t, id, request, reply.GetMessage())
	l.kind = kind
	m.recent = l
	m.send(l, on(config.ConversationUpdateEnabled))
}

// used reports whether a sender has given a client id to a message.
func (w *world) used(sender, clientID string) bool {
	return clientID != "" && slices.ContainsFunc(w.letters, func(l *letter) bool {
		return l.from.owner == sender && l.shown.GetMessageClientId() == clientID
	})
}

// sent makes a letter of a message that was sent. The upstream's ids are taken
// from the reply.
func (m *machine) sent(t *rapid.T, id chatID, request *imv1.SendMessageRequest, reply *imv1.Message) *letter {
	t.Helper()
	shown := &imv1.Message{
		MessageServerId: reply.GetMessageServerId(), MessageClientId: request.GetMessage().GetMessageClientId(),
		ConversationType: imv1.ConversationType_CONVERSATION_TYPE_P2P, SenderId: id.owner, ReceiverId: id.peer,
		CreateTime: m.stamp(), Content: request.GetMessage().GetContent(),
	}
	if shown.GetMessageClientId() == "" {
		shown.MessageClientId = reply.GetMessageClientId()
	}
	if id.kind == kindOfTeam {
		shown.ConversationType = imv1.ConversationType_CONVERSATION_TYPE_TEAM
	}
	equal(t, "reply", shown, reply) // names a team as the receiver, and leaves out the extension
	newest := int64(0)
	if n := len(m.letters); n > 0 {
		newest = m.letters[n-1].shown.GetMessageServerId()
	}
	if shown.GetMessageServerId() <= newest || m.used(id.owner, reply.GetMessageClientId()) || reply.GetMessageClientId() == "" {
		t.Fatalf("the ids are no new ones: %v", reply)
	}
	shown = proto.CloneOf(shown)
	shown.Extension, shown.SenderClientType = orNil(request.GetExtension()), imv1.ClientType_CLIENT_TYPE_REST
	if id.kind == kindOfTeam {
		team, err := strconv.ParseInt(id.peer, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		shown.ReceiverId, shown.TeamId = "", team
	}
	config := request.GetMessageConfig()
	l := &letter{from: id, shown: shown, counts: on(config.UnreadEnabled), stored: on(config.HistoryEnabled), hidden: map[string]bool{}}
	for _, account := range l.audience() {
		if account == id.owner && request.GetSenderNoSense() || account != id.owner && request.GetReceiverNoSense() {
			l.hidden[account] = true
		}
	}
	return l
}

func (m *machine) UpdateMessage(t *rapid.T) {
	_, l := m.someLetter(t)
	operator := l.from.owner
	if rapid.IntRange(0, 3).Draw(t, "any operator") == 0 {
		operator = owners.Draw(t, "operator")
	}
	kind := l.kind
	if rapid.IntRange(0, 9).Draw(t, "other type") == 0 {
		kind = kinds.Draw(t, "type")
	}
	request := &imv1.UpdateMessageRequest{
		OperatorId: operator,
		Message: &imv1.MessageReference{
			ConversationType: imv1.ConversationType_CONVERSATION_TYPE_P2P,
			MessageServerId:  l.shown.GetMessageServerId(), SenderId: &l.from.owner, ReceiverId: &l.from.peer,
			CreateTime: l.shown.GetCreateTime(),
		},
		Content:       saying(t, kind),
		Extension:     rapid.Ptr(extension, true).Draw(t, "extension"),
		MessageConfig: &imv1.UpdateMessageConfig{ConversationUpdateEnabled: flag(t, "conversation_update_enabled")},
	}
	if l.from.kind == kindOfTeam {
		request.Message.ConversationType = imv1.ConversationType_CONVERSATION_TYPE_TEAM
	}
	want := m.mayUpdate(l, operator, kind)
	// The facade tries again for seconds before it reports that it was too soon:
	// mostly the time is just over when it is called, otherwise just not.
	if want == modifiedTooSoon {
		m.stage.clock.Add((modifyInterval - m.age(l.shown.GetModifyTime())).Milliseconds())
		if rapid.IntRange(0, 9).Draw(t, "hurry") == 0 {
			m.stage.clock.Add(-1)
		}
		want = m.mayUpdate(l, operator, kind)
	}
	reply, err := m.messages.UpdateMessage(t.Context(), request)
	if !refused(t, err, want) {
		m.update(t, l, request, reply.GetMessage())
	}
}

func (m *machine) mayUpdate(l *letter, operator string, kind imv1.MessageType) int {
	post := chatID{operator, l.from.kind, l.from.peer}.mayPost()
	switch {
	case m.find(l.from, l.shown.GetMessageServerId()) == nil:
		return messageMissing
	case operator != l.from.owner && l.from.kind == kindP2P:
		return forbidden
	case operator != l.from.owner && !slices.Contains(teamLeaders, operator):
		return leadersOnly
	case post != 0:
		return post
	case kind != l.kind, m.age(l.shown.GetCreateTime()) > modifyWindow:
		return parameterInvalid
	case m.age(l.shown.GetModifyTime()) < modifyInterval:
		return modifiedTooSoon
	}
	return 0
}

func (m *machine) update(t *rapid.T, l *letter, request *imv1.UpdateMessageRequest, have *imv1.Message) {
	t.Helper()
	l.shown = proto.CloneOf(l.shown)
	l.shown.Content = request.GetContent()
	l.shown.ModifyAccountId, l.shown.ModifyTime = request.GetOperatorId(), m.stamp()
	if request.Extension != nil {
		l.shown.Extension = orNil(request.GetExtension())
	}
	equal(t, "updated message", &imv1.Message{
		MessageServerId: l.shown.GetMessageServerId(), SenderId: l.from.owner, ReceiverId: l.from.peer,
		CreateTime: l.shown.GetCreateTime(), Content: l.shown.GetContent(), Extension: l.shown.Extension,
		ModifyAccountId: l.shown.GetModifyAccountId(), ModifyTime: l.shown.GetModifyTime(),
	}, have)
	if on(request.GetMessageConfig().ConversationUpdateEnabled) {
		for _, c := range m.lasts(l) {
			c.last = l.asLast()
		}
	}
}

func (m *machine) RecallMessage(t *rapid.T) {
	id, l := m.someLetter(t)
	request := &imv1.RecallMessageRequest{
		ConversationId: id.String(), MessageServerId: l.shown.GetMessageServerId(),
		Mode:            imv1.RecallMode(rapid.Int32Range(1, 3).Draw(t, "mode")),
		Description:     rapid.Ptr(extension, true).Draw(t, "description"),
		IgnoreTimeLimit: flag(t, "ignore_time_limit"), CheckTeamMemberValid: flag(t, "check_team_member_valid"),
	}
	if request.GetMode() == imv1.RecallMode_RECALL_MODE_TWO_WAY {
		request.Attach = rapid.Ptr(extension, true).Draw(t, "attach")
	}
	_, err := m.messages.RecallMessage(t.Context(), request)
	if !refused(t, err, m.mayRecall(id, l, request)) {
		m.recall(id, l, request)
	}
}

func (m *machine) mayRecall(id chatID, l *letter, request *imv1.RecallMessageRequest) int {
	window := oneWayWindow
	if request.GetMode() == imv1.RecallMode_RECALL_MODE_TWO_WAY {
		window = twoWayWindow
	}
	leading := id.kind == kindOfTeam && slices.Contains(teamLeaders, id.owner)
	code := id.ends()
	switch {
	case code != 0:
		return code
	case id.outside() && request.GetCheckTeamMemberValid():
		return notMember
	case m.find(id, l.shown.GetMessageServerId()) == nil:
		return messageMissing
	case l.from.kind == kindP2P && l.from.owner == l.from.peer:
		return recallToSelf
	case l.from.owner != id.owner && !leading:
		return recallForbidden
	case m.age(l.shown.GetCreateTime()) > window && !request.GetIgnoreTimeLimit():
		return recallTooLate
	}
	return 0
}

// recall takes copies away, with a notice where the message was the last one,
// unless it is deleted in silence.
func (m *machine) recall(id chatID, l *letter, request *imv1.RecallMessageRequest) {
	oneWay := request.GetMode() == imv1.RecallMode_RECALL_MODE_ONE_WAY
	notice := &imv1.RecallNotification{
		MessageServerId: l.shown.GetMessageServerId(), OperatorId: id.owner,
		Attach: request.GetAttach(), CustomInfo: request.GetDescription(), RecallType: recallType(id.kind, oneWay),
	}
	if request.GetMode() == imv1.RecallMode_RECALL_MODE_DELETE {
		notice = nil
	}
	for _, c := range m.lasts(l) {
		if !oneWay || c.id.owner != l.from.owner {
			c.last, c.notice, c.updated = nil, notice, m.stamp()
		}
	}
	if !oneWay {
		l.gone = request.GetMode()
		return
	}
	for _, account := range l.audience() {
		if account != l.from.owner {
			l.hidden[account] = true
		}
	}
}

func recallType(kind string, oneWay bool) imv1.RecallType {
	switch {
	case kind == kindP2P && oneWay:
		return imv1.RecallType_RECALL_TYPE_P2P_ONE_WAY
	case kind == kindP2P:
		return imv1.RecallType_RECALL_TYPE_P2P_TWO_WAY
	case oneWay:
		return imv1.RecallType_RECALL_TYPE_TEAM_ONE_WAY
	default:
		return imv1.RecallType_RECALL_TYPE_TEAM_TWO_WAY
	}
}

func (m *machine) DeleteConversationMessages(t *rapid.T) {
	id := m.knownID(t)
	storage := imv1.MessageStorage(rapid.Int32Range(1, 3).Draw(t, "storage"))
	_, err := m.messages.DeleteConversationMessages(t.Context(), &imv1.DeleteConversationMessagesRequest{ConversationId: id.String(), Storage: storage})
	if refused(t, err, id.ends()) || storage == imv1.MessageStorage_MESSAGE_STORAGE_ROAMING {
		return
	}
	m.cleared[id] = len(m.letters)
	if c := m.chats[id]; c != nil {
		c.last, c.notice, c.updated = nil, nil, m.stamp()
	}
}

func (m *machine) SendP2PReadReceipt(t *rapid.T) {
	id, l := m.someLetter(t)
	if id.kind != kindP2P {
		id = chatID{id.owner, kindP2P, "bob"} // in which a team's message is not found
	}
	want := id.ends()
	if want == 0 && (m.find(id, l.shown.GetMessageServerId()) == nil || l.from.owner != id.peer) {
		want = messageMissing
	}
	reply, err := m.messages.SendP2PReadReceipt(t.Context(), &imv1.SendP2PReadReceiptRequest{
		FromAccountId: id.owner, ToAccountId: id.peer, MessageServerId: l.shown.GetMessageServerId(),
	})
	if refused(t, err, want) {
		return
	}
	if l.readAt == nil {
		l.readAt = m.stamp()
	}
	equal(t, "receipt", &imv1.SendP2PReadReceiptResponse{ReceiptTime: l.readAt}, reply)
}

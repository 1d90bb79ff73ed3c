package e2e

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// span draws a range of time that begins and ends with messages, or anywhere.
func (m *machine) span(t *rapid.T) (begin, end *timestamppb.Timestamp) {
	t.Helper()
	begin, end = timestamppb.New(opening), m.stamp()
	if len(m.letters) == 0 || rapid.Bool().Draw(t, "all") {
		return begin, end
	}
	first := rapid.IntRange(0, len(m.letters)-1).Draw(t, "first")
	last := rapid.IntRange(first, len(m.letters)-1).Draw(t, "last")
	return m.letters[first].shown.GetCreateTime(), m.letters[last].shown.GetCreateTime()
}

// historyRequest draws a request that both ListMessages and StreamMessages take.
func (m *machine) historyRequest(t *rapid.T) (chatID, *imv1.ListMessagesRequest) {
	t.Helper()
	id, _ := m.someLetter(t)
	begin, end := m.span(t)
	return id, &imv1.ListMessagesRequest{
		ConversationId: id.String(), BeginTime: begin, EndTime: end, PageSize: pageSize.Draw(t, "page_size"),
		OldestFirst: flag(t, "oldest_first"), IncludeNoSenseMessages: flag(t, "include_no_sense_messages"),
		CheckTeamValid: flag(t, "check_team_valid"),
		MessageTypes:   rapid.SliceOfNDistinct(kinds, 0, 2, rapid.ID[imv1.MessageType]).Draw(t, "message_types"),
	}
}

// history is what a request must find.
func (m *machine) history(id chatID, request *imv1.ListMessagesRequest) (found []*letter) {
	for _, l := range m.letters {
		at := l.shown.GetCreateTime().AsTime()
		wanted := len(request.GetMessageTypes()) == 0 || slices.Contains(request.GetMessageTypes(), l.kind)
		inTime := !at.Before(request.GetBeginTime().AsTime()) && !at.After(request.GetEndTime().AsTime())
		if wanted && inTime && m.listed(l, id, request.GetIncludeNoSenseMessages()) {
			found = append(found, l)
		}
	}
	if !request.GetOldestFirst() {
		slices.Reverse(found)
	}
	return found
}

func (m *machine) ListMessages(t *rapid.T) {
	id, request := m.historyRequest(t)
	have, err := pages(t, request.GetPageSize(), func(token string) ([]*imv1.Message, string, error) {
		request.PageToken = token
		reply, err := m.messages.ListMessages(t.Context(), request)
		return reply.GetMessages(), reply.GetNextPageToken(), err
	})
	checkTeam := request.CheckTeamValid == nil || request.GetCheckTeamValid()
	if !refused(t, err, id.readCode(checkTeam, checkTeam)) {
		compareLetters(t, m.history(id, request), have)
	}
}

func (m *machine) StreamMessages(t *rapid.T) {
	id, request := m.historyRequest(t)
	replies, err := drain(m.messages.StreamMessages(t.Context(), &imv1.ListMessagesRequest{
		ConversationId: request.GetConversationId(), BeginTime: request.GetBeginTime(), EndTime: request.GetEndTime(),
		PageSize: request.GetPageSize(), OldestFirst: request.OldestFirst, MessageTypes: request.GetMessageTypes(),
		CheckTeamValid: request.CheckTeamValid, IncludeNoSenseMessages: request.IncludeNoSenseMessages,
	}))
	checkTeam := request.CheckTeamValid == nil || request.GetCheckTeamValid()
	if refused(t, err, id.readCode(checkTeam, checkTeam)) {
		return
	}
	have, err := pages(t, request.GetPageSize(), played(t, replies, func(reply *imv1.ListMessagesResponse) ([]*imv1.Message, string) {
		return reply.GetMessages(), reply.GetNextPageToken()
	}))
	refused(t, err, 0)
	compareLetters(t, m.history(id, request), have)
}

// readCode is the code for a chat whose messages cannot be read.
func (id chatID) readCode(checkTeam, checkMember bool) int {
	switch code := id.ends(); {
	case code == teamMissing && !checkTeam:
		return 0 // its history is empty
	case code != 0:
		return code
	case id.outside() && checkMember:
		return notMember
	}
	return 0
}

func (m *machine) GetMessage(t *rapid.T) {
	id, l := m.someLetter(t)
	request := &imv1.GetMessageRequest{
		ConversationId: id.String(), MessageServerId: l.shown.GetMessageServerId(),
		CheckTeamValid: flag(t, "check_team_valid"), CheckTeamMemberValid: flag(t, "check_team_member_valid"),
	}
	want := id.readCode(request.GetCheckTeamValid() || request.GetCheckTeamMemberValid(), request.GetCheckTeamMemberValid())
	if want == 0 && m.readable(id, l.shown.GetMessageServerId()) == nil {
		want = messageMissing
	}
	reply, err := m.messages.GetMessage(t.Context(), request)
	if !refused(t, err, want) {
		equal(t, "message", l.shown, reply.GetMessage())
	}
}

func (m *machine) BatchGetMessages(t *rapid.T) {
	id, first := m.someLetter(t)
	asked := []*letter{first}
	request := &imv1.BatchGetMessagesRequest{ConversationId: id.String()}
	for range rapid.IntRange(0, 4).Draw(t, "more") {
		_, l := m.someLetter(t)
		asked = append(asked, l)
	}
	// A wrong time is no message; the same message is asked for the same way.
	wrong := rapid.IntRange(0, 5).Draw(t, "wrong time") == 0
	for _, l := range asked {
		created := l.shown.GetCreateTime()
		if wrong {
			created = timestamppb.New(created.AsTime().Add(time.Millisecond))
		}
		request.Messages = append(request.Messages, &imv1.MessageReference{MessageServerId: l.shown.GetMessageServerId(), CreateTime: created})
	}
	reply, err := m.messages.BatchGetMessages(t.Context(), request)
	if refused(t, err, id.ends()) {
		return
	}
	if len(reply.GetResults()) != len(asked) {
		t.Fatalf("%d results, want %d", len(reply.GetResults()), len(asked))
	}
	for i, l := range asked {
		want, result := 0, reply.GetResults()[i]
		if wrong || m.readable(id, l.shown.GetMessageServerId()) == nil {
			want = messageMissing
		}
		if result.GetMessageServerId() != l.shown.GetMessageServerId() {
			t.Fatalf("result %d is for %d", i, result.GetMessageServerId())
		}
		if !refusedItem(t, l.shown.GetMessageServerId(), result.GetError(), want) {
			equal(t, "message", l.shown, result.GetMessage())
		}
	}
}

package e2e

import (
	"errors"
	"io"
	"slices"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// equal fails if two messages differ in anything.
func equal(t *rapid.T, what string, want, have proto.Message) {
	t.Helper()
	if !proto.Equal(want, have) {
		t.Fatalf("%s differs (-want +have):\n%s", what, cmp.Diff(want, have, protocmp.Transform()))
	}
}

// conversation is a chat as the given version of the API shows it.
func (w *world) conversation(c *chat, version string) *imv1.Conversation {
	unread := w.unread(c)
	shown := &imv1.Conversation{
		ConversationId: c.id.String(), SenderId: c.id.owner, ReceiverId: c.id.peer,
		Type:   map[string]imv1.ConversationType{kindP2P: imv1.ConversationType_CONVERSATION_TYPE_P2P, kindOfTeam: imv1.ConversationType_CONVERSATION_TYPE_TEAM}[c.id.kind],
		Pinned: &c.pinned, GroupIds: c.folders,
		MessageState: imv1.MessageState_MESSAGE_STATE_NORMAL,
		LastMessage:  c.last, RecallNotification: c.notice, UnreadCount: &unread, SortOrder: c.order,
		CreateTime: c.created, UpdateTime: c.updated, LastReadTime: c.lastRead,
	}
	if c.notice != nil {
		shown.MessageState = imv1.MessageState_MESSAGE_STATE_RECALLED
	}
	if c.extension != "" {
		shown.ServerExtension = &c.extension
	}
	if version == "v2" && c.last != nil {
		shown.LastMessage = proto.CloneOf(c.last)
		shown.LastMessage.MessageClientId, shown.LastMessage.SenderClientType = "", 0
	}
	return shown
}

// compareChat compares a chat with what came back. Its sort_order is whatever it
// was first seen as, until it moves.
func (w *world) compareChat(t *rapid.T, c *chat, version string, have *imv1.Conversation) {
	t.Helper()
	if c.order == 0 {
		c.order = have.GetSortOrder()
	}
	if c.order <= 0 {
		t.Fatalf("%v: sort_order is %d", c.id, c.order)
	}
	equal(t, c.id.String(), w.conversation(c, version), have)
}

// compareChats compares a list: the same chats in the same order, which is also
// that of sort_order.
func (w *world) compareChats(t *rapid.T, want []*chat, version string, have []*imv1.Conversation) {
	t.Helper()
	var names, ids []string
	for _, c := range want {
		names = append(names, c.id.String())
	}
	for _, c := range have {
		ids = append(ids, c.GetConversationId())
	}
	if !slices.Equal(ids, names) {
		t.Fatalf("conversations %v, want %v", ids, names)
	}
	for i, c := range want {
		w.compareChat(t, c, version, have[i])
		if i > 0 && want[i-1].pinned == c.pinned && want[i-1].order <= c.order {
			t.Fatalf("%v has the sort_order %d, and stands behind %d", c.id, c.order, want[i-1].order)
		}
	}
}

func compareLetters(t *rapid.T, want []*letter, have []*imv1.Message) {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("%d messages, want %d: %v", len(have), len(want), have)
	}
	for i, l := range want {
		equal(t, "message", l.shown, have[i])
	}
}

// pages reads a list to its end. All pages but the last must be full.
func pages[I any](t *rapid.T, size int32, page func(token string) (items []I, next string, err error)) ([]I, error) {
	t.Helper()
	var all []I
	for token := ""; ; {
		items, next, err := page(token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		if want := fullPage(size); len(items) != want || next == token {
			t.Fatalf("a page of %d that is not the last, want %d; token %q, next %q", len(items), want, token, next)
		}
		token = next
	}
}

func fullPage(size int32) int {
	if size == 0 {
		return 100
	}
	return int(size)
}

// drain reads a stream to its end.
func drain[R any](stream grpc.ServerStreamingClient[R], err error) ([]*R, error) {
	var all []*R
	for err == nil {
		var reply *R
		if reply, err = stream.Recv(); err == nil {
			all = append(all, reply)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

// played shows the replies of a stream page by page.
func played[R, I any](t *rapid.T, replies []*R, show func(*R) ([]I, string)) func(string) ([]I, string, error) {
	t.Helper()
	return func(token string) ([]I, string, error) {
		if len(replies) == 0 {
			t.Fatalf("the stream ended in front of the page %q", token)
		}
		items, next := show(replies[0])
		replies = replies[1:]
		if next == "" && len(replies) > 0 {
			t.Fatalf("%d replies behind the last page", len(replies))
		}
		return items, next, nil
	}
}

// compareAll compares everything that all accounts can see.
func (m *machine) compareAll(t *rapid.T) {
	t.Helper()
	for _, owner := range everybody {
		m.compareAccount(t, owner)
		m.compareFolders(t, owner)
		for _, peer := range everybody {
			m.compareHistory(t, chatID{owner, kindP2P, peer})
		}
		m.compareHistory(t, chatID{owner, kindOfTeam, theTeam})
	}
}

func anyChat(*chat) bool { return true }

func (m *machine) compareAccount(t *rapid.T, owner string) {
	t.Helper()
	replies, err := drain(m.conversations.StreamConversations(t.Context(), &imv1.ListConversationsRequest{AccountId: owner}))
	refused(t, err, 0)
	var have []*imv1.Conversation
	for _, reply := range replies {
		have = append(have, reply.GetConversations()...)
	}
	chats := m.inOrder(owner, anyChat)
	m.compareChats(t, chats, m.version, have)
	var unread int32
	for _, c := range chats {
		unread += m.unread(c)
	}
	total, err := m.conversations.GetUnreadCount(t.Context(), &imv1.GetUnreadCountRequest{AccountId: owner})
	refused(t, err, 0)
	equal(t, "unread count", &imv1.GetUnreadCountResponse{AccountId: owner, UnreadCount: unread}, total)
}

func (m *machine) compareFolders(t *rapid.T, owner string) {
	t.Helper()
	want := &imv1.ListConversationGroupsResponse{}
	for _, f := range m.folders {
		if f.owner != owner {
			continue
		}
		want.ConversationGroups = append(want.ConversationGroups, f.shown)
		inside, err := m.groups.ListGroupConversations(t.Context(), &imv1.ListGroupConversationsRequest{AccountId: owner, GroupId: f.shown.GetGroupId()})
		refused(t, err, 0)
		m.compareChats(t, m.inOrder(owner, f.holds), "v2", inside.GetConversations())
	}
	have, err := m.groups.ListConversationGroups(t.Context(), &imv1.ListConversationGroupsRequest{AccountId: owner})
	refused(t, err, 0)
	equal(t, "groups of "+owner, want, have)
}

func (f *folder) holds(c *chat) bool { return slices.Contains(c.folders, f.shown.GetGroupId()) }

// compareHistory compares the messages of a chat, if there have been any: those of
// the history, and all.
func (m *machine) compareHistory(t *rapid.T, id chatID) {
	t.Helper()
	if !slices.ContainsFunc(m.letters, func(l *letter) bool { return l.belongs(id) }) {
		return
	}
	for _, all := range []bool{false, true} {
		request := &imv1.ListMessagesRequest{
			ConversationId: id.String(), BeginTime: timestamppb.New(opening), EndTime: m.stamp(),
			CheckTeamValid: new(false), IncludeNoSenseMessages: &all,
		}
		have, err := pages(t, 0, func(token string) ([]*imv1.Message, string, error) {
			request.PageToken = token
			reply, err := m.messages.ListMessages(t.Context(), request)
			return reply.GetMessages(), reply.GetNextPageToken(), err
		})
		refused(t, err, 0)
		compareLetters(t, m.history(id, request), have)
	}
}

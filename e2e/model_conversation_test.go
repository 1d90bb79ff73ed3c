package e2e

import (
	"slices"

	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// Most calls are about three accounts and their team; some are about an account
// outside of the team, one that is muted in it, and ends that do not exist.
var (
	owners = rapid.SampledFrom([]string{"alice", "bob", "alice", "bob", "carol", "alice", "bob", "carol", "dave", "erin", "nobody"})
	peers  = rapid.SampledFrom([]chatID{
		{"", kindP2P, "alice"},
		{"", kindP2P, "bob"},
		{"", kindOfTeam, theTeam},
		{"", kindP2P, "alice"},
		{"", kindP2P, "bob"},
		{"", kindP2P, "carol"},
		{"", kindOfTeam, theTeam},
		{"", kindP2P, "dave"},
		{"", kindP2P, "nobody"},
		{"", kindOfTeam, noTeam},
	})
	anyID = rapid.Custom(func(t *rapid.T) chatID {
		id := peers.Draw(t, "peer")
		id.owner = owners.Draw(t, "owner")
		return id
	})
	pageSize  = rapid.SampledFrom([]int32{0, 1, 2, 3, 7, 100})
	extension = rapid.SampledFrom([]string{"", "x", `{"k":"v"}`, "é中😀"})
)

// someIDs draws the ids of a batch, some of them twice.
func someIDs(t *rapid.T, most int) (ids []chatID, names []string) {
	t.Helper()
	ids = rapid.SliceOfN(anyID, 1, most).Draw(t, "ids")
	for _, id := range ids {
		names = append(names, id.String())
	}
	return ids, names
}

// knownID draws one of the chats that there are, if there are any.
func (m *machine) knownID(t *rapid.T) chatID {
	t.Helper()
	var known []chatID
	for _, owner := range everybody {
		for _, c := range m.inOrder(owner, anyChat) {
			known = append(known, c.id)
		}
	}
	if len(known) == 0 || rapid.IntRange(0, 3).Draw(t, "any id") == 0 {
		return anyID.Draw(t, "id")
	}
	return rapid.SampledFrom(known).Draw(t, "id")
}

// missing is the code for a chat that does not exist.
func (m *machine) missing(id chatID, code int) int {
	if m.chats[id] == nil {
		return code
	}
	return 0
}

func (m *machine) CreateConversation(t *rapid.T) {
	id := anyID.Draw(t, "id")
	want := id.ends()
	if want == 0 && id.outside() {
		want = notMember
	}
	reply, err := m.conversations.CreateConversation(t.Context(), &imv1.CreateConversationRequest{ConversationId: id.String()})
	if !refused(t, err, want) {
		m.compareChat(t, m.open(id, len(m.letters)), m.version, reply.GetConversation())
	}
}

func (m *machine) UpdateConversation(t *rapid.T) {
	id, text := m.knownID(t), extension.Draw(t, "extension")
	reply, err := m.conversations.UpdateConversation(t.Context(), &imv1.UpdateConversationRequest{ConversationId: id.String(), ServerExtension: &text})
	if refused(t, err, m.missing(id, parameterInvalid)) {
		return
	}
	c := m.chats[id]
	c.extension, c.updated = text, m.stamp()
	m.compareChat(t, c, "v2", reply.GetConversation()) // has no v2.1
}

func (m *machine) DeleteConversation(t *rapid.T) {
	id, clearing := m.knownID(t), flag(t, "clear_message")
	_, err := m.conversations.DeleteConversation(t.Context(), &imv1.DeleteConversationRequest{ConversationId: id.String(), ClearMessage: clearing})
	if !refused(t, err, m.missing(id, conversationMissing)) {
		m.remove(id, clearing != nil && *clearing)
	}
}

func (m *machine) BatchDeleteConversations(t *rapid.T) {
	ids, names := someIDs(t, 2)
	clearing := flag(t, "clear_message")
	reply, err := m.conversations.BatchDeleteConversations(t.Context(), &imv1.BatchDeleteConversationsRequest{ConversationIds: names, ClearMessage: clearing})
	refused(t, err, 0)
	want := map[chatID]int{}
	for _, id := range ids {
		want[id] = m.missing(id, conversationMissing)
	}
	checkOutcomes(t, names, reply.GetResults(), func(i int) int { return want[ids[i]] })
	for id, code := range want {
		if code == 0 {
			m.remove(id, clearing != nil && *clearing)
		}
	}
}

// checkOutcomes checks that every item was answered in its place and with its
// code.
func checkOutcomes(t *rapid.T, names []string, results []*imv1.ConversationOutcome, want func(i int) int) {
	t.Helper()
	if len(results) != len(names) {
		t.Fatalf("%d results for %v", len(results), names)
	}
	for i, result := range results {
		if result.GetConversationId() != names[i] {
			t.Fatalf("result %d is for %s, want %s", i, result.GetConversationId(), names[i])
		}
		refusedItem(t, names[i], result.GetError(), want(i))
	}
}

func (m *machine) GetConversation(t *rapid.T) {
	id := m.knownID(t)
	reply, err := m.conversations.GetConversation(t.Context(), &imv1.GetConversationRequest{ConversationId: id.String()})
	if !refused(t, err, m.missing(id, parameterInvalid)) {
		m.compareChat(t, m.chats[id], m.version, reply.GetConversation())
	}
}

func (m *machine) BatchGetConversations(t *rapid.T) {
	ids, names := someIDs(t, 6)
	reply, err := m.conversations.BatchGetConversations(t.Context(), &imv1.BatchGetConversationsRequest{ConversationIds: names})
	refused(t, err, 0)
	if len(reply.GetResults()) != len(ids) {
		t.Fatalf("%d results for %v", len(reply.GetResults()), names)
	}
	for i, result := range reply.GetResults() {
		if result.GetConversationId() != names[i] {
			t.Fatalf("result %d is for %s, want %s", i, result.GetConversationId(), names[i])
		}
		if !refusedItem(t, ids[i], result.GetError(), m.missing(ids[i], conversationMissing)) {
			m.compareChat(t, m.chats[ids[i]], m.version, result.GetConversation())
		}
	}
}

func ownerMissing(owner string) int {
	if slices.Contains(everybody, owner) {
		return 0
	}
	return accountMissing
}

func (m *machine) ListConversations(t *rapid.T) {
	owner, size := owners.Draw(t, "owner"), pageSize.Draw(t, "page_size")
	have, err := pages(t, size, func(token string) ([]*imv1.Conversation, string, error) {
		reply, err := m.conversations.ListConversations(t.Context(), &imv1.ListConversationsRequest{AccountId: owner, PageSize: size, PageToken: token})
		return reply.GetConversations(), reply.GetNextPageToken(), err
	})
	if !refused(t, err, ownerMissing(owner)) {
		m.compareChats(t, m.inOrder(owner, anyChat), m.version, have)
	}
}

func (m *machine) StreamConversations(t *rapid.T) {
	owner, size := owners.Draw(t, "owner"), pageSize.Draw(t, "page_size")
	replies, err := drain(m.conversations.StreamConversations(t.Context(), &imv1.ListConversationsRequest{AccountId: owner, PageSize: size}))
	if refused(t, err, ownerMissing(owner)) {
		return
	}
	have, err := pages(t, size, played(t, replies, func(reply *imv1.ListConversationsResponse) ([]*imv1.Conversation, string) {
		return reply.GetConversations(), reply.GetNextPageToken()
	}))
	refused(t, err, 0)
	m.compareChats(t, m.inOrder(owner, anyChat), m.version, have)
}

func (m *machine) PinConversation(t *rapid.T) {
	id := m.knownID(t)
	reply, err := m.conversations.PinConversation(t.Context(), &imv1.PinConversationRequest{ConversationId: id.String()})
	if !refused(t, err, m.missing(id, conversationMissing)) {
		m.pin(t, id, true, reply.GetConversation())
	}
}

func (m *machine) UnpinConversation(t *rapid.T) {
	id := m.knownID(t)
	want := m.missing(id, conversationMissing)
	if want == 0 && !m.chats[id].pinned {
		want = notPinned
	}
	reply, err := m.conversations.UnpinConversation(t.Context(), &imv1.UnpinConversationRequest{ConversationId: id.String()})
	if !refused(t, err, want) {
		m.pin(t, id, false, reply.GetConversation())
	}
}

// pin changes a chat; the reply shows only a part of it.
func (m *machine) pin(t *rapid.T, id chatID, pinned bool, have *imv1.Conversation) {
	t.Helper()
	c := m.chats[id]
	c.pinned, c.updated = pinned, m.stamp()
	if c.order == 0 {
		c.order = have.GetSortOrder()
	}
	whole := m.conversation(c, m.version)
	equal(t, id.String(), &imv1.Conversation{
		ConversationId: whole.GetConversationId(), SenderId: whole.GetSenderId(), ReceiverId: whole.GetReceiverId(),
		Type: whole.GetType(), Pinned: new(pinned), SortOrder: c.order, UpdateTime: c.updated,
	}, have)
}

func (m *machine) GetUnreadCount(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	var want int32
	for _, c := range m.inOrder(owner, anyChat) {
		want += m.unread(c)
	}
	reply, err := m.conversations.GetUnreadCount(t.Context(), &imv1.GetUnreadCountRequest{AccountId: owner})
	if !refused(t, err, ownerMissing(owner)) {
		equal(t, "unread count", &imv1.GetUnreadCountResponse{AccountId: owner, UnreadCount: want}, reply)
	}
}

func (m *machine) ClearUnreadCount(t *rapid.T) {
	id := m.knownID(t)
	_, err := m.conversations.ClearUnreadCount(t.Context(), &imv1.ClearUnreadCountRequest{ConversationId: id.String()})
	if !refused(t, err, m.missing(id, parameterInvalid)) {
		c := m.chats[id]
		c.read, c.lastRead = len(m.letters), m.stamp()
	}
}

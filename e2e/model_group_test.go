package e2e

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// someGroup draws an account and a group, mostly one of its own.
func (m *machine) someGroup(t *rapid.T) (owner string, id int64) {
	t.Helper()
	all := slices.Concat(m.folders, m.deleted)
	if len(all) == 0 {
		return owners.Draw(t, "owner"), 1
	}
	f := rapid.SampledFrom(all).Draw(t, "group")
	if rapid.IntRange(0, 7).Draw(t, "any owner") == 0 {
		return owners.Draw(t, "owner"), f.shown.GetGroupId()
	}
	return f.owner, f.shown.GetGroupId()
}

// someMembers draws chats, most of which belong to the owner.
func (m *machine) someMembers(t *rapid.T, owner string) (ids []chatID, names []string) {
	t.Helper()
	ids, names = someIDs(t, 6)
	for i := range ids {
		if rapid.IntRange(0, 7).Draw(t, "any owner") > 0 {
			ids[i].owner = owner
			names[i] = ids[i].String()
		}
	}
	return ids, names
}

func (m *machine) CreateConversationGroup(t *rapid.T) {
	request := &imv1.CreateConversationGroupRequest{
		AccountId:       owners.Draw(t, "owner"),
		Name:            rapid.SampledFrom([]string{"work", "家"}).Draw(t, "name"),
		ServerExtension: rapid.Ptr(extension, true).Draw(t, "extension"),
	}
	var ids []chatID
	if rapid.Bool().Draw(t, "not empty") {
		ids, request.ConversationIds = m.someMembers(t, request.GetAccountId())
	}
	want := ownerMissing(request.GetAccountId())
	if m.foldersOf(request.GetAccountId()) == maxGroups {
		want = tooManyGroups
	}
	reply, err := m.groups.CreateConversationGroup(t.Context(), request)
	if refused(t, err, want) {
		return
	}
	f := &folder{request.GetAccountId(), &imv1.ConversationGroup{
		GroupId: reply.GetConversationGroup().GetGroupId(), Name: request.GetName(),
		ServerExtension: orNil(request.GetServerExtension()), CreateTime: m.stamp(), UpdateTime: m.stamp(),
	}}
	equal(t, "group", f.shown, reply.GetConversationGroup())
	if len(m.folders) > 0 && m.folders[len(m.folders)-1].shown.GetGroupId() >= f.shown.GetGroupId() {
		t.Fatalf("group id %d is not a new one", f.shown.GetGroupId())
	}
	m.folders = append(m.folders, f)
	checkOutcomes(t, request.GetConversationIds(), reply.GetResults(), func(i int) int { return m.join(f, ids[i]) })
}

func (w *world) foldersOf(owner string) (n int) {
	for _, f := range w.folders {
		if f.owner == owner {
			n++
		}
	}
	return n
}

// orNil is a text that is absent if it is empty.
func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (m *machine) UpdateConversationGroup(t *rapid.T) {
	owner, id := m.someGroup(t)
	request := &imv1.UpdateConversationGroupRequest{
		AccountId: owner, GroupId: id,
		Name:            rapid.Ptr(rapid.SampledFrom([]string{"home", "play"}), true).Draw(t, "name"),
		ServerExtension: rapid.Ptr(extension, true).Draw(t, "extension"),
	}
	var ids []chatID
	change, names := m.join, []string(nil)
	if kind := rapid.SampledFrom([]int32{0, 1, 1, 1, 2}).Draw(t, "change"); kind > 0 {
		ids, names = m.someMembers(t, owner)
		request.Conversations = &imv1.GroupChange{Type: imv1.GroupChangeType(kind), ConversationIds: names}
		if kind == int32(imv1.GroupChangeType_GROUP_CHANGE_TYPE_REMOVE) {
			change = m.leave
		}
	}
	reply, err := m.groups.UpdateConversationGroup(t.Context(), request)
	if refused(t, err, m.folderCode(owner, id)) {
		return
	}
	f := m.folder(owner, id)
	f.shown = proto.CloneOf(f.shown)
	f.shown.UpdateTime = m.stamp()
	if request.Name != nil {
		f.shown.Name = request.GetName()
	}
	if request.ServerExtension != nil {
		f.shown.ServerExtension = orNil(request.GetServerExtension())
	}
	equal(t, "group", f.shown, reply.GetConversationGroup())
	checkOutcomes(t, names, reply.GetResults(), func(i int) int { return change(f, ids[i]) })
}

func (m *machine) DeleteConversationGroup(t *rapid.T) {
	owner, id := m.someGroup(t)
	_, err := m.groups.DeleteConversationGroup(t.Context(), &imv1.DeleteConversationGroupRequest{AccountId: owner, GroupId: id})
	if refused(t, err, m.folderCode(owner, id)) {
		return
	}
	m.deleted = []*folder{m.folder(owner, id)}
	for _, c := range m.chats {
		c.folders = slices.DeleteFunc(c.folders, func(in int64) bool { return in == id })
	}
	m.folders = slices.DeleteFunc(m.folders, func(f *folder) bool { return f.shown.GetGroupId() == id })
}

func (m *machine) GetConversationGroup(t *rapid.T) {
	owner, id := m.someGroup(t)
	reply, err := m.groups.GetConversationGroup(t.Context(), &imv1.GetConversationGroupRequest{AccountId: owner, GroupId: id})
	if !refused(t, err, m.folderCode(owner, id)) {
		equal(t, "group", m.folder(owner, id).shown, reply.GetConversationGroup())
	}
}

func (m *machine) BatchGetConversationGroups(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	ids := []int64{1}
	for range rapid.IntRange(1, 4).Draw(t, "groups") {
		_, id := m.someGroup(t)
		ids = append(ids, id)
	}
	reply, err := m.groups.BatchGetConversationGroups(t.Context(), &imv1.BatchGetConversationGroupsRequest{AccountId: owner, GroupIds: ids})
	if refused(t, err, ownerMissing(owner)) {
		return
	}
	if len(reply.GetResults()) != len(ids) {
		t.Fatalf("%d results for %v", len(reply.GetResults()), ids)
	}
	for i, result := range reply.GetResults() {
		if result.GetGroupId() != ids[i] {
			t.Fatalf("result %d is for %d, want %d", i, result.GetGroupId(), ids[i])
		}
		if !refusedItem(t, ids[i], result.GetError(), m.folderCode(owner, ids[i])) {
			equal(t, "group", m.folder(owner, ids[i]).shown, result.GetConversationGroup())
		}
	}
}

func (m *machine) ListGroupConversations(t *rapid.T) {
	owner, id := m.someGroup(t)
	size := pageSize.Draw(t, "page_size")
	have, err := pages(t, size, func(token string) ([]*imv1.Conversation, string, error) {
		reply, err := m.groups.ListGroupConversations(t.Context(), &imv1.ListGroupConversationsRequest{AccountId: owner, GroupId: id, PageSize: size, PageToken: token})
		return reply.GetConversations(), reply.GetNextPageToken(), err
	})
	if !refused(t, err, m.folderCode(owner, id)) {
		m.compareChats(t, m.inOrder(owner, m.folder(owner, id).holds), "v2", have) // has no v2.1
	}
}

func (m *machine) ListConversationGroups(t *rapid.T) {
	owner := owners.Draw(t, "owner")
	if ownerMissing(owner) == 0 {
		m.compareFolders(t, owner)
		return
	}
	_, err := m.groups.ListConversationGroups(t.Context(), &imv1.ListConversationGroupsRequest{AccountId: owner})
	refused(t, err, accountMissing)
}

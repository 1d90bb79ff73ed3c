package sandbox

import (
	"cmp"
	"maps"
	"slices"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var conversationGroupOperations = []operation{
	engine.Write("POST", "conversation_groups", createGroup),
	engine.Read("GET", "conversation_groups", listGroups),
	engine.Read("GET", "conversation_groups/{group_id}", getGroup),
	engine.Write("PATCH", "conversation_groups/{group_id}", updateGroup),
	engine.Write("DELETE", "conversation_groups/{group_id}", deleteGroup),
	engine.Read("GET", "conversation_groups/actions/group_ids", batchGetGroups),
	engine.Read("GET", "conversation_groups/{group_id}/conversations", listGroupConversations),
}

// group is one account's named set of conversations. Which conversations are
// in it is kept with the conversations.
type group struct {
	ID              int64  `json:"group_id"`
	Name            string `json:"name"`
	ServerExtension string `json:"server_extension,omitempty"`
	CreateTime      int64  `json:"create_time"`
	UpdateTime      int64  `json:"update_time"`
}

// group looks up a group of an account; another account's group is not there.
func (a *account) group(id int64) (*group, *engine.Refusal) {
	g := a.groups[id]
	if g == nil {
		return nil, codeGroupMissing.Refusef("%d", id)
	}
	return g, nil
}

// groupOwner looks up the account and the group that most operations name.
func (c *call) groupOwner(r *groupRequest, owner accountID) (*account, *group, *engine.Refusal) {
	a, bad := c.account(owner)
	if bad != nil {
		return nil, nil, bad
	}
	g, bad := a.group(r.GroupID)
	return a, g, bad
}

type groupRequest struct {
	GroupID int64 `path:"group_id"`
}

// ownedGroupRequest names the owner in the query.
type ownedGroupRequest struct {
	groupRequest
	AccountID accountID `query:"account_id" required:"true"`
}

type groupChanged struct {
	Group group `json:"conversation_group"`
	batch[string, failedConversation]
}

type createGroupRequest struct {
	AccountID       accountID `json:"account_id" required:"true"`
	Name            string    `json:"name" required:"true" max:"128"`
	ServerExtension string    `json:"server_extension" max:"1024"`
	ConversationIDs []string  `json:"conversation_ids" max:"100"`
}

func createGroup(c *call, r *createGroupRequest) (any, *engine.Refusal) {
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	if len(owner.groups) >= maxGroups {
		return nil, codeGroupLimit.Refuse()
	}
	c.lastGroupID++
	g := &group{
		ID: c.lastGroupID, Name: r.Name, ServerExtension: r.ServerExtension,
		CreateTime: c.Millis(), UpdateTime: c.Millis(),
	}
	owner.groups[g.ID] = g
	return c.changeGroup(owner, g, r.ConversationIDs, (*account).join), nil
}

// changeGroup lets the conversations join or leave a group one by one.
func (c *call) changeGroup(owner *account, g *group, ids []string, step func(*account, *group, *conversation) *engine.Refusal) groupChanged {
	done, failed := c.eachConversation(ids, func(id conversationID) (*conversation, *engine.Refusal) {
		if id.owner != owner.id {
			return nil, codeOwnerMismatch.Refuse()
		}
		if _, _, bad := c.ends(id); bad != nil {
			return nil, bad.Code.Refuse() // the item names the account or team
		}
		conv := c.find(id)
		if conv == nil {
			return nil, codeConversationMissing.Refuse()
		}
		return conv, step(owner, g, conv)
	})
	return groupChanged{*g, batch[string, failedConversation]{engine.Apply(done, (*conversation).String), failed}}
}

func (a *account) join(g *group, conv *conversation) *engine.Refusal {
	switch {
	case slices.Contains(conv.groups, g.ID):
		return nil
	case len(conv.groups) >= maxGroupsPerChat:
		return codeTooManyGroups.Refuse()
	case a.groupSize(g) >= maxGroupSize:
		return codeGroupFull.Refuse()
	}
	// Clip, because views of the conversation share the slice.
	conv.groups = append(slices.Clip(conv.groups), g.ID)
	return nil
}

// leave succeeds for a conversation that is not in the group.
func (a *account) leave(g *group, conv *conversation) *engine.Refusal {
	conv.groups = engine.Only(conv.groups, func(id int64) bool { return id != g.ID })
	return nil
}

func (a *account) groupSize(g *group) (n int) {
	for _, conv := range a.conversations {
		if slices.Contains(conv.groups, g.ID) {
			n++
		}
	}
	return n
}

type updateGroupRequest struct {
	groupRequest
	AccountID       accountID         `json:"account_id" required:"true"`
	Name            *string           `json:"name" max:"128"`
	ServerExtension *string           `json:"server_extension" max:"1024"`
	Conversations   *membershipChange `json:"conversations"`
}

type membershipChange struct {
	Type            int      `json:"type" required:"true"` // 1 add, 2 remove
	ConversationIDs []string `json:"conversation_ids" required:"true" items:"100"`
}

// Check refuses an empty name and an unknown change.
func (r *updateGroupRequest) Check() *engine.Refusal {
	switch {
	case r.Name != nil && *r.Name == "":
		return engine.BadParameter("name is empty")
	case r.Conversations != nil && r.Conversations.Type != 1 && r.Conversations.Type != 2:
		return engine.BadParameter("conversations.type must be 1 or 2")
	default:
		return nil
	}
}

func updateGroup(c *call, r *updateGroupRequest) (any, *engine.Refusal) {
	owner, g, bad := c.groupOwner(&r.groupRequest, r.AccountID)
	if bad != nil {
		return nil, bad
	}
	if r.Name != nil {
		g.Name = *r.Name
	}
	if r.ServerExtension != nil {
		g.ServerExtension = *r.ServerExtension
	}
	g.UpdateTime = c.Millis()
	change := cmp.Or(r.Conversations, &membershipChange{})
	step := (*account).join
	if change.Type == 2 {
		step = (*account).leave
	}
	return c.changeGroup(owner, g, change.ConversationIDs, step), nil
}

func deleteGroup(c *call, r *ownedGroupRequest) (any, *engine.Refusal) {
	owner, g, bad := c.groupOwner(&r.groupRequest, r.AccountID)
	if bad != nil {
		return nil, bad
	}
	for _, conv := range owner.conversations {
		owner.leave(g, conv)
	}
	delete(owner.groups, g.ID)
	return nil, nil
}

func getGroup(c *call, r *ownedGroupRequest) (any, *engine.Refusal) {
	_, g, bad := c.groupOwner(&r.groupRequest, r.AccountID)
	if bad != nil {
		return nil, bad
	}
	return *g, nil
}

type batchGetGroupsRequest struct {
	AccountID accountID `query:"account_id" required:"true"`
	GroupIDs  []int64   `query:"group_ids" items:"100"`
}

type failedGroup struct {
	GroupID int64 `json:"group_id"`
	engine.ItemError
}

func batchGetGroups(c *call, r *batchGetGroupsRequest) (any, *engine.Refusal) {
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	found := batch[group, failedGroup]{[]group{}, []failedGroup{}}
	for _, id := range r.GroupIDs {
		if g := owner.groups[id]; g != nil {
			found.SuccessList = append(found.SuccessList, *g)
		} else {
			found.FailedList = append(found.FailedList, failedGroup{id, codeGroupMissing.Refuse().Item()})
		}
	}
	return found, nil
}

type listGroupsRequest struct {
	AccountID accountID `query:"account_id" required:"true"`
}

type groupList struct {
	Groups []group `json:"conversation_groups"`
}

// listGroups answers in the order of creation.
func listGroups(c *call, r *listGroupsRequest) (any, *engine.Refusal) {
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	list := groupList{[]group{}}
	for _, id := range slices.Sorted(maps.Keys(owner.groups)) {
		list.Groups = append(list.Groups, *owner.groups[id])
	}
	return list, nil
}

type listGroupConversationsRequest struct {
	groupRequest
	listConversationsRequest
}

// listGroupConversations has a documented path only; parameters and answer are
// those of listConversations.
func listGroupConversations(c *call, r *listGroupConversationsRequest) (any, *engine.Refusal) {
	owner, g, bad := c.groupOwner(&r.groupRequest, r.AccountID)
	if bad != nil {
		return nil, bad
	}
	return c.conversationPage(owner, &r.listConversationsRequest, func(conv *conversation) bool {
		return slices.Contains(conv.groups, g.ID)
	})
}

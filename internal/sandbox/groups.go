package sandbox

import (
	"cmp"
	"maps"
	"slices"
)

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
func (a *account) group(id int64) (*group, *refusal) {
	g := a.groups[id]
	if g == nil {
		return nil, refusef(codeGroupMissing, "%d", id)
	}
	return g, nil
}

// groupOwner looks up the account and the group that most operations name.
func (c *call) groupOwner(r *groupRequest, owner accountID) (*account, *group, *refusal) {
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
	Group       group                `json:"conversation_group"`
	SuccessList []string             `json:"success_list"`
	FailedList  []failedConversation `json:"failed_list"`
}

type createGroupRequest struct {
	AccountID       accountID `json:"account_id" required:"true"`
	Name            string    `json:"name" required:"true"`
	ServerExtension string    `json:"server_extension"`
	ConversationIDs []string  `json:"conversation_ids"`
}

func createGroup(c *call, r *createGroupRequest) (any, *refusal) {
	if bad := cmp.Or(
		checkLength("name", r.Name, maxGroupName),
		checkLength("server_extension", r.ServerExtension, maxExtension),
	); bad != nil {
		return nil, bad
	}
	if len(r.ConversationIDs) > maxBatch {
		return nil, badParameter("conversation_ids has more than %d items", maxBatch)
	}
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	if len(owner.groups) >= maxGroups {
		return nil, refuse(codeGroupLimit)
	}
	c.lastGroupID++
	g := &group{
		ID: c.lastGroupID, Name: r.Name, ServerExtension: r.ServerExtension,
		CreateTime: c.ms(), UpdateTime: c.ms(),
	}
	owner.groups[g.ID] = g
	return c.changeGroup(owner, g, r.ConversationIDs, (*account).join), nil
}

// changeGroup lets the conversations join or leave a group one by one.
func (c *call) changeGroup(owner *account, g *group, ids []string, step func(*account, *group, *conversation) *refusal) groupChanged {
	done, failed := c.eachConversation(ids, func(id conversationID) (*conversation, *refusal) {
		if id.owner != owner.id {
			return nil, refuse(codeOwnerMismatch)
		}
		if _, _, bad := c.ends(id); bad != nil {
			return nil, refuse(bad.code) // the item names the account or team
		}
		conv := c.find(id)
		if conv == nil {
			return nil, refuse(codeConversationMissing)
		}
		return conv, step(owner, g, conv)
	})
	return groupChanged{*g, apply(done, (*conversation).String), failed}
}

func (a *account) join(g *group, conv *conversation) *refusal {
	switch {
	case slices.Contains(conv.groups, g.ID):
		return nil
	case len(conv.groups) >= maxGroupsPerChat:
		return refuse(codeTooManyGroups)
	case a.groupSize(g) >= maxGroupSize:
		return refuse(codeGroupFull)
	}
	// Clip, because views of the conversation share the slice.
	conv.groups = append(slices.Clip(conv.groups), g.ID)
	return nil
}

// leave succeeds for a conversation that is not in the group.
func (a *account) leave(g *group, conv *conversation) *refusal {
	conv.groups = only(conv.groups, func(id int64) bool { return id != g.ID })
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
	Name            *string           `json:"name"`
	ServerExtension *string           `json:"server_extension"`
	Conversations   *membershipChange `json:"conversations"`
}

type membershipChange struct {
	Type            int      `json:"type" required:"true"` // 1 add, 2 remove
	ConversationIDs []string `json:"conversation_ids" required:"true"`
}

func (r *updateGroupRequest) check() *refusal {
	if r.Name != nil {
		if *r.Name == "" {
			return badParameter("name is empty")
		}
		if bad := checkLength("name", *r.Name, maxGroupName); bad != nil {
			return bad
		}
	}
	if r.ServerExtension != nil {
		if bad := checkLength("server_extension", *r.ServerExtension, maxExtension); bad != nil {
			return bad
		}
	}
	if r.Conversations == nil {
		return nil
	}
	if r.Conversations.Type != 1 && r.Conversations.Type != 2 {
		return badParameter("conversations.type must be 1 or 2")
	}
	return checkCount("conversations.conversation_ids", len(r.Conversations.ConversationIDs), maxBatch)
}

func updateGroup(c *call, r *updateGroupRequest) (any, *refusal) {
	if bad := r.check(); bad != nil {
		return nil, bad
	}
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
	g.UpdateTime = c.ms()
	change := cmp.Or(r.Conversations, &membershipChange{})
	step := (*account).join
	if change.Type == 2 {
		step = (*account).leave
	}
	return c.changeGroup(owner, g, change.ConversationIDs, step), nil
}

func deleteGroup(c *call, r *ownedGroupRequest) (any, *refusal) {
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

func getGroup(c *call, r *ownedGroupRequest) (any, *refusal) {
	_, g, bad := c.groupOwner(&r.groupRequest, r.AccountID)
	if bad != nil {
		return nil, bad
	}
	return *g, nil
}

type batchGetGroupsRequest struct {
	AccountID accountID `query:"account_id" required:"true"`
	GroupIDs  []int64   `query:"group_ids"`
}

type failedGroup struct {
	GroupID   int64  `json:"group_id"`
	ErrorCode int    `json:"error_code"`
	ErrorMsg  string `json:"error_msg"`
}

type groupsFound struct {
	SuccessList []group       `json:"success_list"`
	FailedList  []failedGroup `json:"failed_list"`
}

func batchGetGroups(c *call, r *batchGetGroupsRequest) (any, *refusal) {
	if bad := checkCount("group_ids", len(r.GroupIDs), maxBatch); bad != nil {
		return nil, bad
	}
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	found := groupsFound{[]group{}, []failedGroup{}}
	for _, id := range r.GroupIDs {
		if g := owner.groups[id]; g != nil {
			found.SuccessList = append(found.SuccessList, *g)
		} else {
			missing := refuse(codeGroupMissing)
			found.FailedList = append(found.FailedList, failedGroup{id, missing.code, missing.msg})
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
func listGroups(c *call, r *listGroupsRequest) (any, *refusal) {
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
func listGroupConversations(c *call, r *listGroupConversationsRequest) (any, *refusal) {
	owner, g, bad := c.groupOwner(&r.groupRequest, r.AccountID)
	if bad != nil {
		return nil, bad
	}
	return c.conversationPage(owner, &r.listConversationsRequest, func(conv *conversation) bool {
		return slices.Contains(conv.groups, g.ID)
	})
}

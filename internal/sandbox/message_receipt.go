package sandbox

import "github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"

var messageReceiptOperations = []operation{
	engine.Write("POST", "messages/actions/p2p_read_receipt", sendP2PReceipt),
	engine.Write("POST", "messages/actions/team_read_receipt", sendTeamReceipts),
	engine.Read("GET", "messages/actions/team_read_receipt", getTeamReceipt),
}

type p2pReceiptRequest struct {
	From     accountID `json:"from_account_id" required:"true"`
	To       accountID `json:"to_account_id" required:"true"`
	ServerID int64     `json:"message_server_id" required:"true"`
}

type receiptTime struct {
	Timestamp int64 `json:"timestamp"`
}

// sendP2PReceipt confirms one message. A repeated receipt keeps the first time;
// the reader's unread count is another matter and stays.
func sendP2PReceipt(c *call, r *p2pReceiptRequest) (any, *engine.Refusal) {
	id := conversationID{r.From, peer{kindP2P, string(r.To)}}
	if _, _, bad := c.ends(id); bad != nil {
		return nil, bad
	}
	m, bad := c.message(id.channel(), r.ServerID)
	if bad != nil {
		return nil, bad
	}
	if m.sender != r.To {
		return nil, codeMessageMissing.Refusef("%d was not sent by %s", r.ServerID, r.To)
	}
	if m.readAt == 0 {
		m.readAt = c.Millis()
	}
	return receiptTime{m.readAt}, nil
}

// receipt tracks who of a team has read a message sent with mark_as_read.
type receipt struct {
	read   accountSet
	unread accountSet
}

// newReceipt starts with all who see the message but its sender.
func (c *call) newReceipt(m *message) *receipt {
	r := &receipt{accountSet{}, accountSet{}}
	for _, id := range c.audience(m) {
		if id != m.sender && m.target.includes(id, m.sender) {
			r.unread[id] = true
		}
	}
	return r
}

// confirm reports whether the account is one whose receipt counts.
func (r *receipt) confirm(id accountID) bool {
	if r.unread[id] {
		delete(r.unread, id)
		r.read[id] = true
	}
	return r.read[id]
}

type teamReceiptsRequest struct {
	From      accountID       `json:"from_account_id" required:"true"`
	TeamID    engine.LooseInt `json:"team_id" required:"true"`
	ServerIDs []int64         `json:"message_server_ids" items:"50"`
}

// receiptLog names the log of a team that can have receipts, for a member.
func (c *call) receiptLog(id accountID, teamID int64) (channel, *engine.Refusal) {
	conv := conversationID{id, teamPeer(kindTeam, teamID)}
	_, t, bad := c.ends(conv)
	if bad != nil && c.teams[teamPeer(kindSuperTeam, teamID)] != nil {
		bad = codeTeamNotAdvanced.Refuse()
	}
	if bad == nil && !t.members[id] {
		bad = codeNotTeamMember.Refuse()
	}
	return conv.channel(), bad
}

func sendTeamReceipts(c *call, r *teamReceiptsRequest) (any, *engine.Refusal) {
	team, bad := c.receiptLog(r.From, int64(r.TeamID))
	if bad != nil {
		return nil, bad
	}
	taken := batch[int64, int64]{[]int64{}, []int64{}}
	for _, serverID := range r.ServerIDs {
		m, bad := c.message(team, serverID)
		if bad == nil && m.receipt != nil && m.receipt.confirm(r.From) {
			taken.SuccessList = append(taken.SuccessList, serverID)
		} else {
			taken.FailedList = append(taken.FailedList, serverID)
		}
	}
	return taken, nil
}

type getTeamReceiptRequest struct {
	TeamID   int64     `query:"team_id" required:"true"`
	TeamType int       `query:"team_type" required:"true"` // 1 = advanced, unlike conversation types
	SenderID accountID `query:"sender_id" required:"true"`
	ServerID int64     `query:"message_server_id" required:"true"`
	Snapshot bool      `query:"snapshot"`
}

type receiptView struct {
	ReadSize         int         `json:"read_size"`
	UnreadSize       int         `json:"unread_size"`
	ReadAccountIDs   []accountID `json:"read_account_ids,omitzero"`
	UnreadAccountIDs []accountID `json:"unread_account_ids,omitzero"`
}

func getTeamReceipt(c *call, r *getTeamReceiptRequest) (any, *engine.Refusal) {
	if r.TeamType != 1 {
		return nil, engine.BadParameter("team_type must be 1")
	}
	team, bad := c.receiptLog(r.SenderID, r.TeamID)
	if bad != nil {
		return nil, bad
	}
	m, bad := c.message(team, r.ServerID)
	switch {
	case bad != nil || m.sender != r.SenderID:
		return nil, codeReceiptMissing.Refuse()
	case m.receipt == nil:
		return nil, codeTeamReceiptOff.Refuse()
	}
	view := receiptView{ReadSize: len(m.receipt.read), UnreadSize: len(m.receipt.unread)}
	if r.Snapshot {
		view.ReadAccountIDs, view.UnreadAccountIDs = m.receipt.read.sorted(), m.receipt.unread.sorted()
	}
	return view, nil
}

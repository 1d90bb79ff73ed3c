package sandbox

import "strconv"

// team is an advanced team or a super team.
type team struct {
	peer
	owner    accountID
	managers accountSet
	members  accountSet // owner and managers included
	muted    accountSet
	mute     muteMode
}

type muteMode string

const (
	muteNone    muteMode = ""
	muteMembers muteMode = "members" // all but owner and managers
	muteAll     muteMode = "all"
)

func teamPeer(kind int, id int64) peer { return peer{kind, strconv.FormatInt(id, 10)} }

// leads reports whether an account is the team's owner or a manager.
func (t *team) leads(id accountID) bool { return id == t.owner || t.managers[id] }

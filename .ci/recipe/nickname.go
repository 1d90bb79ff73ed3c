package sandbox

import "github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"

var nicknameOperations = []operation{
	engine.Read("GET", "nicknames/{account_id}", getNickname),
}

type nicknameView struct {
	Nick string `json:"nick"`
}

func getNickname(c *call, r *accountRequest) (any, *engine.Refusal) {
	owner, bad := c.account(r.AccountID)
	if bad != nil {
		return nil, bad
	}
	return nicknameView{Nick: string(owner.id)}, nil
}

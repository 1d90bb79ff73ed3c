package sandbox

import (
	"slices"
	"strings"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// accountID is in lower case wherever it comes from, as on the server.
type accountID string

// UnmarshalText never fails: an id that cannot exist is an unknown account.
func (a *accountID) UnmarshalText(text []byte) error {
	*a = accountID(strings.ToLower(string(text)))
	return nil
}

type accountSet map[accountID]bool

func (s accountSet) sorted() []accountID {
	ids := make([]accountID, 0, len(s))
	for id := range s {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

type account struct {
	id            accountID
	name          string
	friends       accountSet
	blocked       accountSet // accounts that this one has block-listed
	muted, banned bool

	conversations map[peer]*conversation
	groups        map[int64]*group
	cleared       map[peer]int64 // last message whose history the account had deleted
}

// account looks an account up.
func (s *state) account(id accountID) (*account, *engine.Refusal) {
	a := s.accounts[id]
	if a == nil {
		return nil, codeAccountMissing.Refusef("%q", id)
	}
	return a, nil
}

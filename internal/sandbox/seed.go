package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// seedDocument is the file format, described in README.md.
type seedDocument struct {
	Accounts []seedAccount `json:"accounts" required:"true"`
	Teams    []seedTeam    `json:"teams"`
	Rooms    []seedRoom    `json:"rooms"`
	Messages []seedMessage `json:"messages"`
}

type seedAccount struct {
	ID      accountID   `json:"id" required:"true"`
	Name    string      `json:"name"`
	Friends []accountID `json:"friends"`
	Blocked []accountID `json:"blocked"`
	Muted   bool        `json:"muted"`
	Banned  bool        `json:"banned"`
}

type seedTeam struct {
	ID           int64       `json:"id" required:"true"`
	Super        bool        `json:"super"`
	Owner        accountID   `json:"owner" required:"true"`
	Managers     []accountID `json:"managers"`
	Members      []accountID `json:"members"`
	MutedMembers []accountID `json:"muted_members"`
	Mute         muteMode    `json:"mute"`
}

type seedRoom struct {
	ID       int64            `json:"id" required:"true"`
	Creator  accountID        `json:"creator" required:"true"`
	Managers []accountID      `json:"managers"`
	Members  []seedRoomMember `json:"members"`
	Muted    bool             `json:"muted"`
	Closed   bool             `json:"closed"`
}

type seedRoomMember struct {
	Account   accountID `json:"account" required:"true"`
	Nick      string    `json:"nick"`
	Avatar    string    `json:"avatar"`
	Muted     bool      `json:"muted"`
	TempMuted bool      `json:"temp_muted"`
	Blocked   bool      `json:"blocked"`
}

// seedMessage is the body of a send with what the server would have added.
type seedMessage struct {
	ConversationID  conversationID `json:"conversation_id" required:"true"`
	MessageServerID int64          `json:"message_server_id"`
	CreateTime      int64          `json:"create_time"`
	sendMessageRequest
}

// plant fills an empty state from a seed document.
func (s *state) plant(seed []byte) error {
	var doc seedDocument
	if !json.Valid(seed) {
		return fmt.Errorf("sandbox seed: %w", json.Unmarshal(seed, new(any)))
	}
	if err := engine.DecodeStrict("seed", seed, &doc); err != nil {
		return fmt.Errorf("sandbox seed: %w", err)
	}
	// Each step relies on the ones before it.
	steps := []func() error{
		func() error { return each("accounts", doc.Accounts, s.plantAccount) },
		func() error { return each("accounts", doc.Accounts, s.plantRelations) },
		func() error { return each("teams", doc.Teams, s.plantTeam) },
		func() error { return each("rooms", doc.Rooms, s.plantRoom) },
		func() error { return each("messages", doc.Messages, s.plantMessage) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	s.lastMessageID = max(s.lastMessageID, firstMessageID-1)
	return nil
}

// each stops at the first item that cannot be planted and names it.
func each[T any](list string, items []T, plant func(*T) error) error {
	for i := range items {
		if err := plant(&items[i]); err != nil {
			return fmt.Errorf("sandbox seed: %s[%d]: %w", list, i, err)
		}
	}
	return nil
}

func (s *state) plantAccount(a *seedAccount) error {
	if len(a.ID) > 32 || strings.Trim(string(a.ID), "abcdefghijklmnopqrstuvwxyz0123456789_@.-") != "" {
		return fmt.Errorf("id %q must be up to 32 letters, digits, _ @ . -", a.ID)
	}
	if s.accounts[a.ID] != nil {
		return fmt.Errorf("id %q is there twice", a.ID)
	}
	s.accounts[a.ID] = &account{
		id: a.ID, name: a.Name, muted: a.Muted, banned: a.Banned,
		friends: accountSet{}, blocked: accountSet{},
		conversations: map[peer]*conversation{}, groups: map[int64]*group{}, cleared: map[peer]int64{},
	}
	return nil
}

// plantRelations makes friends of both sides; blocking is one-sided.
func (s *state) plantRelations(a *seedAccount) error {
	friends, err := s.known("friends", a.Friends)
	if err != nil {
		return err
	}
	blocked, err := s.known("blocked", a.Blocked)
	if err != nil {
		return err
	}
	s.accounts[a.ID].blocked = blocked
	for id := range friends {
		s.accounts[id].friends[a.ID] = true
		s.accounts[a.ID].friends[id] = true
	}
	return nil
}

// known makes a set of account ids, all of which must be in the seed.
func (s *state) known(list string, ids []accountID) (accountSet, error) {
	set := accountSet{}
	for _, id := range ids {
		if s.accounts[id] == nil {
			return nil, fmt.Errorf("%s: unknown account %q", list, id)
		}
		set[id] = true
	}
	return set, nil
}

func (s *state) plantTeam(seed *seedTeam) error {
	kind := kindTeam
	if seed.Super {
		kind = kindSuperTeam
	}
	t := &team{peer: teamPeer(kind, seed.ID), owner: seed.Owner, mute: seed.Mute}
	if s.teams[t.peer] != nil {
		return fmt.Errorf("id %d is there twice", seed.ID)
	}
	if !slices.Contains([]muteMode{muteNone, muteMembers, muteAll}, seed.Mute) {
		return fmt.Errorf("mute must be %q, %q or left out", muteMembers, muteAll)
	}
	var errs [3]error
	t.managers, errs[0] = s.known("managers", seed.Managers)
	t.muted, errs[1] = s.known("muted_members", seed.MutedMembers)
	t.members, errs[2] = s.known("owner, managers and members", slices.Concat([]accountID{seed.Owner}, seed.Managers, seed.Members))
	s.teams[t.peer] = t
	return errors.Join(errs[:]...)
}

func (s *state) plantRoom(seed *seedRoom) error {
	if s.rooms[seed.ID] != nil {
		return fmt.Errorf("id %d is there twice", seed.ID)
	}
	r := &room{
		id: seed.ID, creator: seed.Creator, muted: seed.Muted, closed: seed.Closed,
		members: map[accountID]*roomMember{}, byClientID: map[string]*roomMessage{},
	}
	managers, err := s.known("creator and managers", append([]accountID{seed.Creator}, seed.Managers...))
	if err != nil {
		return err
	}
	r.managers = managers
	for id := range managers {
		r.members[id] = &roomMember{}
	}
	for _, m := range seed.Members {
		if _, err := s.known("members", []accountID{m.Account}); err != nil {
			return err
		}
		r.members[m.Account] = &roomMember{m.Nick, m.Avatar, m.Muted, m.TempMuted, m.Blocked}
	}
	s.rooms[r.id] = r
	return nil
}

// plantMessage sends the message as the API would, at its own time and under
// its own id. Ids and times must not decrease from one message to the next.
func (s *state) plantMessage(m *seedMessage) error {
	if m.MessageServerID != 0 {
		if m.MessageServerID <= s.lastMessageID {
			return fmt.Errorf("message_server_id %d is not above the one before", m.MessageServerID)
		}
		s.lastMessageID = m.MessageServerID - 1
	}
	now := s.clock.Now()
	if m.CreateTime != 0 {
		now = time.UnixMilli(m.CreateTime)
		if now.Before(s.clock.Latest) {
			return fmt.Errorf("create_time %d is before the one before", m.CreateTime)
		}
	}
	m.ID = m.ConversationID
	bad := m.Check()
	if bad == nil {
		_, bad = sendMessage(&call{s, engine.Call{Now: s.clock.Advance(now)}}, &m.sendMessageRequest)
	}
	if bad != nil {
		return fmt.Errorf("code %d: %s", bad.Code.Number, bad.Msg)
	}
	return nil
}

func (s *state) summary() Summary {
	var sum Summary
	for _, id := range slices.Sorted(maps.Keys(s.accounts)) {
		sum.Accounts = append(sum.Accounts, string(id))
	}
	for _, t := range s.teams {
		id, _ := strconv.ParseInt(t.id, 10, 64) // written by teamPeer
		if t.kind == kindTeam {
			sum.Teams = append(sum.Teams, id)
		} else {
			sum.SuperTeams = append(sum.SuperTeams, id)
		}
	}
	slices.Sort(sum.Teams)
	slices.Sort(sum.SuperTeams)
	sum.Rooms = slices.Sorted(maps.Keys(s.rooms))
	return sum
}

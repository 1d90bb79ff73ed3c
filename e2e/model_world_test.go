package e2e

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// The model follows the vendor's documents, and where these are silent what
// internal/sandbox/README.md says. The sandbox's built-in seed has the accounts
// and the team: alice owns it, bob is a manager, carol a member, and so is erin,
// who is muted in it.

const (
	theTeam = "2366968294"
	noTeam  = "404"
)

var (
	everybody   = []string{"alice", "bob", "carol", "dave", "erin"}
	teamMembers = []string{"alice", "bob", "carol", "erin"}
	teamLeaders = []string{"alice", "bob"}
)

// The upstream's codes that the model knows of.
const (
	forbidden           = 403
	parameterInvalid    = 414
	accountMissing      = 102404
	recallForbidden     = 107303
	clientIDUsed        = 107306
	recallTooLate       = 107314
	messageMissing      = 107404
	recallToSelf        = 107429
	modifiedTooSoon     = 107449
	teamMissing         = 108404
	notMember           = 109404
	mutedMember         = 109424
	leadersOnly         = 109432
	otherOwner          = 110302
	inTooManyGroups     = 110304
	notPinned           = 110305
	conversationMissing = 110404
	groupMissing        = 116404
	tooManyGroups       = 116435
)

const (
	maxGroups           = 100 // of an account
	maxGroupsOfChat     = 5
	modifyInterval      = time.Second
	modifyWindow        = 7 * 24 * time.Hour
	twoWayWindow        = 2 * time.Minute
	oneWayWindow        = 30 * 24 * time.Hour
	kindP2P, kindOfTeam = "1", "2"
)

// A chatID names a conversation, which is one account's view.
type chatID struct{ owner, kind, peer string }

func (id chatID) String() string { return strings.Join([]string{id.owner, id.kind, id.peer}, "|") }

// ends is the code for an end that does not exist.
func (id chatID) ends() int {
	switch {
	case !slices.Contains(everybody, id.owner):
		return accountMissing
	case id.kind == kindP2P && !slices.Contains(everybody, id.peer):
		return accountMissing
	case id.kind == kindOfTeam && id.peer != theTeam:
		return teamMissing
	}
	return 0
}

// outside reports whether the owner is no member of the team.
func (id chatID) outside() bool {
	return id.kind == kindOfTeam && !slices.Contains(teamMembers, id.owner)
}

// mayPost is the code for an owner who may not send.
func (id chatID) mayPost() int {
	switch code := id.ends(); {
	case code != 0:
		return code
	case id.outside():
		return notMember
	case id.kind == kindOfTeam && id.owner == "erin":
		return mutedMember
	}
	return 0
}

// A world is what the upstream must hold.
type world struct {
	now     func() time.Time
	version string
	chats   map[chatID]*chat
	letters []*letter      // every message, in the order of sending
	folders []*folder      // every group, in the order of creation
	deleted []*folder      // the last group that was deleted
	cleared map[chatID]int // so many messages are not in the owner's history
	moves   int            // so often has a chat come to the top
}

func newWorld(version string, now func() time.Time) *world {
	return &world{now: now, version: version, chats: map[chatID]*chat{}, cleared: map[chatID]int{}}
}

// A chat is a conversation.
type chat struct {
	id               chatID
	extension        string
	pinned           bool
	folders          []int64
	last             *imv1.Message
	notice           *imv1.RecallNotification
	read             int // of all messages in the world
	lastRead         *timestamppb.Timestamp
	created, updated *timestamppb.Timestamp
	rank             int   // the highest comes first
	order            int64 // as first seen at this rank, otherwise 0
}

// A letter is a message.
type letter struct {
	position int // in world.letters
	from     chatID
	kind     imv1.MessageType
	shown    *imv1.Message // as the history has it; replaced, never changed
	counts   bool          // as unread
	stored   bool          // in the history
	hidden   map[string]bool
	gone     imv1.RecallMode // two-way or delete, for everybody
	readAt   *timestamppb.Timestamp
}

// A folder is a group.
type folder struct {
	owner string
	shown *imv1.ConversationGroup // replaced, never changed
}

func (w *world) stamp() *timestamppb.Timestamp { return timestamppb.New(w.now()) }

// age is how long ago something was, and very long if it never was.
func (w *world) age(ts *timestamppb.Timestamp) time.Duration { return w.now().Sub(ts.AsTime()) }

// audience is everybody whom a letter may reach.
func (l *letter) audience() []string {
	switch {
	case l.from.kind == kindOfTeam:
		return teamMembers
	case l.from.owner == l.from.peer:
		return []string{l.from.owner}
	default:
		return []string{l.from.owner, l.from.peer}
	}
}

// in is the chat in which an account has the letter.
func (l *letter) in(account string) chatID {
	if l.from.kind == kindP2P && account != l.from.owner {
		return chatID{account, kindP2P, l.from.owner}
	}
	return chatID{account, l.from.kind, l.from.peer}
}

// belongs reports whether a letter is part of the exchange that a chat shows.
func (l *letter) belongs(id chatID) bool {
	p2p := id.kind == kindP2P && (id.owner == l.from.owner || id.owner == l.from.peer)
	return l.in(id.owner) == id && (p2p || id.kind == kindOfTeam)
}

// find looks a letter up by its id; it must not be gone.
func (w *world) find(id chatID, serverID int64) *letter {
	for _, l := range w.letters {
		if l.shown.GetMessageServerId() == serverID && l.belongs(id) && l.gone == 0 {
			return l
		}
	}
	return nil
}

// reaches reports whether the owner of a chat has a copy, whatever became of it.
func (w *world) reaches(l *letter, id chatID) bool {
	return l.gone == 0 && !l.hidden[id.owner] && l.position >= w.cleared[id]
}

// readable is find for what the history of a chat shows.
func (w *world) readable(id chatID, serverID int64) *letter {
	if l := w.find(id, serverID); l != nil && l.stored && w.reaches(l, id) {
		return l
	}
	return nil
}

// listed reports whether a list of messages has a letter. With all it also has what
// was hidden and deleted, but not what was recalled for everybody.
func (w *world) listed(l *letter, id chatID, all bool) bool {
	if !l.belongs(id) || !l.stored {
		return false
	}
	return w.reaches(l, id) || all && l.gone != imv1.RecallMode_RECALL_MODE_TWO_WAY && l.position >= w.cleared[id]
}

func (w *world) unread(c *chat) (n int32) {
	for _, l := range w.letters[c.read:] {
		if l.belongs(c.id) && l.counts && l.from.owner != c.id.owner && w.reaches(l, c.id) {
			n++
		}
	}
	return n
}

// open returns a chat; in a new one so many messages are read.
func (w *world) open(id chatID, read int) *chat {
	c := w.chats[id]
	if c == nil {
		c = &chat{id: id, read: read, created: w.stamp(), updated: w.stamp()}
		w.chats[id] = c
		w.toTop(c)
	}
	return c
}

func (w *world) toTop(c *chat) {
	w.moves++
	c.rank, c.order = w.moves, 0
}

// send delivers a letter to all who have a copy, unless it is not to update their
// conversations.
func (w *world) send(l *letter, update bool) {
	l.position = len(w.letters)
	w.letters = append(w.letters, l)
	if !update {
		return
	}
	for _, account := range l.audience() {
		id := l.in(account)
		if w.reaches(l, id) {
			c := w.open(id, l.position)
			c.last, c.notice, c.updated = l.asLast(), nil, w.stamp()
			w.toTop(c)
		}
	}
}

// asLast is a letter as the last message of a chat, as v2.1 has it.
func (l *letter) asLast() *imv1.Message {
	last := proto.CloneOf(l.shown)
	last.ModifyAccountId, last.ModifyTime = "", nil
	return last
}

// lasts are the chats of which a letter is the last message.
func (w *world) lasts(l *letter) (all []*chat) {
	for _, account := range l.audience() {
		c := w.chats[l.in(account)]
		if c != nil && c.last.GetMessageServerId() == l.shown.GetMessageServerId() {
			all = append(all, c)
		}
	}
	return all
}

// remove deletes a chat, and its history on demand.
func (w *world) remove(id chatID, clearing bool) {
	delete(w.chats, id)
	if clearing {
		w.cleared[id] = len(w.letters)
	}
}

// folder looks up a group of an account.
func (w *world) folder(owner string, id int64) *folder {
	for _, f := range w.folders {
		if f.owner == owner && f.shown.GetGroupId() == id {
			return f
		}
	}
	return nil
}

// folderCode is the code for an account or a group of its that does not exist.
func (w *world) folderCode(owner string, id int64) int {
	switch {
	case !slices.Contains(everybody, owner):
		return accountMissing
	case w.folder(owner, id) == nil:
		return groupMissing
	}
	return 0
}

// join puts a chat into a group, or returns the code for what is against it.
func (w *world) join(f *folder, id chatID) int {
	c := w.chats[id]
	switch code := id.ends(); {
	case id.owner != f.owner:
		return otherOwner
	case code != 0:
		return code
	case c == nil:
		return conversationMissing
	case slices.Contains(c.folders, f.shown.GetGroupId()):
		return 0
	case len(c.folders) == maxGroupsOfChat:
		return inTooManyGroups
	}
	c.folders = append(c.folders, f.shown.GetGroupId())
	return 0
}

// leave takes a chat out of a group, in which it need not be.
func (w *world) leave(f *folder, id chatID) int {
	c := w.chats[id]
	switch code := id.ends(); {
	case id.owner != f.owner:
		return otherOwner
	case code != 0:
		return code
	case c == nil:
		return conversationMissing
	}
	c.folders = slices.DeleteFunc(c.folders, func(id int64) bool { return id == f.shown.GetGroupId() })
	return 0
}

// inOrder lists the chats of an account, pinned ones first, then the one that
// moved last.
func (w *world) inOrder(owner string, keep func(*chat) bool) (all []*chat) {
	for _, c := range w.chats {
		if c.id.owner == owner && keep(c) {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *chat) int {
		if a.pinned != b.pinned {
			return map[bool]int{true: -1, false: 1}[a.pinned]
		}
		return b.rank - a.rank
	})
	return all
}

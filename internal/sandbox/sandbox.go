// Package sandbox is a stateful, in-memory stand-in for the NetEase Yunxin
// server API (the signed REST API under /im/v2/ and /im/v2.1/).
//
// It is an independent witness of the wire: it shares no code with the client
// that it tests, because a wrong name on one side must not be wrong on the other
// as well. The README beside this file lists what it emulates and what not.
//
// A file holds what one domain does, and its name begins with the domain. The
// package engine has what all operations need.
package sandbox

import (
	"cmp"
	_ "embed"
	"slices"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

// Credentials of the built-in app.
const (
	AppKey    = "sandbox"
	AppSecret = "sandbox-secret"
)

//go:embed seed.json
var defaultSeed []byte

// Options adjusts a Sandbox. The zero value is ready for use.
type Options struct {
	AppKey, AppSecret string           // default: the constants above
	Now               func() time.Time // default: time.Now
	Seed              []byte           // seed document, see README.md; default: the embedded seed.json
	Rate              int              // calls per second and API before code 416; 0 = no limit
}

// Sandbox is an http.Handler that answers like the upstream.
type Sandbox struct {
	*engine.Engine[*call]

	state   *state
	summary Summary
}

// Summary names what a sandbox was seeded with.
type Summary struct {
	Accounts   []string
	Teams      []int64 // advanced teams
	SuperTeams []int64
	Rooms      []int64 // chat rooms
}

// operation is one API of the upstream.
type operation = engine.Operation[*call]

// operations returns what all domains can do. Each list stands in the file of its
// handlers.
func operations() []operation {
	return slices.Concat(
		conversationOperations, conversationStateOperations, conversationGroupOperations,
		messageSendOperations, messageStreamOperations, messageModifyOperations, messageRecallOperations,
		messageHistoryOperations, messageSearchOperations, messageReceiptOperations, messageCommentOperations,
		chatroomOperations, chatroomHistoryOperations,
	)
}

// New returns a sandbox in the state that its seed describes. The error says what
// is wrong with the seed.
func New(o Options) (*Sandbox, error) {
	clock := &engine.Clock{Now: o.Now}
	if clock.Now == nil {
		clock.Now = time.Now
	}
	state := newState(clock)
	seed := o.Seed
	if seed == nil {
		seed = defaultSeed
	}
	if err := state.plant(seed); err != nil {
		return nil, err
	}
	return &Sandbox{
		Engine: engine.New(engine.Config[*call]{
			AppKey: cmp.Or(o.AppKey, AppKey), AppSecret: cmp.Or(o.AppSecret, AppSecret),
			Clock: clock, Rate: o.Rate, Operations: operations(),
			Begin: func(c engine.Call) *call { return &call{state, c} },
		}),
		state:   state,
		summary: state.summary(),
	}, nil
}

// Summary lists the seeded accounts, teams and chat rooms, sorted.
func (s *Sandbox) Summary() Summary { return s.summary }

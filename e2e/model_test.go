package e2e

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
)

// TestModel makes random calls over gRPC, in front of a sandbox, and compares
// every reply, and now and then everything there is, with a model. A few accounts
// and one team share all calls, so that these get into each other's way.
//
// The calls of one check build on each other; many in a row get further:
//
//	go test ./e2e -run TestModel -v -rapid.checks=40 -rapid.steps=600
//	go test ./e2e -run TestModel -v -rapid.checks=1 -rapid.steps=10000
func TestModel(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	calls := 0
	rapid.Check(t, func(t *rapid.T) {
		m := s.newMachine(t)
		m.warmUp(t)
		m.due = 25
		t.Repeat(m.actions())
		m.compareAll(t)
		calls += m.calls
	})
	t.Logf("%d calls", calls)
}

// A stage is a sandbox that can be exchanged, with a clock that can be moved, and
// two facades in front of it, one for each version of its API.
type stage struct {
	sandbox atomic.Pointer[sandbox.Sandbox]
	clock   atomic.Int64 // milliseconds
	facades map[string]*facade
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{facades: map[string]*facade{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	for _, version := range []string{"v2", "v2.1"} {
		s.facades[version] = startFacade(t, append(harness.Upstream(t, server.URL), "--api-version="+version)...)
	}
	return s
}

// opening is when the clock starts.
var opening = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (s *stage) now() time.Time { return time.UnixMilli(s.clock.Load()) }

// ServeHTTP signs a call for the time that it is on stage, and passes it on.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seconds := strconv.FormatInt(s.now().Unix(), 10)
	sum := sha1.Sum([]byte(harness.AppSecret + r.Header.Get("Nonce") + seconds))
	r.Header.Set("CurTime", seconds)
	r.Header.Set("CheckSum", hex.EncodeToString(sum[:]))
	s.sandbox.Load().ServeHTTP(w, r)
}

// A machine calls the facade and knows what must come back.
type machine struct {
	*world

	stage         *stage
	conversations imv1.ConversationServiceClient
	groups        imv1.ConversationGroupServiceClient
	messages      imv1.MessageServiceClient
	recent        *letter // that a call was about
	calls         int     // that changed or read something, without those of compareAll
	due           int     // so many calls until everything is compared
}

// newMachine begins with an empty sandbox.
func (s *stage) newMachine(t *rapid.T) *machine {
	t.Helper()
	s.clock.Store(opening.UnixMilli())
	fresh, err := sandbox.New(sandbox.Options{AppKey: harness.AppKey, AppSecret: harness.AppSecret, Now: s.now})
	if err != nil {
		t.Fatal(err)
	}
	s.sandbox.Store(fresh)
	version := rapid.SampledFrom([]string{"v2", "v2.1"}).Draw(t, "version")
	conn := s.facades[version].conn
	return &machine{
		world: newWorld(version, s.now), stage: s,
		conversations: imv1.NewConversationServiceClient(conn),
		groups:        imv1.NewConversationGroupServiceClient(conn),
		messages:      imv1.NewMessageServiceClient(conn),
	}
}

// actions are all methods that call something; what happens most in real life
// happens more often here.
func (m *machine) actions() map[string]func(*rapid.T) {
	actions := rapid.StateMachineActions(m)
	for name, more := range map[string]int{
		"SendMessage": 4, "CreateConversation": 3, "CreateConversationGroup": 3, "UpdateConversationGroup": 3,
		"UpdateMessage": 1, "Wait": 1,
	} {
		for i := range more {
			actions[fmt.Sprint(name, i)] = actions[name]
		}
	}
	for name, act := range maps.Clone(actions) {
		if name != "" {
			actions[name] = func(t *rapid.T) {
				act(t)
				m.calls++ // not reached by an action that skips itself
			}
		}
	}
	return actions
}

// warmUp puts something on stage.
func (m *machine) warmUp(t *rapid.T) {
	t.Helper()
	for range 3 {
		m.SendMessage(t)
		m.CreateConversation(t)
	}
	m.CreateConversationGroup(t)
}

// Wait lets time pass: beyond a second a message can be modified again, and after
// two minutes, seven days and thirty days it can no longer be recalled, modified
// and deleted.
func (m *machine) Wait(t *rapid.T) {
	const day = 24 * time.Hour
	times := []time.Duration{
		time.Millisecond, time.Millisecond, 999 * time.Millisecond, 999 * time.Millisecond, time.Second, time.Second,
		time.Second, 2 * time.Minute, 2 * time.Minute, 7 * day, 30 * day,
	}
	m.stage.clock.Add(rapid.SampledFrom(times).Draw(t, "time").Milliseconds())
}

// Check implements rapid.StateMachine: after every so many calls, the more the
// more there is, everything is compared.
func (m *machine) Check(t *rapid.T) {
	if m.calls < m.due {
		return
	}
	m.compareAll(t)
	m.due = m.calls + 25 + len(m.letters)/2
}

// refused checks that a call ended as the model expects: well if want is 0, otherwise
// with that code of the upstream. It reports whether the call was refused.
func refused(t *rapid.T, err error, want int) bool {
	t.Helper()
	if have := codeFrom(status.Convert(err)); have != want {
		t.Fatalf("upstream code %d, want %d: %v", have, want, err)
	}
	return want != 0
}

// refusedItem is refused for an item of a batch.
func refusedItem(t *rapid.T, item any, e *statuspb.Status, want int) bool {
	t.Helper()
	if have := codeFrom(status.FromProto(e)); have != want {
		t.Fatalf("%v: upstream code %d, want %d: %v", item, have, want, e)
	}
	return want != 0
}

// codeFrom is the upstream's code behind an error: 0 if there is no error, -1 if
// it is not the upstream's.
func codeFrom(s *status.Status) int {
	if s.Code() == 0 {
		return 0
	}
	n, err := strconv.Atoi(detail[*errdetails.ErrorInfo](s).GetMetadata()["upstream_code"])
	if err != nil {
		return -1
	}
	return n
}

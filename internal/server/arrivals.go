package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// What messages of gRPC may take: those that have not arrived in full some of the
// largest all together, and those of calls in progress each a small part, as those of
// REST do, and beyond that some of the largest. The limits of connections, calls and
// messages, multiplied, are more memory than there is.
const (
	smallBody         = 64 << 10
	largestArriving   = 4
	largestInProgress = 16
	leastArriving     = 16 << 20
	waitCost          = 4 << 10 // bytes that are counted for a call that waits for a message
	frameCost         = 64      // and for each frame of one
	letGoTime         = 100 * time.Millisecond
)

// arrivals keeps what messages hold below two limits. When unfinished ones pass
// theirs, the oldest unfinished call is refused of the address that holds the most,
// on its connection that does.
type arrivals struct {
	most, mostInProgress int64
	held, inProgress     atomic.Int64

	mu       sync.Mutex
	sessions map[*session]struct{}
	victim   atomic.Pointer[victim]
}

// victim is a connection that has been told to let go, and has not done it yet.
type victim struct{ *session }

func newArrivals(largest int64) *arrivals {
	return &arrivals{
		most: max(largestArriving*largest, leastArriving), mostInProgress: largestInProgress * largest,
		sessions: map[*session]struct{}{},
	}
}

func (a *arrivals) enter(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions[s] = struct{}{}
}

// leave forgets a connection.
func (a *arrivals) leave(s *session) {
	a.mu.Lock()
	delete(a.sessions, s)
	a.mu.Unlock()
	a.eased(s)
}

// eased is told whenever a call of a connection has ended.
func (a *arrivals) eased(s *session) {
	if v := a.victim.Load(); v != nil && v.session == s {
		a.victim.CompareAndSwap(v, nil)
	}
}

// relieve refuses a call if the messages that arrive hold too much, and reports whether
// they do. The next one is refused only after that, or one large message would cost
// many.
func (a *arrivals) relieve() bool {
	if a.held.Load() <= a.most {
		return false
	}
	if a.victim.Load() != nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.victim.Load() != nil { // since then
		return true
	}
	var worst *session
	var held, heldThere int64
	for s := range a.sessions {
		could, there := s.couldRelease(), s.source.held.Load()
		if could > 0 && (there > heldThere || there == heldThere && could > held) {
			worst, held, heldThere = s, could, there
		}
	}
	if worst == nil {
		return true
	}
	v := &victim{worst}
	a.victim.Store(v)
	if !worst.refuseOldest() {
		a.eased(worst)
		return true
	}
	// Who does not read what it is told would keep what it has.
	time.AfterFunc(letGoTime, func() {
		if a.victim.Load() == v {
			_ = worst.Close()
		}
	})
	return true
}

// receive waits for a message of a call, as long as there is room for it. It may
// return before read does: the library ends no wait but with the call, and would
// answer itself then, without a reason.
func (a *arrivals) receive(ctx context.Context, read func() error) error {
	s := sessionIn(ctx)
	if s == nil {
		return read()
	}
	refused := s.wait()
	defer s.stopWaiting(refused)
	received := make(chan error, 1)
	go func() { received <- read() }()
	select {
	case err := <-received:
		if status.Code(err) == codes.Internal { // it cannot be read, which is its sender's doing
			return apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s", status.Convert(err).Message())
		}
		return err
	case <-refused:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_OVERLOADED, "the messages that arrive take too much memory")
	}
}

// keep counts a message that has arrived until its call lets go of it.
func (a *arrivals) keep(ctx context.Context, size int) (letGo func(), err error) {
	if size <= smallBody || sessionIn(ctx) == nil {
		return func() {}, nil
	}
	large := int64(size - smallBody)
	if a.inProgress.Add(large) > a.mostInProgress {
		a.inProgress.Add(-large)
		return func() {}, apierror.New(imv1.ErrorReason_ERROR_REASON_OVERLOADED, "the messages of the calls in progress take too much memory")
	}
	return func() { a.inProgress.Add(-large) }, nil
}

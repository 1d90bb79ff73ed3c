package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

const (
	maxStreamCharacters = 5000            // above that the upstream ends the message
	finishTimeout       = 5 * time.Second // for the last piece, once the caller is gone
	finishMargin        = time.Second     // before the deadline, for the last piece
)

type streamServer = grpc.BidiStreamingServer[imv1.SendStreamMessageRequest, imv1.SendStreamMessageResponse]

// sendStreamMessage sends a message whose text arrives in pieces. Whatever happens to
// the caller, a message that was begun is finished: otherwise its receivers would see a
// text that never ends.
func (s *messageService) sendStreamMessage(stream streamServer) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && first.GetStart() == nil {
		return invalid("start", "must be set in the first request")
	}
	if err != nil {
		return err
	}
	m := &streamMessage{up: s.up, start: first.GetStart(), ack: stream.Send}
	if m.start.GetMessageClientId() == "" {
		m.start.MessageClientId = s.clientID(stream.Context(), m.start.GetConversationId())
	}
	err = m.run(stream.Context(), first.GetText(), receive(stream), s.pieceInterval)
	if err != nil && m.open() {
		m.finishAlone(stream.Context())
	}
	return err
}

// arrival is one request of the caller, or the end of them.
type arrival struct {
	request *imv1.SendStreamMessageRequest
	err     error // io.EOF if the caller closed its side
}

// receive hands over requests one by one; a caller who is faster than the
// upstream waits.
func receive(stream streamServer) <-chan arrival {
	arrivals := make(chan arrival)
	go func() {
		for {
			request, err := stream.Recv()
			select {
			case arrivals <- arrival{request, err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return arrivals
}

// streamMessage is a message on its way, piece by piece.
type streamMessage struct {
	up         imv1.MessageServiceClient
	start      *imv1.StreamMessageStart
	ack        func(*imv1.SendStreamMessageResponse) error
	pending    strings.Builder // arrived, not sent
	arrived    int             // characters, in all
	sent       int             // characters the upstream has taken
	index      int32           // of the next piece
	serverID   int64           // 0 until the first piece was taken
	finished   bool
	createTime *imv1.SendStreamMessagePieceResponse // the reply to the first piece
}

// run sends pieces, no two within the interval, until the caller closes its
// side.
func (m *streamMessage) run(ctx context.Context, text string, arrivals <-chan arrival, interval time.Duration) error {
	if err := m.add(text); err != nil {
		return err
	}
	due := time.NewTimer(0)
	defer due.Stop()
	late, stop := untilLate(ctx)
	defer stop()
	ready := false // the interval is over
	for {
		if ready && m.pending.Len() > 0 {
			if err := m.send(ctx, false); err != nil {
				return err
			}
			ready = false
			due.Reset(interval)
		}
		select {
		case <-due.C:
			ready = true
		case a := <-arrivals:
			if errors.Is(a.err, io.EOF) {
				return m.finish(ctx)
			}
			if ctx.Err() != nil {
				return m.gone(ctx)
			}
			if a.err != nil {
				return a.err
			}
			if a.request.GetStart() != nil {
				return invalid("start", "must be set in the first request only")
			}
			if err := m.add(a.request.GetText()); err != nil {
				return err
			}
		case <-late:
			return m.cutShort(codes.DeadlineExceeded, "the deadline nears")
		case <-ctx.Done():
			return m.gone(ctx)
		}
	}
}

func (m *streamMessage) gone(ctx context.Context) error {
	return m.cutShort(status.FromContextError(ctx.Err()).Code(), "the caller has gone")
}

// cutShort is the error of a message that ends before its caller has ended it.
// After the first piece it is not true that nothing was sent.
func (m *streamMessage) cutShort(code codes.Code, why string) error {
	if !m.open() {
		return status.Error(code, why)
	}
	e := apierror.New(imv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, "%s; the message is finished with what had arrived", why)
	e.Code = code
	return e
}

// untilLate fires when it is time to finish, if the caller has a deadline.
func untilLate(ctx context.Context) (late <-chan time.Time, stop func() bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, func() bool { return false }
	}
	left := time.Until(deadline)
	timer := time.NewTimer(left - min(finishMargin, left/2))
	return timer.C, timer.Stop
}

func (m *streamMessage) add(text string) error {
	m.arrived += utf8.RuneCountInString(text)
	if m.arrived > maxStreamCharacters {
		return invalid("text", fmt.Sprintf("must have at most %d characters in all", maxStreamCharacters))
	}
	m.pending.WriteString(text)
	return nil
}

// open reports whether the upstream waits for more.
func (m *streamMessage) open() bool { return m.serverID != 0 && !m.finished }

// finish sends the last piece.
func (m *streamMessage) finish(ctx context.Context) error {
	if m.arrived == 0 {
		return invalid("text", "must not be empty in all requests")
	}
	return m.send(ctx, true)
}

// finishAlone finishes a message whose caller has gone or was refused. There is
// nobody left to tell if it fails; the upstream then ends it after 30 seconds.
func (m *streamMessage) finishAlone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	_ = m.send(ctx, true)
}

// send sends what is pending as one piece and acknowledges it.
func (m *streamMessage) send(ctx context.Context, last bool) error {
	text := m.pending.String()
	reply, err := m.up.SendStreamMessagePiece(ctx, m.piece(text, last))
	if err != nil {
		// The upstream has ended the message, or may have taken the piece:
		// in neither case may the piece be sent again.
		m.finished = status.Code(err) == codes.FailedPrecondition
		m.pending.Reset()
		m.index++
		return err
	}
	if m.serverID == 0 {
		m.serverID, m.createTime = reply.GetMessageServerId(), reply
	}
	m.pending.Reset()
	m.sent += utf8.RuneCountInString(text)
	m.finished = last
	err = m.ack(&imv1.SendStreamMessageResponse{
		MessageServerId: m.serverID,
		MessageClientId: m.start.GetMessageClientId(),
		Index:           m.index,
		Characters:      int32(m.sent), //nolint:gosec // at most maxStreamCharacters
		Finished:        last,
		CreateTime:      m.createTime.GetCreateTime(),
	})
	m.index++
	return err
}

// piece makes the request for one piece: the first carries the options, later
// ones name the message by its server id.
func (m *streamMessage) piece(text string, last bool) *imv1.SendStreamMessagePieceRequest {
	index := m.index
	message := &imv1.StreamMessage{
		Piece:           &imv1.StreamPiece{Text: &text, Index: &index, Finish: &last},
		MessageServerId: m.serverID,
	}
	request := &imv1.SendStreamMessagePieceRequest{ConversationId: m.start.GetConversationId(), Message: message}
	if m.serverID != 0 {
		return request
	}
	message.MessageClientId = m.start.GetMessageClientId()
	message.MessageType = imv1.MessageType_MESSAGE_TYPE_TEXT
	request.MessageConfig = m.start.GetMessageConfig()
	request.PushConfig = m.start.GetPushConfig()
	request.RouteConfig = m.start.GetRouteConfig()
	request.P2POption = m.start.GetP2POption()
	request.TeamOption = m.start.GetTeamOption()
	request.TargetOption = m.start.GetTargetOption()
	request.ThreadConfig = m.start.GetThreadConfig()
	request.Extension = m.start.Extension
	request.RagInfoList = m.start.GetRagInfoList()
	return request
}

// invalid is the error of a request that no rule in the protos can judge.
func invalid(field, rule string) error {
	e := apierror.New(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s: %s", field, rule)
	e.Violations = []apierror.Violation{{Field: field, Description: rule}}
	return e
}

package service

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

const interval = 200 * time.Millisecond

// pieces is an upstream that takes pieces.
type pieces struct {
	imv1.MessageServiceClient

	taken   []*imv1.SendStreamMessagePieceRequest
	times   []time.Time
	latency time.Duration
	refuse  func(n int) error // the answer to the nth piece, from 0
}

func (p *pieces) SendStreamMessagePiece(ctx context.Context, req *imv1.SendStreamMessagePieceRequest, _ ...grpc.CallOption) (*imv1.SendStreamMessagePieceResponse, error) {
	select {
	case <-time.After(p.latency):
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	n := len(p.taken)
	p.taken = append(p.taken, req)
	p.times = append(p.times, time.Now())
	if p.refuse != nil && p.refuse(n) != nil {
		return nil, p.refuse(n)
	}
	return &imv1.SendStreamMessagePieceResponse{MessageServerId: 42}, nil
}

// texts returns the text of each piece.
func (p *pieces) texts() []string {
	var all []string
	for _, r := range p.taken {
		all = append(all, r.GetMessage().GetPiece().GetText())
	}
	return all
}

func (p *pieces) finished() bool {
	return len(p.taken) > 0 && p.taken[len(p.taken)-1].GetMessage().GetPiece().GetFinish()
}

// caller is the caller's side of a stream: it says one thing after another.
type caller struct {
	grpc.ServerStream

	ctx  context.Context //nolint:containedctx // as the streams of grpc
	says <-chan *imv1.SendStreamMessageRequest
	acks []*imv1.SendStreamMessageResponse
}

func (c *caller) Context() context.Context { return c.ctx }

func (c *caller) Send(ack *imv1.SendStreamMessageResponse) error {
	c.acks = append(c.acks, ack)
	return c.ctx.Err()
}

func (c *caller) Recv() (*imv1.SendStreamMessageRequest, error) {
	select {
	case req, ok := <-c.says:
		if !ok {
			return nil, io.EOF
		}
		return req, nil
	case <-c.ctx.Done():
		return nil, status.FromContextError(c.ctx.Err()).Err()
	}
}

// pass lets time pass in the bubble of a test.
func pass(d time.Duration) { <-time.After(d) }

func begin(text string) *imv1.SendStreamMessageRequest {
	extension := "{}"
	return &imv1.SendStreamMessageRequest{Text: text, Start: &imv1.StreamMessageStart{
		ConversationId: "alice|1|bob", Extension: &extension,
	}}
}

func say(text string) *imv1.SendStreamMessageRequest {
	return &imv1.SendStreamMessageRequest{Text: text}
}

// stream runs a handler against an upstream; script is what the caller does.
func stream(ctx context.Context, t *testing.T, up *pieces, script func(say chan<- *imv1.SendStreamMessageRequest)) (*caller, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // as gRPC does when the handler returns
	says := make(chan *imv1.SendStreamMessageRequest)
	go script(says)
	c := &caller{ctx: ctx, says: says}
	s := &messageService{up: up, pieceInterval: interval, clientID: func(context.Context, string) string { return rand.Text() }}
	err := s.sendStreamMessage(c) //nolint:contextcheck // the stream has it
	return c, err
}

func TestStreamMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &pieces{}
		c, err := stream(t.Context(), t, up, func(says chan<- *imv1.SendStreamMessageRequest) {
			says <- begin("one ")
			for _, text := range []string{"two ", "three ", "four "} {
				pass(interval / 4)
				says <- say(text)
			}
			pass(2 * interval)
			says <- say("five")
			close(says)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := up.texts(); !slices.Equal(got, []string{"one ", "two three four ", "five", ""}) {
			t.Errorf("pieces %q", got)
		}
		first, later, last := up.taken[0], up.taken[1], up.taken[3]
		if first.GetMessage().GetMessageClientId() == "" || first.GetExtension() != "{}" || first.GetMessage().GetMessageServerId() != 0 {
			t.Errorf("first piece %v", first)
		}
		if later.GetMessage().GetMessageServerId() != 42 || later.Extension != nil || later.GetMessage().GetPiece().GetIndex() != 1 {
			t.Errorf("second piece %v", later)
		}
		if !last.GetMessage().GetPiece().GetFinish() || later.GetMessage().GetPiece().GetFinish() {
			t.Error("the last piece, and no other, finishes")
		}
		ack := c.acks[len(c.acks)-1]
		if len(c.acks) != 4 || !ack.GetFinished() || ack.GetCharacters() != int32(len("one two three four five")) {
			t.Errorf("acknowledged %v", c.acks)
		}
	})
}

func TestStreamMessageKeepsTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := &pieces{latency: 30 * time.Millisecond}
		_, err := stream(t.Context(), t, up, func(says chan<- *imv1.SendStreamMessageRequest) {
			says <- begin("x")
			for range 1000 {
				says <- say("x")
				pass(time.Millisecond)
			}
			close(says)
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(up.times)-1; i++ { // the last comes when the caller is done
			if gap := up.times[i].Sub(up.times[i-1]); gap < interval {
				t.Errorf("piece %d after %v", i, gap)
			}
		}
		if got := strings.Join(up.texts(), ""); got != strings.Repeat("x", 1001) {
			t.Errorf("%d characters arrived", len(got))
		}
	})
}

func TestStreamMessageIsNeverLeftOpen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script func(says chan<- *imv1.SendStreamMessageRequest, hangUp func())
		code   codes.Code
		reason string
		text   string
	}{
		"caller breaks off": {func(says chan<- *imv1.SendStreamMessageRequest, hangUp func()) {
			says <- begin("one")
			pass(interval / 2)
			says <- say(" two")
			pass(interval / 4)
			hangUp()
		}, codes.Canceled, "OUTCOME_UNKNOWN", "one two"},
		"caller goes silent until the deadline": {func(says chan<- *imv1.SendStreamMessageRequest, _ func()) {
			says <- begin("one")
		}, codes.DeadlineExceeded, "OUTCOME_UNKNOWN", "one"},
		"too long": {func(says chan<- *imv1.SendStreamMessageRequest, _ func()) {
			says <- begin(strings.Repeat("界", maxStreamCharacters))
			pass(interval)
			says <- say("!")
		}, codes.InvalidArgument, "INVALID_REQUEST", strings.Repeat("界", maxStreamCharacters)},
		"begins twice": {func(says chan<- *imv1.SendStreamMessageRequest, _ func()) {
			says <- begin("one")
			pass(interval)
			says <- begin("two")
		}, codes.InvalidArgument, "INVALID_REQUEST", "one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				up := &pieces{}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, err := stream(ctx, t, up, func(says chan<- *imv1.SendStreamMessageRequest) {
					test.script(says, cancel)
				})
				if status.Code(err) != test.code || reasonOf(err) != test.reason {
					t.Errorf("error %v, want %v %s", err, test.code, test.reason)
				}
				if !up.finished() || strings.Join(up.texts(), "") != test.text {
					t.Errorf("finished: %t, pieces %.40q", up.finished(), up.texts())
				}
			})
		})
	}
}

func TestStreamMessageEndedByTheUpstream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := status.Error(codes.FailedPrecondition, "stream complete")
		up := &pieces{refuse: func(n int) error { return map[int]error{1: ended}[n] }}
		_, err := stream(t.Context(), t, up, func(says chan<- *imv1.SendStreamMessageRequest) {
			says <- begin("one")
			pass(31 * time.Second)
			says <- say("two")
		})
		if !errors.Is(err, ended) || len(up.taken) != 2 {
			t.Errorf("error %v after %d pieces", err, len(up.taken))
		}
	})
}

func TestStreamMessageWithoutStartOrText(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]*imv1.SendStreamMessageRequest{"no start": say("x"), "no text": begin("")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				up := &pieces{}
				_, err := stream(t.Context(), t, up, func(says chan<- *imv1.SendStreamMessageRequest) {
					says <- first
					close(says)
				})
				if status.Code(err) != codes.InvalidArgument || len(up.taken) != 0 {
					t.Errorf("error %v, %d pieces", err, len(up.taken))
				}
			})
		})
	}
}

package service

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"

	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// numbered is a list of which page n holds conversation n.
func numbered(last int) func(context.Context, string) (*imv1.ListConversationsResponse, error) {
	return func(_ context.Context, token string) (*imv1.ListConversationsResponse, error) {
		n, _ := strconv.Atoi(token)
		reply := &imv1.ListConversationsResponse{Conversations: []*imv1.Conversation{{SortOrder: int64(n)}}, NextPageToken: strconv.Itoa(n + 1)}
		if n == last {
			reply.NextPageToken = ""
		}
		return reply, nil
	}
}

// listener is the caller's side of a stream.
type listener struct {
	grpc.ServerStream

	ctx   context.Context //nolint:containedctx // as the streams of grpc
	token string
	send  func(n int) error
}

func (l *listener) Context() context.Context { return l.ctx }

func (l *listener) RecvMsg(m any) error {
	request, _ := m.(*imv1.ListConversationsRequest)
	request.AccountId, request.PageToken = "alice", l.token
	return nil
}

func (l *listener) SendMsg(m any) error {
	reply, _ := m.(*imv1.ListConversationsResponse)
	return l.send(int(reply.GetConversations()[0].GetSortOrder()))
}

// walk streams the pages of a list.
func walk(ctx context.Context, token string, fetch func(context.Context, string) (*imv1.ListConversationsResponse, error), send func(n int) error) error {
	p, err := newPages(imv1.File_yunxin_im_v1_conversation_service_proto.Services().Get(0).Methods().ByName("StreamConversations"))
	if err != nil {
		return err
	}
	p.call = func(ctx context.Context, request proto.Message) (proto.Message, error) {
		of, _ := request.(*imv1.ListConversationsRequest)
		if of.GetAccountId() != "alice" {
			return nil, errors.New("a page is not of the request's list")
		}
		return fetch(ctx, of.GetPageToken())
	}
	return p.stream(&listener{ctx: ctx, token: token, send: send}) //nolint:contextcheck // a stream has its own
}

func TestWalkSendsAllPages(t *testing.T) {
	t.Parallel()
	var got []int
	err := walk(t.Context(), "2", numbered(5), func(n int) error {
		got = append(got, n)
		return nil
	})
	if want := []int{2, 3, 4, 5}; err != nil || !slices.Equal(got, want) {
		t.Errorf("pages %v, error %v", got, err)
	}
}

func TestWalkFetchesOnePageAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fetched atomic.Int32
		fetch := numbered(9)
		sent := int32(0)
		err := walk(t.Context(), "", func(ctx context.Context, token string) (*imv1.ListConversationsResponse, error) {
			fetched.Add(1)
			return fetch(ctx, token)
		}, func(int) error {
			sent++
			synctest.Wait() // lets the fetch ahead finish
			if got := fetched.Load(); got != min(sent+1, 10) {
				t.Errorf("%d pages fetched while page %d is sent", got, sent)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestWalkEndsWithTheErrorOfAPage(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	fetch := numbered(9)
	var got []int
	err := walk(t.Context(), "", func(ctx context.Context, token string) (*imv1.ListConversationsResponse, error) {
		if token == "3" {
			return nil, lost
		}
		return fetch(ctx, token)
	}, func(n int) error {
		got = append(got, n)
		return nil
	})
	if !errors.Is(err, lost) || !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("pages %v, error %v", got, err)
	}
}

func TestWalkFindsCycles(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(int) int{
		"itself":     func(n int) int { return n },
		"the first":  func(n int) int { return (n + 1) % 4 },
		"a late one": func(n int) int { return map[bool]int{true: n + 1, false: 5}[n < 20] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := 0
			err := walk(t.Context(), "", func(_ context.Context, token string) (*imv1.ListConversationsResponse, error) {
				n, _ := strconv.Atoi(token)
				return &imv1.ListConversationsResponse{Conversations: []*imv1.Conversation{{}}, NextPageToken: strconv.Itoa(next(n))}, nil
			}, func(int) error {
				sent++
				return nil
			})
			if status.Code(err) != codes.Internal || sent > 100 {
				t.Errorf("%d pages sent, error %v", sent, err)
			}
		})
	}
}

func TestWalkStopsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		fetching := false
		err := walk(t.Context(), "", func(ctx context.Context, token string) (*imv1.ListConversationsResponse, error) {
			if token == "" {
				return &imv1.ListConversationsResponse{Conversations: []*imv1.Conversation{{}}, NextPageToken: "1"}, nil
			}
			fetching = true
			<-ctx.Done()
			fetching = false
			return nil, ctx.Err()
		}, func(int) error { return gone })
		if !errors.Is(err, gone) || fetching {
			t.Errorf("error %v, still fetching: %t", err, fetching)
		}
	})
}

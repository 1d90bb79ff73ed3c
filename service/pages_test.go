package service

import (
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

// numbered fetches pages 0 to last; page n holds n.
func numbered(last int) func(context.Context, string) (page[int], error) {
	return func(_ context.Context, token string) (page[int], error) {
		n, _ := strconv.Atoi(token)
		p := page[int]{items: []int{n}, next: strconv.Itoa(n + 1)}
		if n == last {
			p.next = ""
		}
		return p, nil
	}
}

func TestWalkSendsAllPages(t *testing.T) {
	t.Parallel()
	var got []int
	err := walk(t.Context(), "2", numbered(5), func(p page[int]) error {
		got = append(got, p.items...)
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
		err := walk(t.Context(), "", func(ctx context.Context, token string) (page[int], error) {
			fetched.Add(1)
			return fetch(ctx, token)
		}, func(page[int]) error {
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
	err := walk(t.Context(), "", func(ctx context.Context, token string) (page[int], error) {
		if token == "3" {
			return page[int]{}, lost
		}
		return fetch(ctx, token)
	}, func(p page[int]) error {
		got = append(got, p.items...)
		return nil
	})
	if !errors.Is(err, lost) || !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("pages %v, error %v", got, err)
	}
}

func TestWalkFindsCircles(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(int) int{
		"itself":     func(n int) int { return n },
		"the first":  func(n int) int { return (n + 1) % 4 },
		"a late one": func(n int) int { return map[bool]int{true: n + 1, false: 5}[n < 20] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := 0
			err := walk(t.Context(), "", func(_ context.Context, token string) (page[int], error) {
				n, _ := strconv.Atoi(token)
				return page[int]{next: strconv.Itoa(next(n))}, nil
			}, func(page[int]) error {
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
		err := walk(t.Context(), "", func(ctx context.Context, token string) (page[int], error) {
			if token == "" {
				return page[int]{next: "1"}, nil
			}
			fetching = true
			<-ctx.Done()
			fetching = false
			return page[int]{}, ctx.Err()
		}, func(page[int]) error { return gone })
		if !errors.Is(err, gone) || fetching {
			t.Errorf("error %v, still fetching: %t", err, fetching)
		}
	})
}

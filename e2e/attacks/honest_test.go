package attacks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

const honestRate = 100 // calls a second

// honest is a caller that means well. It has the connections that it had before
// any attack.
type honest struct {
	conversations imv1.ConversationServiceClient
	rest          *http.Client
	url           string
}

func (c *child) honest(tb testing.TB) *honest {
	tb.Helper()
	const connections = 8
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}}
	tb.Cleanup(client.CloseIdleConnections)
	h := &honest{imv1.NewConversationServiceClient(c.dialGRPC(tb)), client, "http://" + c.rest}
	var all sync.WaitGroup
	for n := range 50 * connections { // at a time, so that all of them connect
		all.Go(func() {
			if err := h.call(tb.Context(), n); err != nil {
				tb.Errorf("before any attack: %v", err)
			}
		})
	}
	all.Wait()
	return h
}

// call makes a call, over the doors in turn.
func (h *honest) call(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if n%2 == 0 {
		_, err := h.conversations.GetConversation(ctx, &imv1.GetConversationRequest{ConversationId: "alice|1|bob"}, grpc.WaitForReady(true))
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/v1/conversations/alice%7C1%7Cbob", http.NoBody)
	if err != nil {
		return err
	}
	response, err := h.rest.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d %s", response.StatusCode, text)
	}
	return err
}

// beside makes honest calls for as long as a deed lasts, and returns how long each
// took, shortest first. All must be answered.
func (h *honest) beside(tb testing.TB, length time.Duration, deed func(context.Context)) []time.Duration {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), length)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	all.Go(func() { deed(ctx) })
	tick := time.NewTicker(time.Second / honestRate)
	defer tick.Stop()
	for n := 0; ; n++ {
		all.Go(func() {
			begin := time.Now()
			err := h.call(tb.Context(), n) // may end after the deed
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				tb.Errorf("honest call %d: %v", n, err)
			}
			took = append(took, time.Since(begin))
		})
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		all.Wait()
		slices.Sort(took)
		return took
	}
}

// p99 is the time that 99 of 100 calls do not exceed.
func p99(sorted []time.Duration) time.Duration { return sorted[(len(sorted)-1)*99/100] }

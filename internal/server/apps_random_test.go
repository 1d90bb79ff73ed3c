package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/metadata"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
)

// in makes calls for an app; "" names none.
func in(ctx context.Context, app string) context.Context {
	if app == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, callinfo.AppHeader, app)
}

// doIn is do for an app.
func (r *running) doIn(ctx context.Context, app, method, path, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.url(path), strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if app != "" {
		req.Header.Set(callinfo.AppHeader, app)
	}
	response, err := r.http.Do(req)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", response.StatusCode, data)
	}
	return string(data), err
}

const conversations = 8

func conversation(i int) string { return fmt.Sprintf("alice|1|friend%d", i) }

// A caller makes calls of one kind, and returns all that it was told.
type appCall func(ctx context.Context, r *running, app, mark string, i int) (string, error)

// appCalls are calls on both doors: single reads, which are merged and shared,
// batches, streams and writes.
func appCalls() map[string]appCall {
	rest := func(method, path, body string) appCall {
		return func(ctx context.Context, r *running, app, mark string, i int) (string, error) {
			path := strings.ReplaceAll(path, "ID", url.PathEscape(conversation(i)))
			return r.doIn(ctx, app, method, path, strings.ReplaceAll(strings.ReplaceAll(body, "ID", conversation(i)), "MARK", mark))
		}
	}
	return map[string]appCall{
		"get": func(ctx context.Context, r *running, app, _ string, i int) (string, error) {
			reply, err := imv1.NewConversationServiceClient(r.conn).GetConversation(in(ctx, app), &imv1.GetConversationRequest{ConversationId: conversation(i)})
			return reply.String(), err
		},
		"batch": func(ctx context.Context, r *running, app, _ string, i int) (string, error) {
			reply, err := imv1.NewConversationServiceClient(r.conn).BatchGetConversations(in(ctx, app), &imv1.BatchGetConversationsRequest{
				ConversationIds: []string{conversation(i), conversation(i + 1)},
			})
			return reply.String(), err
		},
		"stream": func(ctx context.Context, r *running, app, _ string, _ int) (told string, err error) {
			stream, err := imv1.NewConversationServiceClient(r.conn).StreamConversations(in(ctx, app), &imv1.ListConversationsRequest{AccountId: "alice"})
			for err == nil {
				var reply *imv1.ListConversationsResponse
				if reply, err = stream.Recv(); err == nil {
					told += reply.String()
				}
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return told, err
		},
		"update": func(ctx context.Context, r *running, app, mark string, i int) (string, error) {
			reply, err := imv1.NewConversationServiceClient(r.conn).UpdateConversation(in(ctx, app), &imv1.UpdateConversationRequest{
				ConversationId: conversation(i), ServerExtension: &mark,
			})
			return fmt.Sprint(reply, mark), err
		},
		"get, REST":    rest(http.MethodGet, "/v1/conversations/ID", ""),
		"batch, REST":  rest(http.MethodPost, "/v1/conversations:batchGet", `{"conversation_ids":["ID"]}`),
		"stream, REST": rest(http.MethodGet, "/v1/conversations:stream?account_id=alice", ""),
		"send, REST":   rest(http.MethodPost, "/v1/conversations/alice%7C1%7Cbob/messages", `{"message":{"content":{"text":"MARK"}}}`),
	}
}

// TestAppsNeverCross makes calls of all kinds for two apps, in which everything
// has the same names but for one mark: no call reaches the other app, and no
// answer comes from it.
func TestAppsNeverCross(t *testing.T) {
	worlds := []*world{newWorld(t, "one"), newWorld(t, "two")}
	r := startApps(t, worlds, "    plan: unlimited\n", "--merge-reads=always", "--log-level=error")
	client := imv1.NewConversationServiceClient(r.conn)
	for _, w := range worlds {
		for i := range conversations + 1 {
			mark := "made-for-" + w.name
			_, err := client.CreateConversation(in(t.Context(), w.name), &imv1.CreateConversationRequest{ConversationId: conversation(i)})
			if err == nil {
				_, err = client.UpdateConversation(in(t.Context(), w.name), &imv1.UpdateConversationRequest{
					ConversationId: conversation(i), ServerExtension: &mark,
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	kinds := appCalls()
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	const callers, calls = 40, 50
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for range calls {
				kind, wish := names[rand.IntN(len(names))], []string{"", "one", "two", "two"}[rand.IntN(4)]
				own, other := "one", "two"
				if wish == "two" {
					own, other = other, own
				}
				told, err := kinds[kind](t.Context(), r, wish, "made-for-"+own, rand.IntN(conversations))
				if err != nil || !strings.Contains(told, "made-for-"+own) || strings.Contains(told, "made-for-"+other) {
					t.Errorf("%s for %q: %v: %s", kind, wish, err, told)
				}
			}
		})
	}
	group.Wait()
	for _, w := range worlds {
		if n := w.strange.Load(); n != 0 || w.calls.Load() < int64(callers) {
			t.Errorf("%d of %d requests at %s were another's", n, w.calls.Load(), w.name)
		}
	}
	t.Logf("%d calls, %d and %d requests", callers*calls, worlds[0].calls.Load(), worlds[1].calls.Load())
}

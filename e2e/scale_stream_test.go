package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// perPage is how many messages a page holds.
const perPage = 100

// An archive is an upstream with many pages of messages: message n has the id
// n+1, and page n, which has the token n, begins with message n*perPage.
type archive struct {
	*httptest.Server

	pages  int
	text   string // of every message
	intend func(page int, w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	calls map[string]int // by conversation
}

func newArchive(tb testing.TB, pages int) *archive {
	tb.Helper()
	a := &archive{pages: pages, text: "hello", calls: map[string]int{}}
	a.Server = httptest.NewServer(a)
	tb.Cleanup(a.Close)
	return a
}

// ServeHTTP implements http.Handler.
func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(r.URL.Path, "/")
	if len(path) < 5 { // a health check
		http.NotFound(w, r)
		return
	}
	a.mu.Lock()
	a.calls[path[4]]++
	a.mu.Unlock()
	page, err := strconv.Atoi(r.URL.Query().Get("page_token"))
	if err != nil && r.URL.Query().Has("page_token") || r.URL.Query().Get("limit") != strconv.Itoa(perPage) {
		http.Error(w, "no page: "+r.RequestURI, http.StatusBadRequest)
		return
	}
	if a.intend == nil || !a.intend(page, w, r) {
		_, _ = w.Write(a.page(page, page+1))
	}
}

// page is an answer of the upstream, with the token of the next page.
func (a *archive) page(page, next int) []byte {
	body := fmt.Appendf(nil, `{"code":200,"msg":"success","data":{"has_more":%t,"next_token":"%d","items":[`, next < a.pages, next)
	for n := page * perPage; n < (page+1)*perPage; n++ {
		if n > page*perPage {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"message_server_id":%d,"message_client_id":"c%d","conversation_type":1,"sender_id":"alice",`+
			`"receiver_id":"bob","message_type":0,"create_time":1772366400000,"text":%q}`, n+1, n, a.text)
	}
	return append(body, "]}}"...)
}

func (a *archive) total() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, times := range a.calls {
		n += times
	}
	return n
}

func (a *archive) callsFor(conversation string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[conversation]
}

// open asks for all messages of a conversation.
func (a *archive) open(ctx context.Context, tb testing.TB, conn *grpc.ClientConn, conversation string) imv1.MessageService_StreamMessagesClient {
	tb.Helper()
	stream, err := imv1.NewMessageServiceClient(conn).StreamMessages(ctx, &imv1.ListMessagesRequest{
		ConversationId: conversation, PageSize: perPage,
		BeginTime: timestamppb.New(time.UnixMilli(0)), EndTime: timestamppb.New(time.UnixMilli(1772366400000)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return stream
}

// read reads replies until the stream ends, and returns how many messages came.
// They must be all that there are, in their order.
func read(stream imv1.MessageService_StreamMessagesClient, after func(messages int)) (messages int, err error) {
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		for _, m := range reply.GetMessages() {
			messages++
			if m.GetMessageServerId() != int64(messages) || m.GetContent().GetText() == "" {
				return messages, fmt.Errorf("message %d is %v", messages, m)
			}
		}
		after(messages)
	}
}

// heap is what is in use, in MiB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// TestStreamIsFlat reads a long history: 100,000 messages, or as many as the
// environment says, a million for example:
//
//	YUNXIN_E2E_MESSAGES=1000000 go test ./e2e -run TestStreamIsFlat -v
//
// The facade, its caller and the upstream together must not need more memory the
// longer it takes. (It runs alone: what other tests use would be counted.)
func TestStreamIsFlat(t *testing.T) {
	const mostGrowth = 16 // MiB
	messages := 100_000
	if text := os.Getenv("YUNXIN_E2E_MESSAGES"); text != "" {
		var err error
		if messages, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	a := newArchive(t, messages/perPage)
	f := startFacade(t, harness.Upstream(t, a.URL)...)
	before, most, begin := heap(), 0.0, time.Now()
	n, err := read(a.open(t.Context(), t, f.conn, "alice|1|bob"), func(n int) {
		if n%(messages/20) == 0 {
			most = max(most, heap())
		}
	})
	if err != nil || n != messages || a.total() != a.pages {
		t.Errorf("%d messages in %d calls, error %v", n, a.total(), err)
	}
	t.Logf("%d messages in %v, heap %.1f MiB before and at most %.1f MiB meanwhile", n, time.Since(begin), before, most)
	if most-before > mostGrowth {
		t.Errorf("the heap grew from %.1f to %.1f MiB", before, most)
	}
}

// TestStreamCancelled lets the caller go in the middle of a stream.
func TestStreamCancelled(t *testing.T) {
	before := goleak.IgnoreCurrent()
	const enough = 30 // pages
	for _, door := range doorNames {
		a := newArchive(t, 1000)
		t.Run(door, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a.intend = func(page int, _ http.ResponseWriter, r *http.Request) bool {
				if page < enough {
					return false
				}
				cancel()
				<-r.Context().Done()
				return true
			}
			f := startFacade(t, harness.Upstream(t, a.URL)...)
			if door == "grpc" {
				_, err := read(a.open(ctx, t, f.conn, "alice|1|bob"), func(int) {})
				if status.Code(err) != codes.Canceled {
					t.Errorf("error %v", err)
				}
				return
			}
			m, err := method("MessageService/StreamMessages")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.door(door).stream(ctx, m, []frame{{json: []byte(wholeHistory)}}); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		}) // by now the facade has stopped, and all calls are over
		if n := a.total(); n != enough+1 {
			t.Errorf("%s: %d calls, of which %d were made before the caller went away", door, n, enough+1)
		}
		a.Close()
	}
	goleak.VerifyNone(t, before)
}

const wholeHistory = `{"conversation_id":"alice|1|bob","begin_time":"1970-01-01T00:00:00Z","end_time":"2026-03-01T12:00:00Z"}`

// TestStreamEnds reads a stream that is whole, one of which a page fails, and
// pages that come back. What is in front of the failure must arrive.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	a := newArchive(t, 50)
	f := startFacade(t, harness.Upstream(t, a.URL)...)
	again := wantError{Code: "INTERNAL", Reason: "UPSTREAM_REPLY_INVALID"}
	for _, c := range []struct {
		name   string
		intend func(page int, w http.ResponseWriter, r *http.Request) bool
		arrive int // pages, at least
		want   *wantError
	}{
		{"whole", nil, 50, nil},
		{"a page fails", func(page int, w http.ResponseWriter, r *http.Request) bool {
			if page == 40 {
				refuse(102404)(w, r)
			}
			return page == 40
		}, 40, &wantError{Code: "NOT_FOUND", Reason: "ACCOUNT_NOT_FOUND", UpstreamCode: "102404"}},
		{"a page is its own next", func(page int, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(a.page(page, min(page+1, 20)))
			return true
		}, 20, &again},
		{"pages come back", func(page int, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(a.page(page, map[bool]int{true: 10, false: page + 1}[page == 29]))
			return true
		}, 30, &again},
	} {
		a.intend = c.intend
		for _, door := range doorNames {
			if err := endsWith(t.Context(), f.door(door), c.arrive, c.want); err != nil {
				t.Errorf("%s over %s: %v", c.name, door, err)
			}
		}
	}
}

// endsWith reads all pages. Those that must arrive are in order; after a failure
// at most as many again may have come.
func endsWith(ctx context.Context, d door, arrive int, want *wantError) error {
	m, err := method("MessageService/StreamMessages")
	if err != nil {
		return err
	}
	o, err := d.stream(ctx, m, []frame{{json: []byte(wholeHistory)}})
	if err != nil {
		return err
	}
	if n := len(o.replies); n < arrive || n > arrive && want == nil || n > 2*arrive {
		return fmt.Errorf("%d pages, want %d", n, arrive)
	}
	for page, reply := range o.replies[:arrive] {
		expected := fmt.Sprintf(`{"message_server_id":%d}`, page*perPage+1)
		list := reply.ProtoReflect().Get(m.Output().Fields().ByName("messages")).List()
		if list.Len() != perPage {
			return fmt.Errorf("page %d has %d messages", page, list.Len())
		}
		if err := contains(list.Get(0).Message().Interface(), []byte(expected)); err != nil {
			return fmt.Errorf("page %d: %w", page, err)
		}
	}
	switch {
	case want != nil:
		return want.verify(o)
	case o.status != nil:
		return fmt.Errorf("failed: %v", o)
	}
	return nil
}

// TestSlowReader leaves a stream unread while another one is read to its end: of
// the first no more is asked for than a few pages. These are not lost.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const (
		ahead  = 3       // pages: in the connection, waiting for it, and the next
		window = 1 << 16 // bytes that the caller's side takes without being read: less than a page
	)
	a := newArchive(t, 30)
	a.text = strings.Repeat("x", 5000)
	f := startFacade(t, harness.Upstream(t, a.URL)...)
	conn, err := grpc.NewClient(f.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is lost
	slow := a.open(t.Context(), t, conn, "alice|1|slow")
	all := a.pages * perPage
	if n, err := read(a.open(t.Context(), t, f.conn, "alice|1|bob"), func(int) {}); err != nil || n != all {
		t.Fatalf("%d messages, error %v", n, err)
	}
	if n := a.callsFor("alice|1|slow"); n > ahead {
		t.Errorf("%d pages were fetched of a stream that nobody reads", n)
	}
	if n, err := read(slow, func(int) {}); err != nil || n != all {
		t.Errorf("%d messages, error %v", n, err)
	}
}

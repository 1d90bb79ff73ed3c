package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
)

// A bulk is an RPC that takes many items and calls the upstream for a few at a
// time.
type bulk struct {
	rpc     string
	perCall int
	request string // %s is the list of items
	item    string // as the request has it; the other texts are about an item, too
	asked   string // its name, as a call has it
	found   string // what the upstream says of it
	want    string // its result
	failed  string // its result if the call for it failed
	cut     wantError
}

// bulkItems are the items of every request: as many as it may have.
const bulkItems = 10_000

// Two of the items are in calls that fail.
const (
	refusedItemAt = 4242
	cutItemAt     = 7777
)

var (
	mayRepeat = wantError{Code: "UNAVAILABLE", Reason: "UPSTREAM_UNAVAILABLE"}
	mustNot   = wantError{Code: "UNKNOWN", Reason: "OUTCOME_UNKNOWN"}
)

var bulks = []bulk{
	{
		rpc: "ConversationService/BatchGetConversations", perCall: 100, cut: mayRepeat,
		request: `{"conversation_ids":[%s]}`, item: `"alice|1|p%[1]d"`, asked: "alice|1|p%[1]d",
		found:  `{"conversation_id":"alice|1|p%[1]d","sender_id":"alice","unread_count":%[1]d}`,
		want:   `{"conversation_id":"alice|1|p%[1]d","conversation":{"conversation_id":"alice|1|p%[1]d","unread_count":%[1]d}}`,
		failed: `{"conversation_id":"alice|1|p%[1]d","conversation":null}`,
	},
	{
		rpc: "ConversationService/BatchDeleteConversations", perCall: 100, cut: mayRepeat,
		request: `{"conversation_ids":[%s]}`, item: `"alice|1|p%[1]d"`, asked: "alice|1|p%[1]d",
		found: `"alice|1|p%[1]d"`, want: `{"conversation_id":"alice|1|p%[1]d"}`, failed: `{"conversation_id":"alice|1|p%[1]d"}`,
	},
	{
		rpc: "MessageService/BatchGetMessages", perCall: 100, cut: mayRepeat,
		request: `{"conversation_id":"alice|1|bob","messages":[%s]}`,
		item:    `{"message_server_id":"9007199254%06[1]d","create_time":"2026-03-01T12:00:00Z"}`, asked: "9007199254%06[1]d",
		found:  `{"message_server_id":9007199254%06[1]d,"message_type":0,"text":"text %[1]d"}`,
		want:   `{"message_server_id":"9007199254%06[1]d","message":{"message_server_id":"9007199254%06[1]d","content":{"text":"text %[1]d"}}}`,
		failed: `{"message_server_id":"9007199254%06[1]d","message":null}`,
	},
	{
		rpc: "MessageService/BatchSendMessages", perCall: 100, cut: mustNot,
		request: `{"sender_id":"alice","need_message_detail":true,"message":{"content":{"text":"hi"}},"receiver_ids":[%s]}`, item: `"p%[1]d"`, asked: "p%[1]d",
		found:  `{"message_server_id":9007199254%06[1]d,"receiver_id":"p%[1]d","message_type":0,"text":"hi"}`,
		want:   `{"account_id":"p%[1]d","message":{"message_server_id":"9007199254%06[1]d","receiver_id":"p%[1]d"}}`,
		failed: `{"account_id":"p%[1]d","message":null}`,
	},
	{
		rpc: "MessageService/SendTeamReadReceipt", perCall: 50, cut: mayRepeat,
		request: `{"from_account_id":"bob","team_id":"2366968294","message_server_ids":[%s]}`, item: `"9007199254%06[1]d"`, asked: "9007199254%06[1]d",
		found: `9007199254%06[1]d`, want: `{"message_server_id":"9007199254%06[1]d"}`, failed: `{"message_server_id":"9007199254%06[1]d"}`,
	},
	{
		rpc: "ConversationGroupService/BatchGetConversationGroups", perCall: 100, cut: mayRepeat,
		request: `{"account_id":"alice","group_ids":[%s]}`, item: `"9007199254%06[1]d"`, asked: "9007199254%06[1]d",
		found:  `{"group_id":9007199254%06[1]d,"name":"group %[1]d"}`,
		want:   `{"group_id":"9007199254%06[1]d","conversation_group":{"group_id":"9007199254%06[1]d","name":"group %[1]d"}}`,
		failed: `{"group_id":"9007199254%06[1]d","conversation_group":null}`,
	},
	{
		rpc: "MessageService/BatchGetQuickComments", perCall: 100, cut: mayRepeat,
		request: `{"messages":[%s]}`,
		item: `{"conversation_type":1,"sender_id":"alice","receiver_id":"bob","message_server_id":"9007199254%06[1]d",` +
			`"message_client_id":"c%[1]d","create_time":"2026-03-01T12:00:00Z"}`, asked: "9007199254%06[1]d",
		found:  `{"message_server_id":9007199254%06[1]d,"comments":[{"operator_id":"bob","index":%[1]d}]}`,
		want:   `{"message_server_id":"9007199254%06[1]d","comments":[{"operator_id":"bob","index":"%[1]d"}]}`,
		failed: `{"message_server_id":"9007199254%06[1]d","comments":null}`,
	},
}

// about says something about an item.
func about(format string, item int) string { return fmt.Sprintf(format, item) }

func (b bulk) all() []byte {
	items := make([]string, bulkItems)
	for i := range items {
		items[i] = about(b.item, i)
	}
	return fmt.Appendf(nil, b.request, strings.Join(items, ","))
}

// A crowd is an upstream that is asked about the items of one bulk, in many calls
// at a time. It answers as soon as so many are there as there should be.
type crowd struct {
	*httptest.Server
	bulk

	index  map[string]int // of an item, by its name
	meet   chan struct{}  // closed when so many calls are there
	intend func(http.ResponseWriter, *http.Request, []int) bool

	mu        sync.Mutex
	now, most int         // calls at a time
	calls     map[int]int // by their first item
}

// atATime is how many calls of one batch are under way.
const atATime = 8

func newCrowd(tb testing.TB, b bulk) *crowd {
	tb.Helper()
	c := &crowd{bulk: b, index: map[string]int{}, meet: make(chan struct{}), calls: map[int]int{}}
	for i := range bulkItems {
		c.index[about(b.asked, i)] = i
	}
	c.Server = httptest.NewServer(c)
	tb.Cleanup(c.Close)
	return c
}

// ServeHTTP implements http.Handler.
func (c *crowd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	items, err := c.items(r)
	if err != nil || len(items) == 0 {
		http.Error(w, fmt.Sprintf("no items: %v", err), http.StatusBadRequest)
		return
	}
	c.enter(items)
	defer c.leave()
	select {
	case <-c.meet:
	case <-r.Context().Done():
		return
	}
	if c.intend != nil && c.intend(w, r, items) {
		return
	}
	found := make([]string, len(items))
	for i, item := range items {
		found[i] = about(c.found, item)
	}
	slices.Reverse(found) // no order is promised
	_, _ = fmt.Fprintf(w, `{"code":200,"msg":"success","data":{"success_list":[%s]}}`, strings.Join(found, ","))
}

// items reads what is asked for, wherever it stands.
func (c *crowd) items(r *http.Request) ([]int, error) {
	query := r.URL.Query()
	names := strings.Split(query.Get("conversation_ids")+query.Get("group_ids"), ",")
	if r.Method == http.MethodPost {
		var body struct {
			Receivers []string      `json:"receiver_ids"`
			IDs       []json.Number `json:"message_server_ids"`
			Messages  []struct {
				ID json.Number `json:"message_server_id"`
			} `json:"messages"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, err
		}
		names = body.Receivers
		for _, id := range body.IDs {
			names = append(names, id.String())
		}
		for _, m := range body.Messages {
			names = append(names, m.ID.String())
		}
	}
	var items []int
	for _, name := range names {
		i, ok := c.index[name]
		if !ok {
			return nil, fmt.Errorf("nobody asked for %q", name)
		}
		items = append(items, i)
	}
	return items, nil
}

func (c *crowd) enter(items []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[items[0]]++
	c.now++
	c.most = max(c.most, c.now)
	if len(c.calls) == atATime && c.calls[items[0]] == 1 {
		close(c.meet)
	}
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

// total counts the calls so far.
func (c *crowd) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.calls {
		n += times
	}
	return n
}

// failTwo fails the calls for two items: one is refused, the answer to the other
// is lost.
func failTwo(w http.ResponseWriter, r *http.Request, items []int) bool {
	switch {
	case slices.Contains(items, refusedItemAt):
		refuse(500)(w, r)
		return true
	case slices.Contains(items, cutItemAt):
		hangUp(w, r)
	}
	return false
}

// check makes the whole request and looks at every result.
func (c *crowd) check(ctx context.Context, d door) error {
	m, err := method(c.rpc)
	if err != nil {
		return err
	}
	o, err := d.call(ctx, m, c.all())
	if err != nil {
		return err
	}
	if o.status != nil {
		return fmt.Errorf("failed: %v", o)
	}
	reply := o.reply.ProtoReflect()
	results := reply.Get(m.Output().Fields().ByName("results")).List()
	if results.Len() != bulkItems {
		return fmt.Errorf("%d results", results.Len())
	}
	for i := range results.Len() {
		if err := c.checkResult(i, results.Get(i).Message()); err != nil {
			return fmt.Errorf("result %d: %w", i, err)
		}
	}
	return c.checkCalls()
}

func (c *crowd) checkResult(i int, result protoreflect.Message) error {
	field := result.Descriptor().Fields().ByName("error")
	var want wantError
	together := func(other int) bool { return i/c.perCall == other/c.perCall }
	switch {
	case together(refusedItemAt):
		want = wantError{Code: "INTERNAL", Reason: "SERVER_ERROR", UpstreamCode: "500"}
	case together(cutItemAt):
		want = c.cut
	case result.Has(field):
		return fmt.Errorf("failed: %v", result)
	default:
		return contains(result.Interface(), []byte(about(c.want, i)))
	}
	s, ok := result.Get(field).Message().Interface().(*statuspb.Status)
	if !ok || !result.Has(field) {
		return fmt.Errorf("did not fail: %v", result)
	}
	have := &outcome{status: status.FromProto(s)}
	if codeOf(have).String() != want.Code || have.info().GetReason() != want.Reason || have.info().GetMetadata()["upstream_code"] != want.UpstreamCode {
		return fmt.Errorf("error %v, want %v", have, want)
	}
	return contains(result.Interface(), []byte(about(c.failed, i)))
}

// checkCalls checks that every item was asked for in one call. What failed may
// have been asked for again, unless it must not be.
func (c *crowd) checkCalls() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != bulkItems/c.perCall || c.most != atATime {
		return fmt.Errorf("%d different calls, %d at a time", len(c.calls), c.most)
	}
	for first, times := range c.calls {
		most := 1
		if fails := first/c.perCall == refusedItemAt/c.perCall || first/c.perCall == cutItemAt/c.perCall; fails && c.cut.Reason == mayRepeat.Reason {
			most = 4
		}
		if first%c.perCall != 0 || times > most {
			return fmt.Errorf("the call that begins with item %d was made %d times", first, times)
		}
	}
	return nil
}

// TestBulk asks for as many items as a request may have. All RPCs are tried at
// once, for most of the time they wait before they repeat what failed.
func TestBulk(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	try := func(b bulk, doorName string) {
		c := newCrowd(t, b)
		c.intend = failTwo
		d := startFacade(t, harness.Upstream(t, c.URL)...).door(doorName)
		all.Go(func() {
			if err := c.check(t.Context(), d); err != nil {
				t.Errorf("%s over %s: %v", b.rpc, doorName, err)
			}
		})
	}
	for _, b := range bulks {
		try(b, "grpc")
	}
	try(bulks[0], "rest")
	all.Wait()
}

// TestBulkCancelled lets the caller go in the middle of a request.
func TestBulkCancelled(t *testing.T) {
	const enough = 20 // calls
	for _, doorName := range doorNames {
		c := newCrowd(t, bulks[0])
		t.Run(doorName, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c.intend = func(_ http.ResponseWriter, r *http.Request, _ []int) bool {
				if c.total() < enough {
					return false
				}
				cancel()
				<-r.Context().Done()
				return true
			}
			m, err := method(c.rpc)
			if err != nil {
				t.Fatal(err)
			}
			d := startFacade(t, harness.Upstream(t, c.URL)...).door(doorName)
			if o, err := d.call(ctx, m, c.all()); err == nil && o.status == nil {
				t.Error("the call succeeded")
			}
		}) // by now the facade has stopped, and all calls are over
		if n := c.total(); n < enough || n >= enough+atATime {
			t.Errorf("%s: %d calls, of which %d were made before the caller went away", doorName, n, enough)
		}
	}
}

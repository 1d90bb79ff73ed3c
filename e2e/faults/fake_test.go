package faults

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The operations of the upstream that the suite tells apart.
const (
	apiSend     = "send"
	apiBatch    = "batch send"
	apiGet      = "get"
	apiBatchGet = "batch get"
	apiList     = "list"
	apiPiece    = "piece"
	apiOther    = "other"
)

// A fake is an upstream: the few operations that the suite calls, a ledger, and
// faults by order. It shares nothing with the facade or its sandbox.
type fake struct {
	url    string
	ledger *ledger
	server *http.Server
	ended  context.Context //nolint:containedctx // of the server, not of a call
	now    atomic.Pointer[behaviour]

	mu    sync.Mutex
	taken map[string][]time.Time // by API: requests that the rate limit let in
}

// A behaviour is how a fake answers.
type behaviour struct {
	// Shares of requests that are reset before they are executed, executed
	// without an answer, or answered by a gateway that did not pass them on.
	reset, lost, gateway float64
	// down fails everything, signs of life included.
	down bool
	// once executes a trace id but once.
	once bool
	// rate is how many requests of an API are let in within any second; 0 is
	// no limit.
	rate int
	// workers is how many requests are served at a time, others wait; nil is
	// no limit. A request whose caller has gone is served nevertheless.
	workers chan struct{}
	// service is how long a request is served, and spread how much longer at most.
	service, spread time.Duration
	// pages is the length of a list.
	pages int
	// fall, if set, fails the requests of the moment in which it is closed: it
	// holds all that come before. Those that come later are well.
	fall <-chan struct{}
}

func startFake(tb testing.TB, b behaviour) *fake {
	tb.Helper()
	return startFakeOn(tb, b, listen(tb))
}

// startFakeTLS starts a fake that speaks HTTPS, with the certificate that this
// process trusts.
func startFakeTLS(tb testing.TB, b behaviour) *fake {
	tb.Helper()
	f := startFakeOn(tb, b, tls.NewListener(listen(tb), &tls.Config{Certificates: []tls.Certificate{testCertificate}}))
	f.url = strings.Replace(f.url, "http:", "https:", 1)
	return f
}

func startFakeOn(tb testing.TB, b behaviour, l net.Listener) *fake {
	tb.Helper()
	ctx, end := context.WithCancel(context.Background())
	f := &fake{url: "http://" + l.Addr().String(), ledger: newLedger(), ended: ctx, taken: make(map[string][]time.Time)}
	f.become(b)
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = f.server.Serve(l)
	}()
	tb.Cleanup(func() {
		end()
		_ = f.server.Close()
		<-served
	})
	return f
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// become changes the behaviour from the next request on.
func (f *fake) become(b behaviour) { f.now.Store(&b) }

// A request is what the ledger knows a request by.
type request struct {
	api, intention, trace string
	conversation          string
	clientID              string
	page                  int
	ids                   []string
}

// intentions are those of all receivers, if there are many.
func (q request) intentions() []string {
	if q.api != apiBatch {
		return []string{q.intention}
	}
	all := make([]string, len(q.ids))
	for i, receiver := range q.ids {
		all[i] = toReceiver(q.intention, receiver)
	}
	return all
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b := f.now.Load()
	if r.URL.Path == "/health/liveness.action" {
		if b.down {
			fail(w)
			return
		}
		_, _ = io.WriteString(w, "ok")
		return
	}
	q, err := readRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.ledger.arrive(q.api, q.intentions()...)
	if b.fall != nil && f.falls(b.fall) {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if b.down {
		fail(w)
		return
	}
	if b.rate > 0 && !f.letIn(q.api, b.rate) {
		answer(w, 416, "rate limit", "{}")
		return
	}
	if !f.serve(b) {
		return
	}
	f.execute(w, b, q)
}

// falls waits for a fall that is to come, and reports whether it did.
func (f *fake) falls(fall <-chan struct{}) bool {
	select {
	case <-fall:
		return false
	default:
	}
	select {
	case <-fall:
	case <-f.ended.Done():
	}
	return true
}

// fail answers like an upstream that is down: with a gateway's status or with
// none at all.
func fail(w http.ResponseWriter) {
	if rand.IntN(2) == 0 {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	hangUp(w, true)
}

// letIn counts a request of an API, unless there were as many as allowed within
// the last second.
func (f *fake) letIn(api string, rate int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, taken := time.Now(), f.taken[api]
	if len(taken) >= rate && now.Sub(taken[len(taken)-rate]) < time.Second {
		return false
	}
	f.taken[api] = append(taken[max(0, len(taken)-rate):], now)
	return true
}

// serve takes the time that a request takes.
func (f *fake) serve(b *behaviour) bool {
	if b.workers != nil {
		select {
		case b.workers <- struct{}{}:
			defer func() { <-b.workers }()
		case <-f.ended.Done():
			return false
		}
	}
	service := b.service
	if b.spread > 0 {
		service += rand.N(b.spread)
	}
	return service == 0 || pause(f.ended, service)
}

// execute does what was asked for, unless chance has it otherwise.
func (f *fake) execute(w http.ResponseWriter, b *behaviour, q request) {
	chance := rand.Float64()
	if chance < b.reset {
		hangUp(w, true)
		return
	}
	if chance < b.reset+b.gateway {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	id := f.ledger.commit(q.trace, b.once, q.intentions()...)
	if chance < b.reset+b.gateway+b.lost {
		hangUp(w, rand.IntN(2) == 0)
		return
	}
	answer(w, http.StatusOK, "success", f.data(b, q, id))
}

// hangUp closes the connection without an answer, with a reset or without.
func hangUp(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func answer(w http.ResponseWriter, code int, message, data string) {
	w.Header()["Content-Type"] = []string{"application/json;charset=utf-8"}
	_, _ = fmt.Fprintf(w, `{"code":%d,"msg":%q,"data":%s}`, code, message, data)
}

// data makes what an operation answers.
func (f *fake) data(b *behaviour, q request, id int64) string {
	switch q.api {
	case apiSend:
		owner, peer := sides(q.conversation)
		return fmt.Sprintf(`{"message_server_id":%d,"message_client_id":%q,"sender_id":%q,"receiver_id":%q,"conversation_type":1,"create_time":1707017423142,"message_type":0,"text":%q}`,
			id, q.clientID, owner, peer, q.intention)
	case apiBatch:
		items := make([]string, len(q.ids))
		for i, receiver := range q.ids {
			items[i] = fmt.Sprintf(`{"message_server_id":%d,"sender_id":"alice","receiver_id":%q,"conversation_type":1,"create_time":1707017423142,"message_type":0,"text":%q}`, id, receiver, q.intention)
		}
		return `{"success_list":[` + strings.Join(items, ",") + `],"failed_list":[]}`
	case apiGet:
		return conversation(q.conversation)
	case apiBatchGet:
		items := make([]string, len(q.ids))
		for i, one := range q.ids {
			items[i] = conversation(one)
		}
		return `{"success_list":[` + strings.Join(items, ",") + `],"failed_list":[]}`
	case apiList:
		more := q.page+1 < b.pages
		return fmt.Sprintf(`{"has_more":%t,"next_token":"%d","items":[%s]}`, more, q.page+1, conversation(fmt.Sprintf("alice|1|peer%d", q.page)))
	case apiPiece:
		return fmt.Sprintf(`{"message_server_id":%d}`, id)
	default:
		return "{}"
	}
}

func conversation(id string) string {
	owner, peer := sides(id)
	return fmt.Sprintf(`{"conversation_id":%q,"sender_id":%q,"receiver_id":%q,"type":1,"stick_top":false,"message_state":0,"unread_count":3,"sort_order":1707017423142000,"create_time":1707017000000,"update_time":1707017423142}`,
		id, owner, peer)
}

func sides(conversation string) (owner, peer string) {
	parts := strings.SplitN(conversation, "|", 3)
	return parts[0], parts[len(parts)-1]
}

// readRequest finds out what is asked for. An intention is what its caller knows
// it by, so that the ledger depends on no id that the facade made.
func readRequest(r *http.Request) (request, error) {
	q := request{api: apiOther, trace: r.Header.Get("X-custom-traceid")}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return q, err
	}
	rest, _ := strings.CutPrefix(r.URL.Path, "/im/v2/conversations")
	parts := strings.Split(rest, "/") // "", conversation, ...
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && rest == "":
		q.api = apiList
		q.page, _ = strconv.Atoi(query.Get("page_token")) // the first page has none
		q.intention = fmt.Sprintf("list %s %d", query.Get("account_id"), q.page)
	case r.Method == http.MethodGet && rest == "/actions/conversation_ids":
		q.api, q.ids = apiBatchGet, strings.Split(query.Get("conversation_ids"), ",")
		q.intention = "batch " + q.trace
	case r.Method == http.MethodGet && len(parts) == 2:
		q.api, q.conversation = apiGet, parts[1]
		q.intention = q.conversation
	case r.Method == http.MethodPost && rest != "":
		var sent struct {
			Receivers []string `json:"receiver_ids"`
			Message   struct {
				Text     string `json:"text"`
				ClientID string `json:"message_client_id"`
			} `json:"message"`
		}
		if err := json.Unmarshal(body, &sent); err != nil {
			return q, err
		}
		q.api, q.conversation, q.intention, q.clientID = apiSend, parts[1], sent.Message.Text, sent.Message.ClientID
		switch len(parts) {
		case 2:
			q.api, q.ids = apiBatch, sent.Receivers
		case 3:
		default:
			q.api, q.intention = apiPiece, "piece "+q.trace
		}
	default:
		q.intention = r.Method + " " + r.URL.Path
	}
	return q, nil
}

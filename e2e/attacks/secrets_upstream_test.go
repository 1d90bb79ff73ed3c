package attacks

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	inForce = 2 * time.Second // until what was swapped must be
	probing = "probe"         // an account whose calls only the newest secret signs
)

// A signed upstream takes what is signed with the AppSecret of the app: for a
// while after it was replaced, with the one before too.
type signedUpstream struct {
	*httptest.Server

	search *search
	marker string // in all texts of messages

	ending atomic.Bool // there are no further pages

	mu      sync.Mutex
	apps    map[string]*signedApp // by AppKey
	arrived int                   // messages that were accepted
}

type signedApp struct {
	secret, former    string
	until             time.Time // the end of the former
	refused, byFormer int
}

func newSignedUpstream(tb testing.TB, s *search, marker string) *signedUpstream {
	tb.Helper()
	u := &signedUpstream{search: s, marker: marker, apps: map[string]*signedApp{}}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	tb.Cleanup(u.Close)
	return u
}

// replace puts another secret in force. The one before is good for 2 seconds; in
// the short form, in which no time decides, until retire.
func (u *signedUpstream) replace(appKey, secret string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	app := u.apps[appKey]
	if app == nil {
		app = &signedApp{}
		u.apps[appKey] = app
	}
	app.former, app.secret, app.until = app.secret, secret, time.Now().Add(scale(patience, inForce))
}

// retire ends the secret before, if the time has not.
func (u *signedUpstream) retire(appKey string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if app := u.apps[appKey]; !full() {
		app.until = time.Now()
	}
}

func (u *signedUpstream) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == prefix+"/health/liveness.action" {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	u.search.add("a signature", r.Header.Get("CheckSum"))
	answer := `{"code":403,"msg":"illegal signature"}`
	switch accepted := u.accepts(r); {
	case accepted && r.Method == http.MethodGet:
		answer = u.page(r)
	case accepted && strings.HasSuffix(r.URL.Path, "/stream_message"):
		answer = `{"code":200,"msg":"success","data":{"message_server_id":1,"conversation_type":1,"create_time":1}}`
	case accepted && bytes.Contains(body, []byte(u.marker)):
		u.mu.Lock()
		u.arrived++
		u.mu.Unlock()
		answer = `{"code":200,"msg":"success","data":{"message_server_id":1,"conversation_type":1}}`
	}
	w.Header()["Content-Type"] = []string{"application/json;charset=utf-8"}
	_, _ = io.WriteString(w, answer)
}

// page is a page of messages. Another one follows, until the end; it takes its time,
// so that a stream of pages lasts.
func (u *signedUpstream) page(r *http.Request) string {
	timer := time.NewTimer(pace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	n, _ := strconv.Atoi(r.URL.Query().Get("page_token"))
	return fmt.Sprintf(`{"code":200,"msg":"success","data":{"has_more":%t,"next_token":"%d","items":[{"message_server_id":%[2]d,`+
		`"message_client_id":"c%[2]d","conversation_type":1,"sender_id":"alice","receiver_id":"bob","message_type":0,"create_time":1,"text":"hello"}]}}`,
		!u.ending.Load(), n+1)
}

func (u *signedUpstream) accepts(r *http.Request) bool {
	signed := func(secret string) bool {
		sum := sha1.Sum([]byte(secret + r.Header.Get("Nonce") + r.Header.Get("CurTime")))
		return secret != "" && hex.EncodeToString(sum[:]) == r.Header.Get("CheckSum")
	}
	probe := strings.Contains(r.URL.Path, "/"+probing)
	u.mu.Lock()
	defer u.mu.Unlock()
	app := u.apps[r.Header.Get("AppKey")]
	switch {
	case app == nil:
		return false
	case signed(app.secret):
		return true
	case !probe && signed(app.former) && time.Now().Before(app.until):
		app.byFormer++
		return true
	}
	app.refused++
	return false
}

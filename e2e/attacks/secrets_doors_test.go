package attacks

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// A door is a way to call, over connections that are opened anew from time to time.
type door struct {
	*vault

	settings       *tls.Config
	isREST         bool
	header, scheme string
	credential     *shift[string] // nil if the certificate is enough

	calls  shift[struct{}] // those since the last replacement
	conn   shift[*grpc.ClientConn]
	client shift[*http.Client]

	opened  sync.WaitGroup // connections that are still in use
	counted atomic.Int64   // calls
}

const messages = "/v1/conversations/alice%7C1%7Cbob/messages"

// reopen makes calls from now on use another connection.
func (d *door) reopen(tb testing.TB) {
	tb.Helper()
	if d.isREST {
		const idle = 100
		client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: d.settings.Clone(), MaxIdleConnsPerHost: idle}}
		if former, over := d.client.replace(client); former != nil {
			d.opened.Go(func() { over(); former.CloseIdleConnections() })
		}
		return
	}
	conn, err := grpc.NewClient(d.facade.grpc, grpc.WithTransportCredentials(credentials.NewTLS(d.settings.Clone())))
	if err != nil {
		tb.Errorf("a connection: %v", err)
		return
	}
	if former, over := d.conn.replace(conn); former != nil {
		d.opened.Go(func() { over(); _ = former.Close() })
	}
}

// shut closes the last connection too.
func (d *door) shut() {
	if d.isREST {
		d.client.now.value.CloseIdleConnections()
	} else {
		_ = d.conn.now.value.Close()
	}
	d.opened.Wait()
}

// call sends a message with the credential of the door.
func (d *door) call(tb testing.TB) error {
	tb.Helper()
	_, end := d.calls.take()
	defer end()
	if d.counted.Add(1)%20 == 0 {
		d.reopen(tb)
	}
	pairs, leave := d.show()
	defer leave()
	return d.send(tb, pairs...)
}

// show returns the header with the credential of the door, which stays good until
// the caller leaves.
func (d *door) show() (pairs []string, leave func()) {
	if d.credential == nil {
		return nil, func() {}
	}
	credential, leave := d.credential.take()
	return []string{d.header, d.scheme + credential}, sync.OnceFunc(leave)
}

// send sends a message with these headers.
func (d *door) send(tb testing.TB, pairs ...string) error {
	tb.Helper()
	if d.isREST {
		return d.rest(tb, messages, d.body(), pairs...)
	}
	return d.grpc(tb, "alice|1|bob", pairs...)
}

func (v *vault) body() string { return `{"message":{"content":{"text":"` + v.marker + `"}}}` }

// grpc sends a message over gRPC, and keeps all that comes back.
func (d *door) grpc(tb testing.TB, conversation string, pairs ...string) error {
	tb.Helper()
	conn, leave := d.conn.take()
	defer leave()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(tb.Context(), pairs...), patience)
	defer cancel()
	var header, trailer metadata.MD
	reply, err := imv1.NewMessageServiceClient(conn).SendMessage(ctx, &imv1.SendMessageRequest{
		ConversationId: conversation,
		Message:        &imv1.NewMessage{Content: &imv1.MessageContent{Kind: &imv1.MessageContent_Text{Text: d.marker}}},
	}, grpc.Header(&header), grpc.Trailer(&trailer))
	wire, _ := proto.Marshal(reply)
	details, _ := proto.Marshal(status.Convert(err).Proto())
	d.replying.keep(wire, details, fmt.Append(nil, header, trailer, err))
	return err
}

// rest posts a body, and keeps all that comes back.
func (d *door) rest(tb testing.TB, target, body string, pairs ...string) error {
	tb.Helper()
	client, leave := d.client.take()
	defer leave()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "https://"+d.facade.rest+target, strings.NewReader(body))
	if err != nil {
		return err
	}
	setPairs(request.Header, pairs)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	dump, err := httputil.DumpResponse(response, true)
	d.replying.keep(dump)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %s", dump[len("HTTP/1.1 "):])
	}
	return err
}

func setPairs(header http.Header, pairs []string) {
	for pair := range slices.Chunk(pairs, 2) {
		header.Set(pair[0], pair[1])
	}
}

// doors are some of them.
type doors []*door

// visitors are doors of their own for callers with a certificate.
func (v *vault) visitors(tb testing.TB, certificate tls.Certificate) doors {
	tb.Helper()
	all := doors{
		{vault: v, settings: v.authority.Trust(certificate)},
		{vault: v, settings: v.authority.Trust(certificate), isREST: true},
	}
	for _, d := range all {
		d.reopen(tb)
	}
	return all
}

// visit calls over new connections.
func (v *vault) visit(tb testing.TB, certificate tls.Certificate) error {
	tb.Helper()
	visitors := v.visitors(tb, certificate)
	defer visitors.shut()
	return visitors.send(tb)
}

// send sends a message through each.
func (all doors) send(tb testing.TB) error {
	tb.Helper()
	var errs []error
	for _, d := range all {
		errs = append(errs, d.send(tb))
	}
	return errors.Join(errs...)
}

func (all doors) shut() {
	for _, d := range all {
		d.shut()
	}
}

// A sink keeps texts in a file.
type sink struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

func newSink(tb testing.TB, path string) *sink {
	tb.Helper()
	file, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = file.Close() })
	return &sink{file: file}
}

func (s *sink) keep(texts ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.file.Write(append(bytes.Join(texts, []byte(" ")), '\n'))
	s.err = errors.Join(s.err, err)
}

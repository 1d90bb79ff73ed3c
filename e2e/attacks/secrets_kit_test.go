package attacks

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// A search finds texts that should be nowhere, all of them in one pass.
type search struct {
	mu      sync.Mutex
	needles map[uint64][]needle // by their first bytes
	longest int
}

type needle struct{ what, text string }

const firstBytes = 8

// add looks for a text as it is.
func (s *search) add(what, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.needles == nil {
		s.needles = map[uint64][]needle{}
	}
	first := binary.LittleEndian.Uint64([]byte(text[:firstBytes]))
	s.needles[first] = append(s.needles[first], needle{what, text})
	s.longest = max(s.longest, len(text))
}

// addForms looks for bytes as they are, in hex, and in base64 wherever they stand
// in what was encoded.
func (s *search) addForms(what string, b []byte) {
	s.add(what, string(b))
	s.add(what+" in hex", hex.EncodeToString(b))
	s.add(what+" in hex", strings.ToUpper(hex.EncodeToString(b)))
	for before := range 3 {
		padded := append(make([]byte, before), b...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			if len(padded)%3 != 0 {
				text = text[:len(text)-1] // shared with what follows
			}
			s.add(what+" in base64", text[[]int{0, 2, 3}[before]:])
		}
	}
}

// addPEM looks for parts of a private key, for a line could be cut. The first
// bytes are the same for all keys.
func (s *search) addPEM(what, text string) {
	const same, part = 48, 20
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines[1] = lines[1][same:]
	for _, line := range lines[1 : len(lines)-1] {
		for chunk := range slices.Chunk([]byte(line), part) {
			if len(chunk) >= firstBytes {
				s.add(what, string(chunk))
			}
		}
	}
}

// scan returns what is found, and how many bytes it has looked at.
func (s *search) scan(r io.Reader) (found []string, size int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buffer := make([]byte, 0, 1<<20+s.longest)
	for {
		n, err := r.Read(buffer[len(buffer):cap(buffer)])
		buffer, size = buffer[:len(buffer)+n], size+int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return found, size, err
		}
		stop := len(buffer) - s.longest // what begins behind it may not have ended
		if err != nil {
			stop = len(buffer) - firstBytes
		}
		for at := 0; at <= stop; at++ {
			for _, n := range s.needles[binary.LittleEndian.Uint64(buffer[at:])] {
				if strings.HasPrefix(string(buffer[at:min(len(buffer), at+len(n.text))]), n.text) {
					found = append(found, fmt.Sprintf("%s at byte %d: ...%q", n.what, size-int64(len(buffer)-at), buffer[max(0, at-60):at]))
				}
			}
		}
		if err != nil {
			return found, size, nil
		}
		if stop >= 0 {
			buffer = buffer[:copy(buffer, buffer[stop+1:])]
		}
	}
}

// A signed upstream takes what is signed with the AppSecret of the app: for a
// while after it was replaced, with the one before too.
type signedUpstream struct {
	*httptest.Server

	search *search
	marker string // in all texts of messages

	mu      sync.Mutex
	apps    map[string]*signedApp // by AppKey
	arrived int                   // messages that were accepted
}

type signedApp struct {
	secret, former    string
	until             time.Time // the end of the former
	refused, byFormer int
}

const (
	inForce = 2 * time.Second // until what was swapped must be
	probing = "probe"         // an account whose calls only the newest secret signs
)

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
	if u.accepts(r) && bytes.Contains(body, []byte(u.marker)) {
		answer = `{"code":200,"msg":"success","data":{"message_server_id":1,"conversation_type":1}}`
	}
	w.Header()["Content-Type"] = []string{"application/json;charset=utf-8"}
	_, _ = io.WriteString(w, answer)
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
		u.arrived++
		return true
	case !probe && signed(app.former) && time.Now().Before(app.until):
		app.byFormer++
		u.arrived++
		return true
	}
	app.refused++
	return false
}

// An authority makes certificates, and looks for their private keys.
type authority struct {
	search *search
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pem    string
}

func newAuthority(tb testing.TB, s *search) *authority {
	tb.Helper()
	a := &authority{search: s}
	a.pem, _ = a.issue(tb, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue makes a certificate; the first one is the authority's own.
func (a *authority) issue(tb testing.TB, template *x509.Certificate) (cert, key string) {
	tb.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		tb.Fatal(err)
	}
	if a.cert == nil {
		a.cert, a.key = template, own
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.cert == template {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			tb.Fatal(err)
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		tb.Fatal(err)
	}
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	a.search.addPEM("a private key", key)
	number, err := own.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	a.search.addForms("the number of a private key", number)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key
}

// host makes a certificate of the server.
func (a *authority) host(tb testing.TB) (cert, key string) {
	tb.Helper()
	return a.issue(tb, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// client makes a certificate of a caller.
func (a *authority) client(tb testing.TB, uri *url.URL) tls.Certificate {
	tb.Helper()
	cert, key := a.issue(tb, &x509.Certificate{URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		tb.Fatal(err)
	}
	return pair
}

// trust are the settings of a client that keeps to the authority.
func (a *authority) trust(certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, Certificates: certificates, MinVersion: tls.VersionTLS12}
}

// A store holds files that are replaced whole.
type store interface {
	put(tb testing.TB, files map[string]string)
	path(name string) string
}

// A folder has each file renamed over the one before.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) put(tb testing.TB, files map[string]string) {
	tb.Helper()
	for name, content := range files {
		next := f.path("." + name)
		if err := errors.Join(os.WriteFile(next, []byte(content), 0o600), os.Rename(next, f.path(name))); err != nil {
			tb.Fatal(err)
		}
	}
}

// A volume is a directory as Kubernetes mounts it: its files are links into
// ..data, which is a link to a directory that another takes the place of.
type volume struct {
	folder

	files map[string]string // all of them
	n     int
}

func newVolume(tb testing.TB) *volume {
	tb.Helper()
	return &volume{folder: folder(tb.TempDir()), files: map[string]string{}}
}

func (v *volume) put(tb testing.TB, files map[string]string) {
	tb.Helper()
	v.n++
	former, next := fmt.Sprintf("..%d", v.n-1), fmt.Sprintf("..%d", v.n)
	errs := []error{os.Mkdir(v.path(next), 0o700)}
	for name, content := range files {
		if _, known := v.files[name]; !known {
			errs = append(errs, os.Symlink(filepath.Join("..data", name), v.path(name)))
		}
		v.files[name] = content
	}
	for name, content := range v.files {
		errs = append(errs, os.WriteFile(filepath.Join(v.path(next), name), []byte(content), 0o600))
	}
	errs = append(errs, os.Symlink(next, v.path("..data_tmp")), os.Rename(v.path("..data_tmp"), v.path("..data")), os.RemoveAll(v.path(former)))
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
}

// A shift is what calls use until something else takes its place.
type shift[T any] struct {
	mu  sync.Mutex
	now *tenure[T]
}

// A tenure is one of these, with those who use it.
type tenure[T any] struct {
	value T
	users sync.WaitGroup
}

// take returns what is in use now, until the user leaves.
func (s *shift[T]) take() (value T, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	now.users.Add(1)
	return now.value, now.users.Done
}

// replace puts something else to use. The one before is over when nobody uses it.
func (s *shift[T]) replace(value T) (former T, over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now
	s.now = &tenure[T]{value: value}
	if old == nil {
		return former, func() {}
	}
	return old.value, old.users.Wait
}

// start starts the server, which the test stops.
func (v *vault) start(tb testing.TB, args ...string) {
	tb.Helper()
	args = append([]string{
		"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
		"--log-level=debug", "--log-format=json", "--no-share-reads", "--drain-timeout=2s",
	}, args...)
	process := exec.Command(buildServer(tb), args...) //nolint:noctx // stopped below
	out, err := os.Create(v.out)
	if err != nil {
		tb.Fatal(err)
	}
	log, err := os.Create(v.log)
	if err != nil {
		tb.Fatal(err)
	}
	process.Stdout, process.Stderr = out, log
	if err := process.Start(); err != nil {
		tb.Fatal(err)
	}
	v.close = func() {}
	v.stop = sync.OnceFunc(func() {
		v.close()
		_ = process.Process.Signal(syscall.SIGTERM)
		err := process.Wait()
		if err = errors.Join(err, out.Close(), log.Close()); err != nil {
			tb.Errorf("the server did not stop by itself: %v", err)
		}
	})
	tb.Cleanup(v.stop)
	v.await(tb, "the banner", func() error {
		banner, err := os.ReadFile(v.out)
		m := secured.FindSubmatch(banner)
		if err != nil || m == nil {
			return fmt.Errorf("no addresses in %q: %w", banner, err)
		}
		v.facade = facade{string(m[1]), string(m[2]), string(m[3])}
		return nil
	})
}

var secured = regexp.MustCompile(`(?s)\sgRPC\s+(\S+)\s.*\sREST\s+https://([^/]+)/.*\sadmin\s+http://([^/]+)/`)

// open opens the doors: gRPC and REST, with a key or a token and with certificates.
func (v *vault) open(tb testing.TB) {
	tb.Helper()
	uri, err := url.Parse(certified)
	if err != nil {
		tb.Fatal(err)
	}
	certificate := v.authority.client(tb, uri)
	for _, settings := range []*tls.Config{v.authority.trust(), v.authority.trust(certificate)} {
		for _, isREST := range []bool{false, true} {
			d := &door{vault: v, settings: settings, isREST: isREST}
			switch {
			case len(settings.Certificates) > 0:
			case isREST:
				d.header, d.credential, d.scheme = "Authorization", &v.token, "Bearer "
			default:
				d.header, d.credential = "x-api-key", &v.key
			}
			d.reopen(tb)
			v.doors = append(v.doors, d)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { v.watchMetrics(ctx, tb) })
	v.close = func() {
		cancel()
		watching.Wait()
		for _, d := range v.doors {
			d.shut()
		}
	}
}

// watchMetrics keeps what the admin page shows, every second.
func (v *vault) watchMetrics(ctx context.Context, tb testing.TB) {
	tb.Helper()
	pages := newSink(tb, v.metrics)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		request, _ := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, "http://"+v.admin+"/metrics", http.NoBody)
		response, err := client.Do(request)
		if err == nil {
			var dump []byte
			dump, err = httputil.DumpResponse(response, true)
			_ = response.Body.Close()
			pages.keep(dump)
		}
		if err != nil {
			tb.Errorf("the metrics: %v", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
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

// A door is a way to call, over connections that are opened anew from time to time.
type door struct {
	*vault

	settings       *tls.Config
	isREST         bool
	header, scheme string
	credential     *shift[string] // nil if the certificate is enough

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
	if d.counted.Add(1)%20 == 0 {
		d.reopen(tb)
	}
	var pairs []string
	if d.credential != nil {
		credential, leave := d.credential.take()
		defer leave()
		pairs = []string{d.header, d.scheme + credential}
	}
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
	for pair := range slices.Chunk(pairs, 2) {
		request.Header.Set(pair[0], pair[1])
	}
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

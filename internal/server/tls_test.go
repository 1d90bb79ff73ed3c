package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yunxin-facade/yunxin-facade/internal/testca"
)

// echoAPI answers every GetConversation.
func echoAPI() api { return (&handlers{get: echo}).api() }

func TestTLS(t *testing.T) {
	a := testca.New(t, nil)
	f := newFiles(t, a)
	r := startTLS(t, echoAPI(), a.Trust(), f.tls()...)
	if _, err := r.get(t.Context(), "a|1|b"); err != nil {
		t.Error(err)
	}
	answer := r.do(t, http.MethodGet, aliceBob, http.NoBody)
	if answer.StatusCode != http.StatusOK || answer.TLS == nil || answer.TLS.NegotiatedProtocol == "h2" {
		t.Errorf("%d %s", answer.StatusCode, answer.body)
	}
	if code := r.admin(t, "/livez"); code != http.StatusOK { // in the clear
		t.Errorf("admin: %d", code)
	}
	banner := r.Banner()
	for _, part := range []string{"for gRPC and REST, by " + f.cert, "https://" + r.listeners.http.Addr().String() + "/v1/", "not authenticated"} {
		if !strings.Contains(banner, part) {
			t.Errorf("the banner does not say %q:\n%s", part, banner)
		}
	}
	// What is not TLS, or too old, gets nowhere.
	plain := r.dial(t, nil)
	defer plain.Close() //nolint:errcheck // a test's connection
	if _, err := (&running{conn: plain}).get(t.Context(), "a|1|b"); status.Code(err) != codes.Unavailable {
		t.Errorf("in the clear: %v", err)
	}
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.1": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"CBC": func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		},
		"other issuer": func(c *tls.Config) { c.RootCAs = testca.New(t, nil).Trust().RootCAs },
	} {
		for _, addr := range []string{r.listeners.grpc.Addr().String(), r.listeners.http.Addr().String()} {
			client := a.Trust()
			change(client)
			if conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", addr); err == nil {
				t.Errorf("%s is taken by %s", name, addr)
				_ = conn.Close()
			}
		}
	}
}

// A certificate is a credential on both doors, if an authority that counts now
// vouches for it.
func TestMutualTLS(t *testing.T) {
	a, other := testca.New(t, nil), testca.New(t, nil)
	f := newFiles(t, a)
	key, entry := newKey(t)
	write(t, f.callers, `callers:
- {name: billing, scopes: ['*'], accounts: [a, alice], certificates: ['spiffe://example.org/billing']}
- {name: keyed, scopes: ['*'], keys: [`+entry+`]}
`)
	flags := append(f.tls(), "--client-ca-file="+f.ca, "--callers-file="+f.callers)
	r := startTLS(t, echoAPI(), a.Trust(a.Client(t, "spiffe://example.org/billing")), flags...)
	check := func(t *testing.T, r *running, reason string, pairs ...string) {
		t.Helper()
		_, err := r.get(as(t.Context(), pairs...), "a|1|b")
		a := r.do(t, http.MethodGet, aliceBob, http.NoBody, pairs...)
		if reason == "" {
			if err != nil || a.StatusCode != http.StatusOK {
				t.Errorf("%v, %d %s", err, a.StatusCode, a.body)
			}
			return
		}
		if got, _ := reasonOf(t, err); got != reason {
			t.Errorf("%v, want %s", err, reason)
		}
		a.failure(t, runtime.HTTPStatusFromCode(status.Code(err)), reason)
	}
	client := func(t *testing.T, certificates ...tls.Certificate) *running {
		t.Helper()
		settings := a.Trust(certificates...)
		c := *r
		c.conn, c.http = r.dial(t, settings), newHTTPClient(settings)
		t.Cleanup(func() {
			_ = c.conn.Close()
			c.http.CloseIdleConnections()
		})
		return &c
	}
	check(t, r, "")
	check(t, r, "CREDENTIAL_INVALID", "x-api-key", key) // which is another caller's
	check(t, client(t), "CREDENTIAL_MISSING")
	check(t, client(t), "", "x-api-key", key)
	check(t, client(t, a.Client(t, "spiffe://example.org/stranger")), "CREDENTIAL_INVALID")

	// What a caller writes is no certificate, in whatever header.
	billing := a.Client(t, "spiffe://example.org/billing")
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: billing.Certificate[0]}))
	text = strings.ReplaceAll(text, "\n", "")
	forged := []string{}
	for _, name := range []string{"x-rest-certificate", "x-rest-certificate-bin", "x-client-cert", "ssl-client-cert", "x-forwarded-client-cert", "grpc-metadata-x-rest-certificate-bin"} {
		if strings.HasSuffix(name, "-bin") {
			forged = append(forged, name, "MIIB")
			continue
		}
		forged = append(forged, name, text)
	}
	check(t, client(t), "CREDENTIAL_MISSING", forged...)

	// One of another authority does not even come in.
	stranger := client(t, other.Client(t, "spiffe://example.org/billing"))
	if _, err := stranger.get(t.Context(), "a|1|b"); status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url(aliceBob), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := stranger.http.Do(req); err == nil {
		response.Body.Close()
		t.Error("REST lets it in")
	}

	// The authority is taken off the list: connections that it once opened stay,
	// and show nothing any more.
	write(t, f.ca, other.PEM)
	await(t, "the other authority", func() bool {
		_, err := r.get(t.Context(), "a|1|b")
		return status.Code(err) == codes.Unauthenticated
	})
	if answer := r.do(t, http.MethodGet, aliceBob, http.NoBody); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s", answer.StatusCode, answer.body)
	}
	check(t, client(t, other.Client(t, "spiffe://example.org/billing")), "")
}

// New certificates are shown to new connections, and no call fails for it.
func TestCertificateSwapUnderTraffic(t *testing.T) {
	a := testca.New(t, nil)
	f := newFiles(t, a)
	r := startTLS(t, echoAPI(), a.Trust(), f.tls()...)
	serial := func() string { return r.serial(t, a, r.listeners.http.Addr().String()) }
	before := serial()

	done := make(chan struct{})
	going := func() bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	}
	var traffic sync.WaitGroup
	var calls, failed atomic.Int64
	keep := func(err error) {
		calls.Add(1)
		if err != nil && failed.Add(1) < 3 {
			t.Error(err)
		}
	}
	for range 2 {
		traffic.Go(func() { // each call on a connection of its own
			for going() {
				conn := r.dial(t, a.Trust())
				_, err := (&running{conn: conn}).get(t.Context(), "a|1|b")
				keep(err)
				_ = conn.Close()
			}
		})
		traffic.Go(func() {
			c := newHTTPClient(a.Trust())
			defer c.CloseIdleConnections()
			for going() {
				keep(r.once(t.Context(), c))
				c.CloseIdleConnections()
			}
		})
		traffic.Go(func() { // all on one that lasts
			for going() {
				_, err := r.get(t.Context(), "a|1|b")
				keep(err)
			}
		})
	}
	for range 3 {
		now := serial()
		f.identify(t, a)
		await(t, "another certificate", func() bool { return serial() != now })
	}
	close(done)
	traffic.Wait()
	after := serial()
	if after == before || after != r.serial(t, a, r.listeners.grpc.Addr().String()) {
		t.Errorf("before %s, after %s", before, after)
	}
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
}

// once makes a call over REST.
func (r *running) once(ctx context.Context, c *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url(aliceBob), http.NoBody)
	if err != nil {
		return err
	}
	response, err := c.Do(req)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err = io.Copy(io.Discard, response.Body); err == nil && response.StatusCode != http.StatusOK {
		return io.ErrUnexpectedEOF
	}
	return err
}

// serial returns the serial number of the certificate at an address.
func (r *running) serial(t *testing.T, a *testca.Authority, addr string) string {
	t.Helper()
	settings := a.Trust()
	settings.NextProtos = []string{"h2", "http/1.1"}
	conn, err := (&tls.Dialer{Config: settings}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's connection
	secure, ok := conn.(*tls.Conn)
	if !ok {
		t.Fatalf("%T", conn)
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// Files that cannot be used leave in force what was there.
func TestBrokenTLSFiles(t *testing.T) {
	a := testca.New(t, nil)
	f := newFiles(t, a)
	i := &identity{certFile: f.cert, keyFile: f.key, caFile: f.ca}
	if err := i.load(); err != nil {
		t.Fatal(err)
	}
	good := i.current.Load()
	cert, key := a.Host(t)
	past := time.Now().Add(-time.Minute)
	oldCert, oldKey := a.Issue(t, &x509.Certificate{NotBefore: past.Add(-time.Hour), NotAfter: past})
	for name, c := range map[string]struct{ cert, key, ca, want string }{
		"no PEM":        {"nonsense", key, a.PEM, "--tls-cert-file"},
		"empty":         {"", "", a.PEM, "--tls-cert-file"},
		"another key":   {cert, oldKey, a.PEM, "--tls-key-file"},
		"expired":       {oldCert, oldKey, a.PEM, "which is not now"},
		"huge":          {strings.Repeat("\n", maxPEM+1), key, a.PEM, "larger than"},
		"no authority":  {cert, key, "", "--client-ca-file"},
		"key as CA":     {cert, key, key, "should hold certificates only"},
		"CA, then more": {cert, key, a.PEM + "nonsense", "not PEM"},
		"broken CA":     {cert, key, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "certificate 1"},
	} {
		write(t, f.cert, c.cert)
		write(t, f.key, c.key)
		write(t, f.ca, c.ca)
		if err := i.load(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "PRIVATE KEY-----\nM") {
			t.Errorf("%s: %v", name, err)
		}
		now := i.current.Load()
		if now.grpc.Certificates[0].Leaf != good.grpc.Certificates[0].Leaf || !maps.Equal(now.authorities, good.authorities) {
			t.Errorf("%s: something else is in force", name)
		}
	}
	// An authority can be taken away all the same.
	write(t, f.cert, "nonsense")
	write(t, f.ca, testca.New(t, nil).PEM)
	if err := i.load(); err == nil || maps.Equal(i.current.Load().authorities, good.authorities) {
		t.Errorf("the former authority is in force: %v", err)
	}
}

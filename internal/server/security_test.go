package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/yunxin-facade/yunxin-facade/internal/auth"
)

// newKey makes an API key and its entry in the callers file.
func newKey(t testing.TB) (key, entry string) {
	t.Helper()
	k, e, err := auth.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, e.String()
}

// write makes or replaces a file, as a whole, like those who deploy.
func write(t testing.TB, path, content string) string {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// as adds credentials to the calls under a context: pairs of names and values.
func as(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// await polls until something has happened.
func await(t testing.TB, what string, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("%s: not yet", what)
		}
	}
}

// awaitLog polls until something is logged.
func (r *running) awaitLog(t testing.TB, text string) {
	t.Helper()
	await(t, text, func() bool { return strings.Contains(r.logs.String(), text) })
}

// authority makes certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := new(authority)
	a.pem, _ = a.issue(t, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	})
	return a
}

// issue makes a certificate; the first one is the authority's own.
func (a *authority) issue(t testing.TB, template *x509.Certificate) (cert, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, own
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate == nil {
		a.key = own
		if a.certificate, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// host makes a certificate of the server under test.
func (a *authority) host(t testing.TB) (cert, key string) {
	t.Helper()
	return a.issue(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	})
}

// client makes a certificate of a caller, known by its URI.
func (a *authority) client(t testing.TB, uri string) tls.Certificate {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := a.issue(t, &x509.Certificate{
		URIs: []*url.URL{u}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	})
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// trust are the settings of a client that takes the authority's servers, and may
// show certificates.
func (a *authority) trust(certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &tls.Config{RootCAs: roots, Certificates: certificates, MinVersion: tls.VersionTLS12}
}

// A fileSet is the files of a server under test.
type fileSet struct{ cert, key, ca, callers, audit string }

func newFiles(t testing.TB, a *authority) *fileSet {
	t.Helper()
	dir := t.TempDir()
	f := &fileSet{
		cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), ca: filepath.Join(dir, "ca.pem"),
		callers: filepath.Join(dir, "callers.yaml"), audit: filepath.Join(dir, "audit.jsonl"),
	}
	f.identify(t, a)
	write(t, f.ca, a.pem)
	write(t, f.callers, "callers: []")
	return f
}

// identify gives the server another certificate.
func (f *fileSet) identify(t testing.TB, a *authority) {
	t.Helper()
	cert, key := a.host(t)
	write(t, f.cert, cert)
	write(t, f.key, key)
}

func (f *fileSet) tls() []string {
	return []string{"--tls-cert-file=" + f.cert, "--tls-key-file=" + f.key}
}

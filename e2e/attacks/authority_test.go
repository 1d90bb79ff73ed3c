package attacks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"
)

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
func (a *authority) client(tb testing.TB) tls.Certificate {
	tb.Helper()
	uri, err := url.Parse(certified)
	if err != nil {
		tb.Fatal(err)
	}
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

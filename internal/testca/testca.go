// Package testca makes certificates for tests.
package testca

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

// Authority makes certificates.
type Authority struct {
	PEM string // of its own certificate

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	made        func(key *ecdsa.PrivateKey, pem string)
}

// New makes an authority. It tells made, unless that is nil, of each private key:
// its own, and those of certificates.
func New(tb testing.TB, made func(key *ecdsa.PrivateKey, pem string)) *Authority {
	tb.Helper()
	a := &Authority{made: made}
	a.PEM, _ = a.Issue(tb, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// Issue makes a certificate and its private key, as PEM; the first one is the
// authority's own. It is valid now, unless the template says otherwise.
func (a *Authority) Issue(tb testing.TB, template *x509.Certificate) (cert, key string) {
	tb.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		tb.Fatal(err)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, own
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	if a.certificate == nil {
		a.key = own
		if a.certificate, err = x509.ParseCertificate(der); err != nil {
			tb.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		tb.Fatal(err)
	}
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	if a.made != nil {
		a.made(own, key)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key
}

// Host makes a certificate of a server on 127.0.0.1.
func (a *Authority) Host(tb testing.TB) (cert, key string) {
	tb.Helper()
	return a.Issue(tb, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client makes a certificate of a caller, known by its URI.
func (a *Authority) Client(tb testing.TB, uri string) tls.Certificate {
	tb.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		tb.Fatal(err)
	}
	cert, key := a.Issue(tb, &x509.Certificate{URIs: []*url.URL{u}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		tb.Fatal(err)
	}
	return pair
}

// Trust are the settings of a client that takes the authority's servers, and may
// show certificates.
func (a *Authority) Trust(certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &tls.Config{RootCAs: roots, Certificates: certificates, MinVersion: tls.VersionTLS12}
}

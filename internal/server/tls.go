package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/files"
)

// suites are those of TLS 1.2 with forward secrecy and authenticated encryption, as all of
// TLS 1.3 are.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

const maxPEM = 1 << 20 // bytes of a file

// identity is the certificate of the server, and the authorities of the certificates that
// it accepts. It is nil without TLS.
type identity struct {
	certFile, keyFile, caFile string
	current                   atomic.Pointer[trust]
}

// trust is the content of the files of an identity. It is never changed.
type trust struct {
	grpc, http  *tls.Config
	authorities map[string]bool // certificates in DER
}

// newIdentity reads the files, which must be right when the server starts.
func newIdentity(cfg *config.Config) (*identity, error) {
	if cfg.TLSCertFile == "" {
		return nil, nil //nolint:nilnil // a nil identity is one
	}
	i := &identity{certFile: cfg.TLSCertFile, keyFile: cfg.TLSKeyFile, caFile: cfg.ClientCAFile}
	return i, i.load()
}

func (i *identity) files() []string {
	files := []string{i.certFile, i.keyFile}
	if i.caFile != "" {
		files = append(files, i.caFile)
	}
	return files
}

// load reads the files again. Open connections keep what they began with, except for
// authorities that are removed, see certificate. An authority is removed even if the new
// certificate of the server cannot be used.
func (i *identity) load() error {
	own, unusable := readKeyPair(i.certFile, i.keyFile)
	if unusable != nil {
		before := i.current.Load()
		if before == nil {
			return unusable
		}
		own = before.grpc.Certificates[0]
	}
	base := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites, Certificates: []tls.Certificate{own}}
	t := &trust{authorities: map[string]bool{}}
	if i.caFile != "" {
		authorities, err := readCertificates(i.caFile)
		if err != nil {
			return fmt.Errorf("--client-ca-file: %w", err)
		}
		base.ClientCAs = x509.NewCertPool()
		for _, authority := range authorities {
			base.ClientCAs.AddCert(authority)
			t.authorities[string(authority.Raw)] = true
		}
		base.ClientAuth = tls.VerifyClientCertIfGiven
		// The certificate of a client that resumes a session is not verified again.
		base.SessionTicketsDisabled = true
	}
	t.grpc, t.http = base, base.Clone()
	t.grpc.NextProtos, t.http.NextProtos = []string{"h2"}, []string{"http/1.1"}
	i.current.Store(t)
	return unusable
}

func readKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := files.Read(certFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--tls-cert-file: %w", err)
	}
	key, err := files.Read(keyFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--tls-key-file: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--tls-cert-file %s and --tls-key-file %s: %w", certFile, keyFile, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		return tls.Certificate{}, fmt.Errorf("--tls-cert-file %s: the certificate is valid from %s to %s, which is not now",
			certFile, pair.Leaf.NotBefore.Format(time.RFC3339), pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return pair, nil
}

// readCertificates reads a file that holds certificates only.
func readCertificates(path string) ([]*x509.Certificate, error) {
	rest, err := files.Read(path, maxPEM)
	if err != nil {
		return nil, err
	}
	var found []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s, and should hold certificates only", path, block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(found)+1, err)
		}
		found = append(found, certificate)
	}
	if len(found) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s: what follows the first %d certificates is not PEM", path, len(found))
	}
	return found, nil
}

// config returns settings that follow the files, connection by connection.
func (i *identity) config(of func(*trust) *tls.Config) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return of(i.current.Load()), nil },
	}
}

// certificate returns the leaf that a client has shown, or nil. TLS verified it when the
// connection was made, but its authority may have been removed since then.
func (i *identity) certificate(connection *tls.ConnectionState) *x509.Certificate {
	if i == nil || connection == nil {
		return nil
	}
	authorities := i.current.Load().authorities
	for _, chain := range connection.VerifiedChains {
		if authorities[string(chain[len(chain)-1].Raw)] {
			return chain[0]
		}
	}
	return nil
}

// connectionIn returns the TLS connection that a gRPC call came over, or nil.
func connectionIn(ctx context.Context) *tls.ConnectionState {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	return &info.State
}

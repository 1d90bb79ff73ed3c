package auth

import (
	"crypto/x509"
	"slices"
	"time"
)

// A Directory is what a callers file says: who there is, and how each is known. It
// never changes.
type Directory struct {
	files    []string
	names    map[string]*Caller
	keys     map[string]apiKey // by id
	subjects map[subject]*Caller
	// A name of one kind must not pass for one of the other: a certificate may hold
	// any text as a DNS name.
	uris, hosts map[string]*Caller
	issuers     map[string]*issuer
}

// A subject is a caller as an issuer of tokens knows it.
type subject struct{ issuer, name string }

// An issuer is accepted as one that knows callers. It has keys, or a URL of them.
type issuer struct {
	name       string
	audience   string
	algorithms []string
	keys       keySet
	url        string
}

// Files returns the files that the directory was read from: the callers file and
// the files of issuers' keys. When one of them changes, it is time to Load again.
func (d *Directory) Files() []string { return slices.Clone(d.files) }

// A Caller is a program that may call. It never changes; another one of the same
// name may follow it when the callers file is read again.
type Caller struct {
	name    string
	scopes  map[string]bool
	apps    []string
	bound   *accounts // nil is every account
	expires time.Time // zero is never
	share   float64
}

// Name returns the name of the caller, which is unique, and which is no secret.
func (c *Caller) Name() string { return c.name }

// App returns the app that is meant if the caller names none.
func (c *Caller) App() string { return c.apps[0] }

// MayUse reports whether the caller may use an app.
func (c *Caller) MayUse(app string) bool { return slices.Contains(c.apps, app) }

// QuotaShare returns which part of an app's quotas the caller may use at most:
// more than 0, and 1 for all.
func (c *Caller) QuotaShare() float64 { return c.share }

// byCertificate returns the caller that a certificate names, or nil if it names
// none. A certificate that names two is nobody's to use.
//
// TLS has checked the time only when the connection was made.
func (d *Directory) byCertificate(leaf *x509.Certificate, now time.Time) (*Caller, error) {
	if leaf == nil {
		return nil, nil //nolint:nilnil // no certificate is no error
	}
	if now.After(leaf.NotAfter) {
		return nil, errCertificateExpired
	}
	if now.Before(leaf.NotBefore) {
		return nil, errCertificateEarly
	}
	var found *Caller
	ambiguous := false
	note := func(c *Caller) {
		ambiguous = ambiguous || c != nil && found != nil && c != found
		if found == nil {
			found = c
		}
	}
	for _, uri := range leaf.URIs {
		note(d.uris[uri.String()])
	}
	for _, host := range leaf.DNSNames {
		note(d.hosts[host])
	}
	if ambiguous {
		return nil, errAmbiguous
	}
	return found, nil
}

var (
	errCertificateExpired = refusal(Expired, "the certificate has expired")
	errCertificateEarly   = refusal(BadCredential, "the certificate is not valid yet")
	errAmbiguous          = refusal(BadCredential, "the certificate names several callers")
)

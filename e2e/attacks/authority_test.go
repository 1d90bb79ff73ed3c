package attacks

import (
	"crypto/ecdsa"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/internal/testca"
)

// newAuthority makes an authority whose private keys are looked for, and those of
// all its certificates.
func newAuthority(tb testing.TB, s *search) *testca.Authority {
	tb.Helper()
	return testca.New(tb, func(key *ecdsa.PrivateKey, pem string) {
		s.addPEM("a private key", pem)
		number, err := key.Bytes()
		if err != nil {
			tb.Fatal(err)
		}
		s.addForms("the number of a private key", number)
	})
}

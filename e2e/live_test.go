package e2e

import (
	"crypto/rand"
	"maps"
	"os"
	"strings"
	"testing"
)

// live is a service that runs already, in front of the real Yunxin, and the
// accounts that the cases may use there.
type live struct {
	*facade

	accounts vars
}

// liveService reads the service to test from the environment, see README.md. It
// returns nil if there is none.
func liveService(tb testing.TB) *live {
	tb.Helper()
	grpcAddr, restURL := os.Getenv("YUNXIN_E2E_ENDPOINT"), os.Getenv("YUNXIN_E2E_HTTP_ENDPOINT")
	if grpcAddr == "" && restURL == "" {
		return nil
	}
	l := &live{accounts: vars{}}
	for pair := range strings.SplitSeq(os.Getenv("YUNXIN_E2E_ACCOUNTS"), ",") {
		name, id, _ := strings.Cut(pair, "=")
		l.accounts[name] = id
	}
	if grpcAddr == "" || restURL == "" || l.accounts["alice"] == "" || l.accounts["bob"] == "" {
		tb.Fatal("set YUNXIN_E2E_ENDPOINT=host:port, YUNXIN_E2E_HTTP_ENDPOINT=http://host:port " +
			"and YUNXIN_E2E_ACCOUNTS=alice=id,bob=id, or none of them")
	}
	l.facade = connect(tb, grpcAddr, strings.TrimSuffix(restURL, "/"))
	tb.Cleanup(l.close)
	return l
}

// vars are the variables of one run of a case; ${unique} never comes twice.
func (l *live) vars() vars {
	v := vars{"unique": rand.Text()}
	maps.Copy(v, l.accounts)
	return v
}

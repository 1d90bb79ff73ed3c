package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/internal/testmode"
)

var brokenConnections = scenario{
	name:  "broken connections",
	fault: "each way in which a connection can break, over HTTP and HTTPS",
	load:  "reads and messages over gRPC and REST, on new connections and on those that broke",
	must:  "every call is answered with a reason; what is said not to have been sent has not arrived; nothing arrives twice; healed, calls succeed",
}

func TestBrokenConnections(t *testing.T) {
	testmode.Beside(t)
	r := brokenConnections.begin(t)
	var silent, untrue, twice, unhealed, calls int
	for _, secure := range []bool{false, true} {
		up := startFake
		if secure {
			up = startFakeTLS
		}
		upstream := up(t, behaviour{})
		scheme, address, _ := strings.Cut(upstream.url, "://")
		p := startProxy(t, address)
		c := startFacade(t, []string{scheme + "://" + p.address()}, append(apart, "--default-timeout=300ms")...).caller(t, 1)
		for m := swallow; m < modes; m++ {
			if secure && (m == badGateway || m == endless) {
				continue // these are answers of HTTP
			}
			for _, n := range []int{40, 1200, 1} { // in the handshake, in the answer, at once
				p.set(t, fault{mode: m, n: n, every: 10 * time.Millisecond})
				for kind := range 3 {
					calls++
					name := fmt.Sprintf("%s %s %d %d", scheme, m, n, kind)
					o := breakOne(t, c, kind, name)
					intention := name
					if kind > 0 {
						intention = "alice|1|" + name
					}
					e := upstream.ledger.entry(intention)
					switch {
					case !o.ok() && (o.reason == "" || o.code == codes.Internal):
						silent++
						t.Errorf("%s: no reason: %v", name, o.err)
					case o.reason == "UPSTREAM_UNREACHABLE" && e.arrivals > 0:
						untrue++
						t.Errorf("%s: arrived, but: %v", name, o.err)
					case kind == 0 && e.arrivals > 1:
						twice++
						t.Errorf("%s: %d arrivals", name, e.arrivals)
					}
				}
				p.set(t, fault{})
				if !c.well(t) {
					unhealed++
					t.Errorf("%s: no call succeeds once it is healed", m)
				}
				if m != cut {
					break
				}
			}
		}
	}
	r.figure("answers without a reason", float64(silent), "", atMost(0))
	r.figure("arrived, but said to be unsent", float64(untrue), "", atMost(0))
	r.figure("arrived twice", float64(twice), "", atMost(0))
	r.figure("not well again", float64(unhealed), "", atMost(0))
	r.sayf("%d calls", calls)
	r.write()
}

// breakOne makes a call of one of three kinds. None has a deadline of its own, so
// that the facade answers, and not the caller's own library for it.
func breakOne(tb testing.TB, c *caller, kind int, name string) outcome {
	tb.Helper()
	switch kind {
	case 0:
		return c.send(tb.Context(), "", name)
	case 1:
		return c.read(tb.Context(), "alice|1|"+name)
	default:
		return c.readREST(tb.Context(), "alice|1|"+name, 0)
	}
}

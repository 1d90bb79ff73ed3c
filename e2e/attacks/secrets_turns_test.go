package attacks

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A turn is something to be swapped.
type turn struct {
	name  string
	file  string               // that the log names
	spoil func()               // puts a broken one
	good  func() error         // whether the one before is in force
	swap  func() time.Duration // puts another one, and tells after what time it was in force
}

// turns are all there are. The issuer with a URL comes last, see renew.
func (v *vault) turns() []turn {
	return []turn{
		v.secretTurn(0), v.keyTurn(), v.tokenTurn(v.issuers[0], v.doors[1]), v.certificateTurn(), v.secretTurn(1), v.authorityTurn(),
		v.tokenTurn(v.issuers[1], v.doors[4]),
	}
}

// secretTurn swaps an AppSecret, here and at the upstream.
func (v *vault) secretTurn(i int) turn {
	tb, files, app := v.tb, v.secrets[i], apps[i]
	good := func() error { return v.doors[2].grpc(tb, probing+"|1|bob", "x-yunxin-app", app) }
	return turn{
		"the AppSecret of app " + app, files.path("secret"),
		func() { files.put(tb, map[string]string{"secret": "\n"}) },
		good,
		func() time.Duration {
			v.putSecret(tb, i)
			took := v.await(tb, "the AppSecret", good)
			v.upstream.retire("key-of-" + app)
			return took
		},
	}
}

// keyTurn gives callers another API key, and takes the one before when nobody
// uses it any more.
func (v *vault) keyTurn() turn {
	tb := v.tb
	with := func(key string) func() error {
		return func() error { return v.doors[0].grpc(tb, "alice|1|bob", "x-api-key", key) }
	}
	return turn{
		"an API key", v.callers.path("callers.yaml"),
		func() { // the key itself, in a form that the errors of YAML repeat
			v.callers.put(tb, map[string]string{"callers.yaml": "callers:\n  - {name: keys, keys: [*" + v.key.now.value + "]}"})
		},
		func() error { return with(v.key.now.value)() },
		func() time.Duration {
			key, line := v.newKey(tb)
			v.putCallers(tb, v.keyLines[0], line)
			added := v.await(tb, "the key", with(key))
			former, over := v.key.replace(key)
			over()
			v.putCallers(tb, line)
			return max(added, v.await(tb, "the end of the key before", lockedOut(with(former))))
		},
	}
}

// tokenTurn does the same with the keys of an issuer of tokens.
func (v *vault) tokenTurn(i *issuer, d *door) turn {
	tb := v.tb
	with := func(token string) func() error {
		return func() error { return d.send(tb, "authorization", "Bearer "+token) }
	}
	t := turn{
		name: "the key of an issuer with a " + i.name, file: i.path("jwks.json"),
		spoil: func() { i.put(tb, map[string]string{"jwks.json": `{"keys":[{"kty":"EC",`}) },
		good:  func() error { return with(i.token.now.value)() },
		swap: func() time.Duration {
			token, public := v.newToken(tb, i)
			i.publish(tb, i.public, public)
			v.renew(tb, i, i.moved > 0 || !full())
			added := v.await(tb, "the key of the issuer", with(token))
			former, over := i.token.replace(token)
			over()
			i.publish(tb, public)
			i.public = public
			v.renew(tb, i, true)
			return max(added, v.await(tb, "the end of the issuer's key before", lockedOut(with(former))))
		},
	}
	if i.server != nil {
		t.file = v.callers.path("callers.yaml")
		t.spoil = func() { // keys that anybody could change on their way
			v.callers.put(tb, map[string]string{"callers.yaml": `{callers: [], jwt: [{issuer: url, audience: a, algorithms: [ES256], jwks_url: "http://example.com/"}]}`})
		}
	}
	return t
}

// renew puts a good callers file back, for an issuer with a URL. The first token with
// a new key makes the server fetch it, if it has not fetched for 30 seconds: that is
// so at the first swap of the long form, and not for sure later, as tokens with a key
// that is gone make it fetch too. Another URL in the file is fetched from at once.
func (v *vault) renew(tb testing.TB, i *issuer, move bool) {
	tb.Helper()
	if i.server == nil {
		return
	}
	if move {
		i.moved++
	}
	v.putCallers(tb, v.keyLines...)
}

// certificateTurn gives the server another certificate, which new connections of
// either door see.
func (v *vault) certificateTurn() turn {
	tb := v.tb
	shown := func() error {
		for _, addr := range []string{v.grpc, v.rest} {
			now, err := v.shown(tb, addr)
			if err != nil {
				return err
			}
			if now != v.serial {
				return fmt.Errorf("%s shows %s", addr, now)
			}
		}
		return nil
	}
	return turn{
		"the server's certificate", v.tls.path("tls.crt"),
		func() {
			cert, key := v.authority.Host(tb)
			v.tls.put(tb, map[string]string{"tls.crt": cert[:len(cert)/2], "tls.key": key[:len(key)*2/3]})
		},
		shown,
		func() time.Duration {
			v.putCertificate(tb)
			return v.await(tb, "the certificate", shown)
		},
	}
}

// shown returns the serial number of the certificate at an address.
func (v *vault) shown(tb testing.TB, addr string) (string, error) {
	tb.Helper()
	settings := v.authority.Trust()
	settings.NextProtos = []string{"h2", "http/1.1"}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: settings}).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return "", fmt.Errorf("a connection of type %T", conn)
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// authorityTurn gives callers certificates of another authority. When nobody begins
// calls with the former ones any more, that authority goes, and they are good for
// nothing, not even on connections that were opened with them.
func (v *vault) authorityTurn() turn {
	tb := v.tb
	certified := v.doors[2:4]
	good := func() error { return certified.send(tb) }
	return turn{
		"the authority of callers", v.tls.path("ca.crt"),
		func() { v.tls.put(tb, map[string]string{"ca.crt": v.clients.PEM[:len(v.clients.PEM)/2]}) },
		good,
		func() time.Duration {
			former := *v.certificate.Load()
			visitors := v.visitors(tb, former)
			defer visitors.shut()
			if err := visitors.send(tb); err != nil {
				tb.Errorf("visitors: %v", err)
			}
			next := newAuthority(tb, v.search)
			certificate := next.Client(tb, certifiedURI)
			v.tls.put(tb, map[string]string{"ca.crt": v.clients.PEM + next.PEM})
			added := v.await(tb, "the authority", func() error { return v.visit(tb, certificate) })
			v.certificate.Store(&certificate)
			for _, d := range certified {
				d.reopen(tb)
				_, over := d.calls.replace(struct{}{})
				over() // what came over connections that show the former one
			}
			v.clients = next
			v.tls.put(tb, map[string]string{"ca.crt": next.PEM})
			removed := v.await(tb, "the end of the authority before", func() error {
				for _, d := range visitors {
					if err := lockedOut(func() error { return d.send(tb) })(); err != nil {
						return err
					}
				}
				return nil
			})
			strangers := v.visitors(tb, former)
			defer strangers.shut()
			for _, d := range strangers {
				if d.send(tb) == nil {
					tb.Error("a certificate of the authority before opens a connection")
				}
			}
			return max(added, removed)
		},
	}
}

// lockedOut wants a call to be refused for its credential.
func lockedOut(call func() error) func() error {
	return func() error {
		err := call()
		if status.Code(err) == codes.Unauthenticated || err != nil && strings.HasPrefix(err.Error(), "HTTP 401") {
			return nil
		}
		if err == nil {
			err = errors.New("let in")
		}
		return err
	}
}

// await waits until something is so, and returns after what time it was.
func (v *vault) await(tb testing.TB, what string, so func() error) time.Duration {
	tb.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := so()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			tb.Errorf("%s: not in %v: %v", what, patience, err)
			return patience
		}
		<-tick.C
	}
}

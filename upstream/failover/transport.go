package failover

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Limits of one attempt. The caller's deadline is usually shorter.
const (
	dialTimeout    = 3 * time.Second
	tlsTimeout     = 3 * time.Second
	headerTimeout  = 15 * time.Second
	attemptTimeout = 20 * time.Second
	pingAfter      = 5 * time.Second // without a frame
	pingTimeout    = 2 * time.Second
	maxHeaderBytes = 64 << 10
)

// MaxConns is the most connections to one endpoint; further attempts wait for one.
const MaxConns = 512

// Dialer makes connections.
type Dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// newHTTPClient returns a client with a pool for one busy host. It follows no
// redirect: a signed request goes where it was meant to go, or nowhere.
func newHTTPClient(dial Dialer) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxConnsPerHost:        MaxConns,
		MaxIdleConns:           MaxConns,
		MaxIdleConnsPerHost:    MaxConns,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
		// A dead HTTP/2 connection would be used for all calls.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	if dial == nil {
		dial = new(net.Dialer).DialContext
		transport.Proxy = http.ProxyFromEnvironment
	}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dial(ctx, network, address)
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

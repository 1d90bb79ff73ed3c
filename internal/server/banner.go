package server

import (
	"fmt"
	"strings"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/sandbox"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
)

// Banner tells the person who started the server where it is and what it calls.
func (s *Server) Banner() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "yunxin-facade %s\n", config.Version())
	scheme, protection := "http", "none"
	if s.identity != nil {
		scheme, protection = "https", "for gRPC and REST, by "+s.cfg.TLSCertFile
	}
	line("gRPC", "%s", s.listeners.grpc.Addr())
	line("REST", "%s://%s/v1/", scheme, s.listeners.http.Addr())
	if s.cfg.Docs {
		line("docs", "%s://%s/docs/", scheme, s.listeners.http.Addr())
	}
	line("admin", "http://%[1]s/readyz and http://%[1]s/metrics", s.listeners.admin.Addr())
	line("TLS", "%s", protection)
	if s.access == nil {
		line("callers", "not authenticated: whoever reaches the server may do everything")
	} else {
		line("callers", "those of %s", s.cfg.CallersFile)
	}
	if s.imitation == nil {
		for _, app := range s.cfg.Apps {
			endpoints, _ := failover.Endpoints(app.Endpoints) // otherwise there is no server
			line("Yunxin", "app %s: %s", app.Name, strings.Join(endpoints, ", "))
			if len(app.LBS) > 0 {
				line("", "or where its scheduling service says: %s", strings.Join(app.LBS, ", "))
			}
		}
		return b.String()
	}
	line("sandbox", "an imitation of Yunxin: nothing leaves this process, and its state ends with it")
	if accounts := s.imitation.Summary().Accounts; len(accounts) > 0 {
		line("", "accounts: %s", strings.Join(accounts, ", "))
	}
	if s.listeners.sandbox != nil {
		line("", "for other clients: http://%s, AppKey %s, AppSecret %s", s.listeners.sandbox.Addr(), sandbox.AppKey, sandbox.AppSecret)
	}
	return b.String()
}

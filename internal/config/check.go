package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// check reports every broken rule at once.
func (c *Config) check() error {
	return errors.Join(
		c.checkUpstream(),
		c.checkEndpoints(),
		c.checkListener("--grpc-addr", c.GRPCAddr),
		c.checkListener("--http-addr", c.HTTPAddr),
		c.checkListener("--admin-addr", c.AdminAddr),
		c.checkSandbox(),
		c.checkLimits(),
	)
}

// checkUpstream makes sure that it is clear whom to serve. Half a credential
// must never end in a silent sandbox.
func (c *Config) checkUpstream() error {
	hasKey, hasSecret := c.AppKey != "", c.AppSecret != ""
	switch {
	case c.Sandbox && (hasKey || hasSecret || len(c.Endpoints) > 0):
		return errors.New("--sandbox takes no --app-key, AppSecret or --endpoint (check the YUNXIN_ environment variables too): " +
			"remove them to use the sandbox, or remove --sandbox to call Yunxin")
	case c.Sandbox:
		return nil
	case hasKey && !hasSecret:
		return fmt.Errorf("--app-key is set, but not its secret: add --app-secret-file FILE or set %s", secretVariable)
	case hasSecret && !hasKey:
		return errors.New("an AppSecret is set, but not its --app-key: add --app-key KEY")
	case !hasKey:
		return errors.New("neither a sandbox nor a Yunxin app is set: start with --sandbox to try the service offline, " +
			"or with --app-key KEY --app-secret-file FILE to call Yunxin")
	}
	return nil
}

func (c *Config) checkEndpoints() error {
	var errs []error
	for _, endpoint := range c.Endpoints {
		if problem := endpointProblem(endpoint); problem != "" {
			errs = append(errs, fmt.Errorf("--endpoint %s", problem))
		}
	}
	return errors.Join(errs...)
}

// endpointProblem repeats no part of the URL that may be secret.
func endpointProblem(endpoint string) string {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return "is not a URL; it must look like " + DefaultEndpoint
	case u.User != nil:
		return "must not hold a user name or password"
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("%q must begin with https:// or http://", endpoint)
	case u.Hostname() == "":
		return fmt.Sprintf("%q has no host", endpoint)
	case u.RawQuery != "" || u.ForceQuery:
		return "with host " + u.Host + " must not hold a query"
	case u.Fragment != "" || strings.HasSuffix(endpoint, "#"):
		return "with host " + u.Host + " must not hold a fragment"
	}
	return ""
}

func (c *Config) checkListener(flag, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q is not an address; it must look like 127.0.0.1:8080", flag, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s %q: the port must be a number from 0 to 65535", flag, addr)
	}
	if c.InsecureListen || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("%s %s can be reached from other machines, and this server has neither TLS nor authentication of callers yet: "+
		"listen on 127.0.0.1 behind a proxy that has both, or accept the risk with --insecure-listen", flag, addr)
}

// isLoopback does not look names up: what they mean may change.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) checkSandbox() error {
	if !c.Sandbox {
		if c.SandboxAddr != "" || c.SandboxSeed != nil || c.SandboxRate != 0 {
			return errors.New("--sandbox-addr, --sandbox-seed and --sandbox-rate need --sandbox")
		}
		return nil
	}
	if c.SandboxRate < 0 {
		return errors.New("--sandbox-rate must not be negative")
	}
	if c.SandboxAddr == "" {
		return nil
	}
	return c.checkListener("--sandbox-addr", c.SandboxAddr)
}

// Limits of the limits: what lies beyond is a slip of the pen, not a wish.
const (
	leastTimeout       = time.Millisecond
	mostTimeout        = time.Hour
	mostStreamInterval = 20 * time.Second // after 30 the upstream ends the message
	leastRequestBytes  = 1 << 10
	mostRequestBytes   = 64 << 20
)

func (c *Config) checkLimits() error {
	var errs []error
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"--default-timeout", c.DefaultTimeout},
		{"--max-timeout", c.MaxTimeout},
		{"--max-stream-time", c.MaxStreamTime},
		{"--drain-timeout", c.DrainTimeout},
	} {
		if d.value < leastTimeout || d.value > mostTimeout {
			errs = append(errs, fmt.Errorf("%s %s must be from %s to %s", d.flag, d.value, leastTimeout, mostTimeout))
		}
	}
	if c.StreamInterval < 0 || c.StreamInterval > mostStreamInterval {
		errs = append(errs, fmt.Errorf("--stream-interval %s must be from 0s to %s", c.StreamInterval, mostStreamInterval))
	}
	if c.DefaultTimeout > c.MaxTimeout {
		errs = append(errs, fmt.Errorf("--default-timeout %s is longer than --max-timeout %s", c.DefaultTimeout, c.MaxTimeout))
	}
	if c.MaxRequestBytes < leastRequestBytes || c.MaxRequestBytes > mostRequestBytes {
		errs = append(errs, fmt.Errorf("--max-request-bytes %s must be from %s to %s",
			c.MaxRequestBytes, Bytes(leastRequestBytes), Bytes(mostRequestBytes)))
	}
	return errors.Join(errs...)
}

package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
	"github.com/yunxin-facade/yunxin-facade/upstream/quota"
)

// check reports every broken rule at once.
func (c *Config) check() error {
	return errors.Join(
		c.checkUpstream(),
		c.checkApp(),
		c.checkSecurity(),
		c.checkDoor("--grpc-addr", c.GRPCAddr),
		c.checkDoor("--http-addr", c.HTTPAddr),
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
	case c.AppsFile != "":
		return nil // and nothing else, see readApps
	case c.Sandbox && (hasKey || hasSecret || len(c.Endpoints) > 0 || len(c.LBS) > 0):
		return errors.New("--sandbox takes no --app-key, AppSecret, --endpoint or --lbs (check the YUNXIN_ environment variables too): " +
			"remove them to use the sandbox, or remove --sandbox to call Yunxin")
	case c.Sandbox:
		return nil
	case hasKey && !hasSecret:
		return fmt.Errorf("--app-key is set, but not its secret: add --app-secret-file FILE or set %s", secretVariable)
	case hasSecret && !hasKey:
		return errors.New("an AppSecret is set, but not its --app-key: add --app-key KEY")
	case !hasKey:
		return errors.New("neither a sandbox nor a Yunxin app is set: start with --sandbox to try the service offline, " +
			"or with --app-key KEY --app-secret-file FILE, or --apps-file FILE, to call Yunxin")
	}
	return nil
}

// checkApp checks the app of the flags; those of a file are checked as they are
// read.
func (c *Config) checkApp() error {
	if c.AppsFile != "" {
		return nil
	}
	return c.Apps[0].check("--endpoint", "--lbs", "--plan", "--quota")
}

// checkAddresses takes URLs and the names that stand for some.
func checkAddresses(flag string, addresses []string, known map[string][]string) error {
	var errs []error
	names := slices.Sorted(maps.Keys(known))
	for i, address := range addresses {
		if slices.Contains(names, address) {
			continue
		}
		if err := failover.CheckURL(address); err != nil {
			errs = append(errs, fmt.Errorf("%s no. %d %w (it takes URLs, and the names %s)", flag, i+1, err, strings.Join(names, ", ")))
		}
	}
	return errors.Join(errs...)
}

var rpc = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)

func checkPlan(flag, plan string) error {
	if plan != "" && !slices.Contains(quota.Plans(), plan) {
		return fmt.Errorf("%s %q is not a plan of Yunxin: it must be one of %s", flag, plan, strings.Join(quota.Plans(), ", "))
	}
	return nil
}

// checkQuotas leaves it to the client of the upstream whether there is such an
// RPC.
func checkQuotas(flag string, quotas Quotas) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(quotas)) {
		if !slices.Contains(quota.Classes(), name) && !rpc.MatchString(name) {
			errs = append(errs, fmt.Errorf("%s %s: %q is neither a class of operations (%s) nor an RPC, such as SendMessage",
				flag, name, name, strings.Join(quota.Classes(), ", ")))
		}
	}
	return errors.Join(errs...)
}

// checkSecurity refuses what is set only by half: it would protect nothing.
func (c *Config) checkSecurity() error {
	var errs []error
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-key-file belong together: set both, or none"))
	}
	if c.ClientCAFile == "" {
		return errors.Join(errs...)
	}
	if c.TLSCertFile == "" {
		errs = append(errs, errors.New("--client-ca-file needs TLS: add --tls-cert-file and --tls-key-file"))
	}
	if c.CallersFile == "" {
		errs = append(errs, errors.New("--client-ca-file says whose certificates are good, but nothing says who may call: add --callers-file"))
	}
	return errors.Join(errs...)
}

// checkDoor checks the address of a door of the API.
func (c *Config) checkDoor(flag, addr string) error {
	open, err := c.isOpen(flag, addr)
	if err != nil || !open {
		return err
	}
	var missing []string
	if c.TLSCertFile == "" {
		missing = append(missing, "without TLS (--tls-cert-file and --tls-key-file)")
	}
	if c.CallersFile == "" {
		missing = append(missing, "without a list of who may call (--callers-file)")
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%s %s can be reached from other machines, %s: "+
		"add what is missing, listen on 127.0.0.1, or accept the risk with --insecure-listen", flag, addr, strings.Join(missing, " and "))
}

// checkListener checks an address at which there is neither TLS nor
// authentication, whatever is set.
func (c *Config) checkListener(flag, addr string) error {
	open, err := c.isOpen(flag, addr)
	if err != nil || !open {
		return err
	}
	return fmt.Errorf("%s %s can be reached from other machines, and has neither TLS nor authentication of callers: "+
		"listen on 127.0.0.1, or accept the risk with --insecure-listen", flag, addr)
}

// isOpen reports whether an address can be reached from other machines, and nobody
// has said that it may.
func (c *Config) isOpen(flag, addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fmt.Errorf("%s %q is not an address; it must look like 127.0.0.1:8080", flag, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false, fmt.Errorf("%s %q: the port must be a number from 0 to 65535", flag, addr)
	}
	return !c.InsecureListen && !isLoopback(host), nil
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
	mostInFlight       = 100_000
)

func (c *Config) checkLimits() error {
	var errs []error
	for _, d := range []struct {
		flag               string
		value, least, most time.Duration
	}{
		{"--default-timeout", c.DefaultTimeout, leastTimeout, mostTimeout},
		{"--max-timeout", c.MaxTimeout, leastTimeout, mostTimeout},
		{"--max-stream-time", c.MaxStreamTime, leastTimeout, mostTimeout},
		{"--shutdown-delay", c.ShutdownDelay, 0, mostTimeout},
		{"--drain-timeout", c.DrainTimeout, leastTimeout, mostTimeout},
		{"--stream-interval", c.StreamInterval, 0, mostStreamInterval},
	} {
		if d.value < d.least || d.value > d.most {
			errs = append(errs, fmt.Errorf("%s %s must be from %s to %s", d.flag, d.value, d.least, d.most))
		}
	}
	if c.DefaultTimeout > c.MaxTimeout {
		errs = append(errs, fmt.Errorf("--default-timeout %s is longer than --max-timeout %s", c.DefaultTimeout, c.MaxTimeout))
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > mostInFlight {
		errs = append(errs, fmt.Errorf("--max-in-flight %d must be from 1 to %d", c.MaxInFlight, mostInFlight))
	}
	if c.MaxRequestBytes < leastRequestBytes || c.MaxRequestBytes > mostRequestBytes {
		errs = append(errs, fmt.Errorf("--max-request-bytes %s must be from %s to %s",
			c.MaxRequestBytes, Bytes(leastRequestBytes), Bytes(mostRequestBytes)))
	}
	return errors.Join(errs...)
}

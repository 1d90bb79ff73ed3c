package failover

import (
	"slices"
	"strings"
	"testing"
)

// TestRegions tells which hosts the names stand for, as the vendor documents them.
func TestRegions(t *testing.T) {
	t.Parallel()
	const cn, cnBackup = "https://open.yunxinapi.com", "https://open-bak.yunxinapi.com"
	const sg, sgBackup = "https://open-sg.yunxinapi.com", "https://open-sg-bak.yunxinapi.com"
	tests := []struct {
		name        string
		names, want []string
	}{
		{"none", nil, nil},
		{"China", []string{"cn"}, []string{cn, cnBackup}},
		{"Singapore", []string{"sg"}, []string{sg, sgBackup}},
		{"both", []string{"sg", "cn"}, []string{sg, sgBackup, cn, cnBackup}},
		{"URLs", []string{"https://a.test/nimserver", "http://b.test:81"}, []string{"https://a.test/nimserver", "http://b.test:81"}},
		{"both kinds", []string{"https://a.test", "cn"}, []string{"https://a.test", cn, cnBackup}},
		{"twice", []string{"cn", "https://a.test", "cn", "https://a.test/"}, []string{cn, cnBackup, "https://a.test"}},
		{"part of a region first", []string{cnBackup + "/", "cn"}, []string{cnBackup + "/", cn}},
	}
	for _, tt := range tests {
		got, err := Endpoints(tt.names)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q: %v", tt.name, got, tt.want, err)
		}
	}
	Regions()["cn"][0] = "https://changed.test"
	if got := Regions()["cn"][0]; got != cn {
		t.Errorf("the table was changed to %s", got)
	}
}

// TestRegionsRefused tells what is neither a region nor an endpoint, and that no
// error shows what may be secret.
func TestRegionsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, want string }{
		{"eu", `endpoint no. 2 "eu" must begin with https:// or http:// (known names: cn, sg)`},
		{"CN", `endpoint no. 2 "CN" must begin`},
		{"", `endpoint no. 2 "" must begin`},
		{"open.yunxinapi.com", `endpoint no. 2 "open.yunxinapi.com" must begin`},
		{"ftp://a.test", `endpoint no. 2 "ftp://a.test" must begin with https:// or http://`},
		{"https://", `endpoint no. 2 "https://" has no host`},
		{"https://user:hush@a.test", "endpoint no. 2 must not hold a user name or password"},
		{"https://us:hush/er@a.test", "endpoint no. 2 must not hold a user name or password"},
		{"https://a.test\x00hush", "endpoint no. 2 is not a URL"},
		{"user:hush@a.test", "endpoint no. 2 must not hold a user name or password"},
		{"https://a.test?token=hush", `endpoint no. 2 with host "a.test" must not hold a query`},
		{"https://a.test#hush", `endpoint no. 2 with host "a.test" must not hold a fragment`},
	}
	for _, tt := range tests {
		got, err := Endpoints([]string{"cn", tt.name, "eu"})
		if got != nil || err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %q, error %v, want %s", tt.name, got, err, tt.want)
		}
		if err != nil && strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: not both errors: %v", tt.name, err)
		}
	}
}

// TestDiscoveryServices tells who can be asked.
func TestDiscoveryServices(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lbs  []string
		want string
	}{
		{[]string{"yunxin"}, "https://srv-sdk-lbs.yunxinapi.com/srv-sdk/allocate https://srv-sdk-lbs-cn.yunxinapi.com/srv-sdk/allocate https://srv-sdk-lbs-sg.yunxinapi.com/srv-sdk/allocate"},
		{[]string{"http://127.0.0.1:8181/srv-sdk/allocate", "https://a.test/"}, "http://127.0.0.1:8181/srv-sdk/allocate https://a.test/"},
		{[]string{"https://a.test/x", "https://a.test/x"}, "https://a.test/x"},
	} {
		s, err := newDiscovery(discoveryConfig{services: tt.lbs, userAgent: "facade"})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.query.Get("sv"); got != "facade" {
			t.Errorf("version %q", got)
		}
		var got []string
		for _, service := range s.services {
			got = append(got, service.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: asks %q", tt.lbs, got)
		}
	}
	for want, lbs := range map[string][]string{
		`discovery service no. 1 "no" must begin with https:// or http:// (known names: yunxin)`: {"no"},
		"discovery service no. 1 must not hold a user":                                           {"https://u:hush@a.test"},
		"must be given": nil,
	} {
		if _, err := newDiscovery(discoveryConfig{services: lbs}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: error %v", lbs, err)
		}
	}
}

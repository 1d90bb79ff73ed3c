package config_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/internal/auth"
	"github.com/yunxin-facade/yunxin-facade/internal/config"
)

// Beyond loopback, nothing less than TLS and a list of callers will do.
func TestOpenListeners(t *testing.T) {
	tls := []string{"--tls-cert-file=c", "--tls-key-file=k"}
	callers := []string{"--callers-file=f"}
	join := func(lists ...[]string) (all []string) {
		for _, list := range lists {
			all = append(all, list...)
		}
		return all
	}
	for name, c := range map[string]struct {
		args []string
		want []string // parts of the error; none if it starts
	}{
		"loopback":                 {nil, nil},
		"loopback, TLS":            {tls, nil},
		"loopback, callers":        {callers, nil},
		"open, all":                {join(tls, callers, []string{"--grpc-addr=:1", "--http-addr=0.0.0.0:2"}), nil},
		"open, certificates":       {join(tls, callers, []string{"--client-ca-file=a", "--grpc-addr=:1"}), nil},
		"open gRPC, TLS alone":     {join(tls, []string{"--grpc-addr=:1"}), []string{"--grpc-addr", "--callers-file", "--insecure-listen"}},
		"open REST, TLS alone":     {join(tls, []string{"--http-addr=:1"}), []string{"--http-addr", "--callers-file"}},
		"open gRPC, callers alone": {join(callers, []string{"--grpc-addr=[::]:1"}), []string{"--grpc-addr", "--tls-cert-file"}},
		"open REST, callers alone": {join(callers, []string{"--http-addr=:1"}), []string{"--http-addr", "--tls-cert-file"}},
		"open by name":             {[]string{"--grpc-addr=:1", "--http-addr=:2", "--insecure-listen"}, nil},
		"open admin, all":          {join(tls, callers, []string{"--admin-addr=:1"}), []string{"--admin-addr", "neither TLS nor"}},
		"open sandbox, all":        {join(tls, callers, []string{"--sandbox-addr=:1"}), []string{"--sandbox-addr", "neither TLS nor"}},
		"half: certificate":        {tls[:1], []string{"--tls-key-file"}},
		"half: key":                {tls[1:], []string{"--tls-cert-file"}},
		"half, by name":            {join(tls[:1], []string{"--insecure-listen"}), []string{"--tls-key-file"}},
		"CA without TLS":           {join(callers, []string{"--client-ca-file=a"}), []string{"--client-ca-file needs TLS"}},
		"CA without callers":       {join(tls, []string{"--client-ca-file=a"}), []string{"add --callers-file"}},
	} {
		_, err := config.Parse(append([]string{"--sandbox"}, c.args...), io.Discard)
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, part := range c.want {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error does not say %q: %v", name, part, err)
			}
		}
	}
}

// What is printed of a key is a key and a callers file that takes it.
func TestKeysNew(t *testing.T) {
	printed := map[string]bool{}
	for _, args := range [][]string{{"keys", "new"}, {"keys", "new", "--name", "billing"}, {"keys", "new", "--name=billing"}} {
		var out bytes.Buffer
		if _, err := config.Parse(args, &out); !errors.Is(err, config.ErrDone) {
			t.Fatalf("%v: %v", args, err)
		}
		key, lines, _ := strings.Cut(out.String(), "\n")
		if !regexp.MustCompile(`^yxf_[0-9a-f]{8}_[A-Za-z0-9_-]{43}$`).MatchString(key) || printed[key] {
			t.Errorf("%v: the key is %q", args, key)
		}
		printed[key] = true
		sum := sha256.Sum256([]byte(key))
		if strings.Contains(lines, key[13:]) || !strings.Contains(lines, hex.EncodeToString(sum[:])) || !strings.Contains(lines, "id: "+key[4:12]) {
			t.Errorf("%v: the lines are %q", args, lines)
		}
		file := "callers:\n" + lines
		if len(args) == 2 {
			file = "callers:\n- name: x\n  scopes: []\n  keys:\n  " + lines
		}
		path := filepath.Join(t.TempDir(), "callers")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.Load(path, auth.Known{Apps: []string{"default"}}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestCommands(t *testing.T) {
	for _, args := range [][]string{{"--sandbox"}, {"serve", "--sandbox"}, {"--sandbox", "serve"}} {
		if cfg, err := config.Parse(args, io.Discard); err != nil || !cfg.Sandbox || !cfg.Docs {
			t.Errorf("%v: %+v, %v", args, cfg, err)
		}
	}
	for _, args := range [][]string{{"keys"}, {"keys", "old"}, {"nonsense"}, {"--name=x", "--sandbox"}, {"keys", "new", "more"}} {
		if _, err := config.Parse(args, io.Discard); err == nil || errors.Is(err, config.ErrDone) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
)

// write makes a file and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParseRefuses(t *testing.T) {
	secret := write(t, "s3cret\n")
	yunxin := func(args ...string) []string {
		return append([]string{"--app-key=k", "--app-secret-file=" + secret}, args...)
	}
	sandbox := func(args ...string) []string { return append([]string{"--sandbox"}, args...) }
	file := func(content string) []string { return []string{"--config=" + write(t, content)} }
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		want []string // parts of the error
	}{
		"nothing":               {want: []string{"--sandbox", "--app-key", "--app-secret-file"}},
		"half: key":             {args: []string{"--app-key=k"}, want: []string{"--app-secret-file", "YUNXIN_APP_SECRET"}},
		"half: secret":          {args: []string{"--app-secret-file=" + secret}, want: []string{"--app-key"}},
		"half: secret from env": {env: map[string]string{"YUNXIN_APP_SECRET": "s"}, want: []string{"--app-key"}},
		"half in sandbox":       {args: sandbox("--app-key=k"), want: []string{"--sandbox takes no"}},
		"sandbox and endpoint":  {args: sandbox("--endpoint=http://x"), want: []string{"--sandbox takes no"}},
		"two secrets":           {args: yunxin(), env: map[string]string{"YUNXIN_APP_SECRET": "s"}, want: []string{"both"}},
		"no secret file":        {args: []string{"--app-key=k", "--app-secret-file=/nowhere"}, want: []string{"--app-secret-file", "/nowhere"}},
		"empty secret":          {args: []string{"--app-key=k", "--app-secret-file=" + write(t, "\n")}, want: []string{"holds 0 bytes"}},
		"secret as flag":        {args: []string{"--app-key=k", "--app-secret=s"}, want: []string{"unknown flag --app-secret"}},
		"secret in file":        {args: file("app-secret: s"), want: []string{"app-secret does not belong"}},
		"unknown flag":          {args: sandbox("--bogus"), want: []string{"unknown flag --bogus", "--help"}},
		"unknown keys":          {args: file("sandbox: true\ngrpc_addr: x\nbogus: 1"), want: []string{"unknown keys: bogus, grpc_addr"}},
		"key of command line":   {args: file("sandbox: true\nversion: true"), want: []string{"unknown keys: version"}},
		"file not a mapping":    {args: file("- 1"), want: []string{"not a mapping"}},
		"file: list":            {args: file("sandbox: true\nhttp-addr: [a, b]"), want: []string{"--http-addr", "line 2", "not a list"}},
		"file: null":            {args: file("sandbox:"), want: []string{"--sandbox", "plain value"}},
		"no file":               {args: []string{"--config=/nowhere"}, want: []string{"/nowhere"}},
		"endpoint scheme":       {args: yunxin("--endpoint=ftp://x"), want: []string{"--endpoint", "https://"}},
		"endpoint host":         {args: yunxin("--endpoint=https:///p"), want: []string{"no host"}},
		"endpoint query":        {args: yunxin("--endpoint=https://x/?a=b"), want: []string{"query"}},
		"endpoint fragment":     {args: yunxin("--endpoint=https://x/#f"), want: []string{"fragment"}},
		"endpoint user":         {args: yunxin("--endpoint=https://u:hunter2@x"), want: []string{"user name"}},
		"second endpoint":       {args: yunxin("--endpoint=https://x", "--endpoint=nope"), want: []string{`"nope"`}},
		"api version":           {args: yunxin("--api-version=v3"), want: []string{"v2.1"}},
		"open gRPC":             {args: sandbox("--grpc-addr=0.0.0.0:1"), want: []string{"--grpc-addr", "TLS", "--insecure-listen"}},
		"open REST":             {args: sandbox("--http-addr=:1"), want: []string{"--http-addr", "--insecure-listen"}},
		"open admin":            {args: sandbox("--admin-addr=example.com:1"), want: []string{"--admin-addr", "--insecure-listen"}},
		"open sandbox":          {args: sandbox("--sandbox-addr=192.0.2.1:1"), want: []string{"--sandbox-addr", "--insecure-listen"}},
		"not an address":        {args: sandbox("--grpc-addr=9090"), want: []string{"--grpc-addr", "not an address"}},
		"not a port":            {args: sandbox("--grpc-addr=127.0.0.1:x"), want: []string{"--grpc-addr", "65535"}},
		"sandbox rate":          {args: sandbox("--sandbox-rate=-1"), want: []string{"--sandbox-rate"}},
		"sandbox settings":      {args: yunxin("--sandbox-rate=1"), want: []string{"need --sandbox"}},
		"default over maximum":  {args: sandbox("--default-timeout=2m"), want: []string{"longer than --max-timeout"}},
		"no timeout":            {args: sandbox("--max-timeout=0s"), want: []string{"--max-timeout"}},
		"drain timeout":         {args: sandbox("--drain-timeout=-1s"), want: []string{"--drain-timeout"}},
		"request bytes":         {args: sandbox("--max-request-bytes=1GiB"), want: []string{"--max-request-bytes 1GiB", "64MiB"}},
		"not a size":            {args: sandbox("--max-request-bytes=4XB"), want: []string{"not a size"}},
		"huge size":             {args: sandbox("--max-request-bytes=9999999999999GiB"), want: []string{"not a size"}},
		"log level":             {args: sandbox("--log-level=loud"), want: []string{"--log-level"}},
		"log format":            {args: sandbox("--log-format=xml"), want: []string{"--log-format"}},
		"environment":           {args: sandbox(), env: map[string]string{"YUNXIN_MAX_TIMEOUT": "soon"}, want: []string{"--max-timeout", "YUNXIN_MAX_TIMEOUT"}},
		"all at once":           {args: sandbox("--grpc-addr=x", "--http-addr=y"), want: []string{"--grpc-addr", "--http-addr"}},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range c.env {
				t.Setenv(variable, value)
			}
			cfg, err := config.Parse(c.args, io.Discard)
			if err == nil {
				t.Fatalf("accepted: %+v", cfg)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a password: %v", err)
			}
		})
	}
}

func TestParseSources(t *testing.T) {
	secret := write(t, " s3cret \r\n")
	file := write(t, "app-key: from-file\nmax-timeout: 30s\nhttp-addr: 127.0.0.1:1\ngrpc-addr: 127.0.0.1:2\n"+
		"endpoint: [https://a/p, 'http://b:1']\nreflection: false\nlog-level: debug\n")
	t.Setenv("YUNXIN_APP_SECRET_FILE", secret)
	t.Setenv("YUNXIN_HTTP_ADDR", "127.0.0.1:3")
	t.Setenv("YUNXIN_GRPC_ADDR", "127.0.0.1:4")
	t.Setenv("YUNXIN_CONFIG", file)
	cfg, err := config.Parse([]string{"--grpc-addr=127.0.0.1:5"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want any }{
		"flag over environment": {cfg.GRPCAddr, "127.0.0.1:5"},
		"environment over file": {cfg.HTTPAddr, "127.0.0.1:3"},
		"file over default":     {cfg.MaxTimeout, 30 * time.Second},
		"default":               {cfg.DefaultTimeout, 10 * time.Second},
		"key":                   {cfg.AppKey, "from-file"},
		"secret, one newline":   {string(cfg.AppSecret), " s3cret "},
		"list":                  {fmt.Sprint(cfg.Endpoints), "[https://a/p http://b:1]"},
		"negated":               {cfg.Reflection, false},
		"level":                 {cfg.LogLevel, slog.LevelDebug},
		"size":                  {cfg.MaxRequestBytes, config.Bytes(4 << 20)},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

func TestParseDefaults(t *testing.T) {
	t.Setenv("YUNXIN_APP_SECRET", "s")
	cfg, err := config.Parse([]string{"--app-key=k", "--insecure-listen", "--http-addr=:8080"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Endpoints) != 1 || cfg.Endpoints[0] != config.DefaultEndpoint {
		t.Errorf("endpoints: %v", cfg.Endpoints)
	}
	if cfg.AppSecret != "s" {
		t.Error("the secret was not read from the environment")
	}
}

func TestParseTextOnly(t *testing.T) {
	// A variable that many images set for other purposes must do no harm.
	t.Setenv("YUNXIN_VERSION", "1.2.3")
	for flag, want := range map[string]string{"--help": "--app-secret-file", "--version": config.Version()} {
		var out bytes.Buffer
		if _, err := config.Parse([]string{flag}, &out); !errors.Is(err, config.ErrDone) {
			t.Errorf("%s: %v", flag, err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s wrote %q", flag, out.String())
		}
	}
	if _, err := config.Parse([]string{"--sandbox"}, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestEveryFlagHasAVariableAndHelp(t *testing.T) {
	model, err := config.Model()
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range model.Flags {
		if flag.Help == "" {
			t.Errorf("--%s has no help", flag.Name)
		}
		want := "YUNXIN_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if name := flag.Name; name != "help" && name != "version" && fmt.Sprint(flag.Envs) != "["+want+"]" {
			t.Errorf("--%s: variables %v, want %s", name, flag.Envs, want)
		}
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	const plain = "hunter2"
	holder := struct {
		Secret config.Secret `json:"secret"`
	}{plain}
	asJSON, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "secret", holder.Secret, "holder", holder)
	}
	all := log.String() + string(asJSON)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		all += fmt.Sprintf(verb+" "+verb, holder, holder.Secret)
	}
	if strings.Contains(all, plain) || strings.Contains(strings.ToLower(all), fmt.Sprintf("%x", plain)) {
		t.Errorf("printed: %s", all)
	}
	if !strings.Contains(all, "[redacted]") {
		t.Errorf("not marked: %s", all)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]config.Bytes{"0": 0, "1000": 1000, "7B": 7, "2KiB": 2048, "4MiB": 4 << 20, "1GiB": 1 << 30} {
		var got config.Bytes
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for size, want := range map[config.Bytes]string{0: "0B", 1000: "1000B", 2048: "2KiB", 3 << 19: "1536KiB", 4 << 20: "4MiB"} {
		if size.String() != want {
			t.Errorf("%d: %s", int64(size), size)
		}
	}
}

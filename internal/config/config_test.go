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
		"empty secret":          {args: []string{"--app-key=k", "--app-secret-file=" + write(t, "\n")}, want: []string{"is empty"}},
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
		"second endpoint":       {args: yunxin("--endpoint=https://x", "--endpoint=nope"), want: []string{"--endpoint", `"nope"`, "https://", "cn, sg"}},
		"region, upper case":    {args: yunxin("--endpoint=CN"), want: []string{`"CN"`, "cn, sg"}},
		"user without scheme":   {args: yunxin("--endpoint=u:hunter2@x"), want: []string{"user name"}},
		"lbs: region":           {args: yunxin("--lbs=yunxin,cn"), want: []string{"--lbs", `"cn"`, "names yunxin"}},
		"lbs: query":            {args: yunxin("--lbs=https://x/?k=v"), want: []string{"--lbs", "query"}},
		"sandbox and lbs":       {args: sandbox("--lbs=yunxin"), want: []string{"--sandbox takes no"}},
		"plan":                  {args: yunxin("--plan=gold"), want: []string{"--plan", `"gold"`, "standard, advanced, flagship, dedicated, unlimited"}},
		"quota of nothing":      {args: yunxin("--quota=batch=5/s"), want: []string{"--quota", `"batch"`, "single, batch-send, broadcast", "SendMessage"}},
		"quota of two nothings": {args: yunxin("--quota=a=5/s", "--quota=b=5/s"), want: []string{`"a"`, `"b"`}},
		"quota without rate":    {args: yunxin("--quota=SendMessage"), want: []string{"--quota", "SendMessage=500/s"}},
		"quota without name":    {args: yunxin("--quota==5/s"), want: []string{"--quota", "SendMessage=500/s"}},
		"quota twice":           {args: yunxin("--quota=single=5/s", "--quota=single=6/s"), want: []string{"--quota", "single has two rates"}},
		"quota: not a rate":     {args: yunxin("--quota=single=5"), want: []string{"--quota", "single", `"5" is not a rate`, "500/s", "1000/min", "unlimited"}},
		"quota in environment":  {args: yunxin(), env: map[string]string{"YUNXIN_QUOTA": "single=1/h"}, want: []string{"YUNXIN_QUOTA", "1000/min"}},
		"quota in file":         {args: file("sandbox: true\nquota: {single: 0/s}"), want: []string{"--quota", `"0/s" is not a rate`}},
		"quota in file, twice":  {args: file("sandbox: true\nquota: {single: 1/s, single: 2/s}"), want: []string{"--quota", "two rates"}},
		"quota in file, two":    {args: file("sandbox: true\nquota: {single: 1/s;x}"), want: []string{"--quota", `"x"`}},
		"quota in file, list":   {args: file("sandbox: true\nquota: [single=1/s]"), want: []string{"--quota", "line 2", "not a list"}},
		"quota in file, deep":   {args: file("sandbox: true\nquota: {single: {a: b}}"), want: []string{"--quota", "line 2", "plain value"}},
		"file: mapping":         {args: file("sandbox: true\nhttp-addr: {a: b}"), want: []string{"--http-addr", "line 2", "not a mapping"}},
		"none in flight":        {args: sandbox("--max-in-flight=0"), want: []string{"--max-in-flight 0", "from 1 to 100000"}},
		"many in flight":        {args: sandbox("--max-in-flight=100001"), want: []string{"--max-in-flight 100001", "from 1 to 100000"}},
		"merge reads":           {args: sandbox("--merge-reads=sometimes"), want: []string{"--merge-reads", "auto", "always", "never"}},
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
		"endpoint: [https://a/p, 'http://b:1', sg]\nreflection: false\nlog-level: debug\n"+
		"share-reads: false\nlbs: yunxin\nplan: flagship\nquota: {single: 5/s}\n")
	t.Setenv("YUNXIN_APP_SECRET_FILE", secret)
	t.Setenv("YUNXIN_HTTP_ADDR", "127.0.0.1:3")
	t.Setenv("YUNXIN_GRPC_ADDR", "127.0.0.1:4")
	t.Setenv("YUNXIN_MERGE_READS", "never")
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
		"list":                  {fmt.Sprint(cfg.Endpoints), "[https://a/p http://b:1 sg]"},
		"list of one":           {fmt.Sprint(cfg.LBS), "[yunxin]"},
		"map":                   {fmt.Sprint(cfg.Quotas), "map[single:5/s]"},
		"plan":                  {cfg.Plan, "flagship"},
		"negated, from file":    {cfg.ShareReads, false},
		"one of some":           {cfg.MergeReads, "never"},
		"number":                {cfg.MaxInFlight, 1024},
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
	if fmt.Sprint(cfg.Apps[0].Endpoints) != "[cn]" {
		t.Errorf("endpoints: %v", cfg.Apps[0].Endpoints)
	}
	if cfg.Plan != "" || len(cfg.LBS)+len(cfg.Quotas) != 0 || !cfg.ShareReads || cfg.MergeReads != "auto" {
		t.Errorf("%+v", cfg)
	}
	if cfg.AppSecret != "s" {
		t.Error("the secret was not read from the environment")
	}
}

// A map is the same wherever it comes from, and one source of it wins whole.
func TestQuotas(t *testing.T) {
	const want = "map[SendMessage:500/s batch-send:1000/min broadcast:unlimited]"
	flags := []string{"--sandbox", "--quota=SendMessage=500/s;batch-send=1000/min", "--quota", "broadcast=unlimited"}
	file := "--config=" + write(t, "sandbox: true\nquota:\n  SendMessage: 500/s\n  batch-send: 1000/min\n  broadcast: unlimited\n")
	plain := "--config=" + write(t, "sandbox: true\nquota: SendMessage=500/s;batch-send=1000/min;broadcast=unlimited")
	for name, c := range map[string]struct {
		args []string
		env  string
		want string
	}{
		"flags":                  {flags, "", want},
		"environment":            {[]string{"--sandbox"}, "SendMessage=500/s;batch-send=1000/min;broadcast=unlimited", want},
		"file":                   {[]string{file}, "", want},
		"file, one text":         {[]string{plain}, "", want},
		"flags over environment": {flags, "single=1/s", want},
		"environment over file":  {[]string{file}, "single=1/s", "map[single:1/s]"},
		"flags over file":        {[]string{file, "--quota=single=2/s"}, "", "map[single:2/s]"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("YUNXIN_QUOTA", c.env)
			}
			cfg, err := config.Parse(c.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(cfg.Quotas); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]config.Rate{
		"1/s": {1, time.Second}, "500/s": {500, time.Second}, "1000000/min": {1_000_000, time.Minute}, "unlimited": {},
	} {
		got := config.Rate{Calls: 7, Per: time.Hour}
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "/s", "5/", "0/s", "-1/s", "+1/s", "1.5/s", "1e3/s", " 5/s", "5/ s", "5/h", "5/S", "5/s/s", "1000001/s", "18446744073709551616/s", "Unlimited"} {
		kept := config.Rate{Calls: 7, Per: time.Hour}
		err := kept.UnmarshalText([]byte(text))
		if err == nil || kept != (config.Rate{Calls: 7, Per: time.Hour}) {
			t.Errorf("%q: %v, %v", text, kept, err)
		} else if !strings.Contains(err.Error(), "500/s or 1000/min") {
			t.Errorf("%q: the error does not name the form: %v", text, err)
		}
	}
	if odd := (config.Rate{Calls: 3, Per: time.Hour}).String(); odd != "3/1h0m0s" {
		t.Error(odd)
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

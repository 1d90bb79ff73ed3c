package config_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
)

// appsFile writes a file of apps; SECRET in it is a file with a secret.
func appsFile(t *testing.T, content string) string {
	t.Helper()
	return "--apps-file=" + write(t, strings.ReplaceAll(content, "SECRET", write(t, "hunter2\n")))
}

const mainApp = "apps:\n- {name: main, app_key: k, app_secret_file: SECRET}\n"

func TestAppsFile(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(" first \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse([]string{appsFile(t, `
apps:
  - name: main.1_a-b
    app_key: 0123456789
    app_secret_file: `+secret+`
    endpoints: [sg, "https://a/p"]
    lbs: [yunxin]
    plan: flagship
    quotas: {SendMessage: 500/s, batch-send: unlimited}
  - {name: second, app_key: 1e3, app_secret_file: SECRET, endpoints: [], quotas: {}}
`)}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	first, second := cfg.Apps[0], cfg.Apps[1]
	for name, c := range map[string]struct{ got, want any }{
		"number":        {len(cfg.Apps), 2},
		"name":          {first.Name, "main.1_a-b"},
		"key":           {first.AppKey, "0123456789"},
		"secret":        {string(first.Secret), " first "},
		"secret file":   {first.SecretFile, secret},
		"endpoints":     {fmt.Sprint(first.Endpoints), "[sg https://a/p]"},
		"lbs":           {fmt.Sprint(first.LBS), "[yunxin]"},
		"plan":          {first.Plan, "flagship"},
		"quotas":        {fmt.Sprint(first.Quotas), "map[SendMessage:500/s batch-send:unlimited]"},
		"key, as text":  {second.AppKey, "1e3"},
		"second secret": {string(second.Secret), "hunter2"},
		"no endpoints":  {fmt.Sprint(second.Endpoints), "[cn]"},
		"the rest":      {fmt.Sprintf("%v %q %v", second.LBS, second.Plan, second.Quotas), `[] "" map[]`},
		"in all":        {strings.Contains(fmt.Sprintf("%+v %#v", cfg, cfg.Apps), "hunter2"), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

// TestOneApp checks that the flags make an app like those of a file.
func TestOneApp(t *testing.T) {
	secret := write(t, "s3cret\n")
	cfg, err := config.Parse([]string{
		"--app-key=k", "--app-secret-file=" + secret, "--lbs=yunxin", "--plan=advanced", "--quota=SendMessage=5/s", "--endpoint=sg",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	const want = "[{default k FILE [redacted] [sg] [yunxin] advanced map[SendMessage:5/s]}]"
	if got := strings.ReplaceAll(fmt.Sprint(cfg.Apps), secret, "FILE"); got != want || string(cfg.Apps[0].Secret) != "s3cret" {
		t.Errorf("got %s", got)
	}
	if cfg, err = config.Parse([]string{"--sandbox", "--plan=standard"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(cfg.Apps); got != "[{default   [redacted] [] [] standard map[]}]" {
		t.Errorf("sandbox: %s", got)
	}
}

func TestAppsFileRefuses(t *testing.T) {
	app := func(more string) string {
		return "apps:\n- {name: main, app_key: k, app_secret_file: SECRET, " + more + "}\n"
	}
	for name, c := range map[string]struct {
		file string
		args []string
		env  map[string]string
		want []string
	}{
		"sandbox":           {mainApp, []string{"--sandbox"}, nil, []string{"--apps-file takes the place", "--sandbox"}},
		"key":               {mainApp, []string{"--app-key=k"}, nil, []string{"--apps-file takes the place"}},
		"secret":            {mainApp, nil, map[string]string{"YUNXIN_APP_SECRET": "s"}, []string{"--apps-file takes the place", "environment"}},
		"endpoint":          {mainApp, []string{"--endpoint=cn"}, nil, []string{"--apps-file takes the place"}},
		"lbs":               {mainApp, []string{"--lbs=yunxin"}, nil, []string{"--apps-file takes the place"}},
		"plan":              {mainApp, []string{"--plan=standard"}, nil, []string{"--apps-file takes the place"}},
		"quota":             {mainApp, []string{"--quota=single=1/s"}, nil, []string{"--apps-file takes the place"}},
		"empty":             {"", nil, nil, []string{"lists 0 apps"}},
		"no apps":           {"apps: []", nil, nil, []string{"lists 0 apps"}},
		"many apps":         {"apps: [" + strings.Repeat("{},", 65) + "]", nil, nil, []string{"lists 65 apps", "1 to 64"}},
		"not a list":        {"apps: {a: b}", nil, nil, []string{"list of apps"}},
		"not YAML":          {"apps: [", nil, nil, []string{"list of apps"}},
		"other key":         {mainApp + "defaults: x", nil, nil, []string{"one key, apps"}},
		"two documents":     {mainApp + "---\n" + mainApp, nil, nil, []string{"one document"}},
		"huge":              {strings.Repeat("#", 1<<20+1), nil, nil, []string{"larger than 1048576 bytes"}},
		"not a mapping":     {"apps: [main]", nil, nil, []string{"app no. 1 (line 1)", "mapping"}},
		"unknown key":       {app("app-key: k"), nil, nil, []string{"app main (line 2)", "app-key: is no key", "app_secret_file"}},
		"secret itself":     {app("app_secret: hunter2"), nil, nil, []string{"app main", "app_secret: does not belong", "app_secret_file"}},
		"twice":             {app("plan: standard, plan: standard"), nil, nil, []string{"app main", "plan: is given twice"}},
		"null":              {app("plan: "), nil, nil, []string{"app main", "plan: line 2", "plain value"}},
		"key of two":        {app("? [a] : b"), nil, nil, []string{"app main"}},
		"list for one":      {app("plan: [standard]"), nil, nil, []string{"app main", "plan: line 2", "plain value"}},
		"one for a list":    {app("endpoints: cn"), nil, nil, []string{"app main", "endpoints: line 2", "takes a list"}},
		"list in a list":    {app("lbs: [[yunxin]]"), nil, nil, []string{"app main", "lbs: line 2", "plain value"}},
		"no mapping":        {app("quotas: single=1/s"), nil, nil, []string{"app main", "quotas: line 2", "takes a mapping"}},
		"deep mapping":      {app("quotas: {single: [1/s]}"), nil, nil, []string{"app main", "quotas: line 2", "plain value"}},
		"rate":              {app("quotas: {single: 1/h}"), nil, nil, []string{"app main", "quotas: single", "1000/min"}},
		"rate twice":        {app("quotas: {single: 1/s, single: 2/s}"), nil, nil, []string{"app main", "two rates"}},
		"quota of nothing":  {app("quotas: {batch: 1/s}"), nil, nil, []string{"app main", `quotas batch: "batch" is neither`}},
		"plan of nobody":    {app("plan: gold"), nil, nil, []string{"app main", `plan "gold" is not`}},
		"bad endpoint":      {app("endpoints: ['https://u:hunter2@x']"), nil, nil, []string{"app main", "endpoints no. 1 must not hold a user name"}},
		"bad lbs":           {app("lbs: [cn]"), nil, nil, []string{"app main", "lbs", "names yunxin"}},
		"nothing":           {"apps: [{}]", nil, nil, []string{"app no. 1", "name, app_key, app_secret_file must be given"}},
		"no key":            {"apps: [{name: a, app_secret_file: SECRET}]", nil, nil, []string{"app a", "app_key must be given"}},
		"no secret":         {"apps: [{name: a, app_key: k}]", nil, nil, []string{"app a", "app_secret_file must be given"}},
		"no secret file":    {"apps: [{name: a, app_key: k, app_secret_file: /nowhere}]", nil, nil, []string{"app a", "app_secret_file", "/nowhere"}},
		"same name":         {mainApp + "- {name: main, app_key: l, app_secret_file: SECRET}", nil, nil, []string{"app main (line 3)", "another app of this name"}},
		"same key":          {mainApp + "- {name: b, app_key: k, app_secret_file: SECRET}", nil, nil, []string{"app b (line 3)", "app_key of app main"}},
		"all at once":       {"apps: [{name: a, x: 1, z: 1}, {name: b, y: 1}]", nil, nil, []string{"app a (line 1): x: ", "; z: ", "app b (line 1): y: "}},
		"upper case":        {"apps: [{name: Main, app_key: k, app_secret_file: SECRET}]", nil, nil, []string{`"Main"`, "a-z"}},
		"first a dot":       {"apps: [{name: .a, app_key: k, app_secret_file: SECRET}]", nil, nil, []string{`".a"`}},
		"long name":         {"apps: [{name: " + strings.Repeat("a", 65) + ", app_key: k, app_secret_file: SECRET}]", nil, nil, []string{"up to 64"}},
		"name of two lines": {"apps: [{name: \"a\\nb\", app_key: k, app_secret_file: SECRET}]", nil, nil, []string{`"a\nb"`}},
		"other flags too":   {mainApp, []string{"--max-in-flight=0"}, nil, []string{"--max-in-flight 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range c.env {
				t.Setenv(variable, value)
			}
			cfg, err := config.Parse(append([]string{appsFile(t, c.file)}, c.args...), io.Discard)
			if err == nil {
				t.Fatalf("accepted: %+v", cfg)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
	if _, err := config.Parse([]string{"--apps-file=/nowhere"}, io.Discard); err == nil || !strings.Contains(err.Error(), "--apps-file") {
		t.Error(err)
	}
}

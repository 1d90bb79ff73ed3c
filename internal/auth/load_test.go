package auth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var testKnown = Known{
	Scopes: []string{"comments.read", "conversations.read", "conversations.write", "messages.read", "messages.send"},
	Apps:   []string{"main", "other"},
}

// readOnly has one file.
func readOnly(name, content string) func(string, int64) ([]byte, error) {
	return func(path string, _ int64) ([]byte, error) {
		if path != name {
			return nil, os.ErrNotExist
		}
		return []byte(content), nil
	}
}

const digits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

const fullFile = `
callers:
  - name: billing
    keys:
      - {id: 12345678, sha256: ` + digits + `, expires: 2027-01-01T00:00:00Z}
      - {id: 1e234567, sha256: "` + digits + `"}
    jwt: [{issuer: https://idp.example, subject: svc-billing}]
    certificates: [spiffe://example/billing, billing.internal]
    scopes: [conversations.read, messages.*]
    apps: [other, main]
    accounts: ["svc-*", "bob"]
    expires: 2027-02-01T00:00:00+08:00
    quota_share: 0.25
  - name: all
    scopes: ["*"]
    apps: [main]
  - name: none
    scopes: []
    apps: [main]
    accounts: []
    keys: []
jwt:
  - issuer: https://idp.example
    audience: yunxin-facade
    algorithms: [RS256, EdDSA]
    jwks_file: jwks.json
  - issuer: https://other.example
    audience: yunxin-facade
    algorithms: [ES256]
    jwks_url: https://other.example/keys?v=1
`

func TestParse(t *testing.T) {
	d, err := parse([]byte(fullFile), testKnown, readOnly("jwks.json", string(testSet(t))))
	if err != nil {
		t.Fatal(err)
	}
	c := d.names["billing"]
	if c.Name() != "billing" || c.App() != "other" || !c.MayUse("main") || c.MayUse("third") || c.QuotaShare() != 0.25 {
		t.Errorf("%+v", c)
	}
	if want := time.Date(2027, 1, 31, 16, 0, 0, 0, time.UTC); !c.expires.Equal(want) {
		t.Errorf("expires %s, want %s", c.expires, want)
	}
	if want := "map[conversations.read:true messages.read:true messages.send:true]"; fmt.Sprint(c.scopes) != want {
		t.Errorf("scopes %v, want %s", c.scopes, want)
	}
	if !c.bound.match("SVC-1") || !c.bound.match("bob") || c.bound.match("alice") {
		t.Error("accounts")
	}
	for id, expires := range map[string]int{"12345678": 2027, "1e234567": 1} {
		if k := d.keys[id]; k.caller != c || fmt.Sprintf("%x", k.sum) != digits || k.expires.Year() != expires {
			t.Errorf("key %s: %+v", id, k)
		}
	}
	if d.subjects[subject{"https://idp.example", "svc-billing"}] != c ||
		d.uris["spiffe://example/billing"] != c || d.hosts["billing.internal"] != c || len(d.uris)+len(d.hosts) != 2 {
		t.Error("subjects or certificates")
	}
	all, none := d.names["all"], d.names["none"]
	if len(all.scopes) != len(testKnown.Scopes) || all.bound != nil || all.QuotaShare() != 1 || !all.expires.IsZero() {
		t.Errorf("%+v", all)
	}
	if len(none.scopes) != 0 || none.bound == nil || none.bound.match("bob") {
		t.Errorf("%+v", none)
	}
	i := d.issuers["https://idp.example"]
	if i.audience != "yunxin-facade" || !slices.Equal(i.algorithms, []string{"RS256", "EdDSA"}) || i.keys.find("rsa", "RS256") == nil || i.url != "" {
		t.Errorf("%+v", i)
	}
	if i := d.issuers["https://other.example"]; i.url != "https://other.example/keys?v=1" || i.keys != nil {
		t.Errorf("%+v", i)
	}
	if !slices.Equal(d.Files(), []string{"jwks.json"}) {
		t.Errorf("files %v", d.Files())
	}
}

// What takes rights away must never fail.
func TestParseTakesRightsAway(t *testing.T) {
	one := Known{Apps: []string{"only"}}
	for name, text := range map[string]string{
		"no callers":     "callers: []",
		"no credentials": "callers: [{name: a, scopes: []}]",
		"expired":        "callers: [{name: a, scopes: [], expires: 2001-01-01T00:00:00Z, keys: [{id: 01234567, sha256: " + digits + ", expires: 2001-01-01T00:00:00Z}]}]",
		"unused issuer":  "callers: []\njwt: [{issuer: i, audience: a, algorithms: [RS256], jwks_url: 'http://[::1]:1/'}]",
	} {
		d, err := parse([]byte(text), one, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c := d.names["a"]; c != nil && c.App() != "only" {
			t.Errorf("%s: app %s", name, c.App())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	caller := func(text string) string { return "callers:\n- {name: a, scopes: [], apps: [main], " + text + "}" }
	callers := func(texts ...string) string {
		text := "callers:"
		for i, t := range texts {
			text += fmt.Sprintf("\n- {name: n%d, scopes: [], apps: [main], %s}", i, t)
		}
		return text
	}
	issuer := func(text string) string { return "callers: []\njwt:\n- {issuer: i, audience: a, " + text + "}" }
	rs := "algorithms: [RS256], "
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "the file is empty"},
		"comments only":    {"# callers: []", "the file is empty"},
		"no YAML":          {"callers: [", "line 1"},
		"no mapping":       {"- a", "line 1: must be a mapping, with the keys callers, jwt"},
		"null":             {"~", "line 1: must be a mapping"},
		"no callers":       {"jwt: []", "line 1: callers is missing"},
		"null callers":     {"callers:\n# - a", "line 1: must be a list"},
		"unknown key":      {"callers: []\n\ncaller: []", `line 3: unknown key "caller"`},
		"a key twice":      {"callers: []\ncallers: []", "line 2: callers is given twice"},
		"two documents":    {"callers: []\n---\ncallers: []", "more behind the end"},
		"broken behind":    {"callers: []\n---\n]", "more behind the end"},
		"alias":            {"callers: &a []\njwt: *a", "line 2: must be a list"},
		"merge":            {"callers:\n- &a {name: a, scopes: [], apps: [main]}\n- {<<: *a, name: b}", `line 3: unknown key "<<"`},
		"caller as text":   {"callers: [a]", "line 1: must be a mapping"},
		"caller as null":   {"callers: [~]", "line 1: must be a mapping"},
		"no name":          {"callers:\n- {scopes: [], apps: [main]}", "line 2: name is missing"},
		"empty name":       {"callers: [{name: '', scopes: [], apps: [main]}]", "must be a plain value"},
		"null name":        {"callers: [{name: , scopes: [], apps: [main]}]", "must be a plain value"},
		"capital name":     {"callers: [{name: A, scopes: [], apps: [main]}]", "a name begins with"},
		"long name":        {"callers: [{name: " + strings.Repeat("a", 65) + ", scopes: [], apps: [main]}]", "a name begins with"},
		"name of lines":    {"callers: [{name: \"a\\n\", scopes: [], apps: [main]}]", "a name begins with"},
		"same name":        {caller("") + "\n- {name: a, scopes: [], apps: [main]}", `line 3: name "a" is on line 2 already`},
		"no scopes":        {"callers: [{name: a, apps: [main]}]", "line 1: scopes is missing"},
		"null scopes":      {"callers: [{name: a, apps: [main], scopes: }]", "must be a list"},
		"unknown scope":    {"callers: [{name: a, apps: [main], scopes: [messages.sent]}]", `there is no scope "messages.sent": there are comments.read`},
		"part of a scope":  {"callers: [{name: a, apps: [main], scopes: [messages.s]}]", `there is no scope "messages.s"`},
		"scope to the dot": {"callers: [{name: a, apps: [main], scopes: [messages.]}]", `there is no scope "messages."`},
		"first of a scope": {"callers: [{name: a, apps: [main], scopes: [messages]}]", `there is no scope "messages"`},
		"unknown scopes":   {"callers: [{name: a, apps: [main], scopes: [chat.*]}]", `there is no scope "chat.*"`},
		"inner asterisk":   {"callers: [{name: a, apps: [main], scopes: ['messages.*d']}]", `there is no scope "messages.*d"`},
		"not at a dot":     {"callers: [{name: a, apps: [main], scopes: [mess*]}]", "'*' stands alone or behind a dot"},
		"two asterisks":    {"callers: [{name: a, apps: [main], scopes: ['**']}]", "'*' stands alone or behind a dot"},
		"only a dot":       {"callers: [{name: a, apps: [main], scopes: ['.*']}]", `there is no scope ".*"`},
		"scope as a list":  {"callers: [{name: a, apps: [main], scopes: [[]]}]", "must be a plain value"},
		"no apps":          {"callers: [{name: a, scopes: []}]", "line 1: apps is missing, and there are several: main, other"},
		"empty apps":       {"callers: [{name: a, scopes: [], apps: []}]", "apps must name at least one"},
		"null apps":        {"callers: [{name: a, scopes: [], apps: }]", "must be a list"},
		"unknown app":      {"callers: [{name: a, scopes: [], apps: [Main]}]", `there is no app "Main": there are main, other`},
		"null accounts":    {caller("accounts: "), "must be a list"},
		"account as text":  {caller("accounts: bob"), "must be a list"},
		"empty account":    {caller("accounts: ['']"), "must be a plain value"},
		"bad account":      {caller("accounts: ['bob|1|eve']"), `line 2: the account "bob|1|eve" may hold only`},
		"date without":     {caller("expires: 2027-01-01"), "line 2: must be a time such as"},
		"null expiry":      {caller("expires: "), "must be a plain value"},
		"the zero time":    {caller("expires: 0001-01-01T00:00:00Z"), "must be a time such as"},
		"no share":         {caller("quota_share: 0"), "above 0 and at most 1"},
		"negative share":   {caller("quota_share: -0.1"), "above 0 and at most 1"},
		"great share":      {caller("quota_share: 1.01"), "above 0 and at most 1"},
		"share NaN":        {caller("quota_share: nan"), "above 0 and at most 1"},
		"share Inf":        {caller("quota_share: inf"), "above 0 and at most 1"},
		"share 25%":        {caller("quota_share: 25%"), "above 0 and at most 1"},
		"key without id":   {caller("keys: [{sha256: " + digits + "}]"), "id is missing"},
		"key without hash": {caller("keys: [{id: 01234567}]"), "sha256 is missing"},
		"capital id":       {caller("keys: [{id: 0123456A, sha256: " + digits + "}]"), "8 hex digits in lower case"},
		"long id":          {caller("keys: [{id: 012345678, sha256: " + digits + "}]"), "8 hex digits in lower case"},
		"short hash":       {caller("keys: [{id: 01234567, sha256: " + digits[2:] + "}]"), "64 hex digits"},
		"long hash":        {caller("keys: [{id: 01234567, sha256: " + digits + "00}]"), "64 hex digits"},
		"whole key":        {caller("keys: [yxf_01234567_x]"), "must be a mapping"},
		"key expiry":       {caller("keys: [{id: 01234567, sha256: " + digits + ", expires: soon}]"), "must be a time such as"},
		"same key id":      {callers("keys: [{id: 01234567, sha256: "+digits+"}]", "keys: [{id: 01234567, sha256: "+digits+"}]"), `line 3: key "01234567" is on line 2 already`},
		"strange issuer":   {caller("jwt: [{issuer: i, subject: s}]"), `the issuer "i" is not in the list`},
		"no subject":       {caller("jwt: [{issuer: i}]"), "subject is missing"},
		"empty subject":    {caller("jwt: [{issuer: i, subject: ''}]"), "must be a plain value"},
		"same subject":     {callers("jwt: [{issuer: i, subject: s}]", "jwt: [{issuer: i, subject: s}]"), `line 3: subject of "i" "s" is on line 2 already`},
		"wildcard name":    {caller("certificates: ['*.internal']"), "neither a DNS name"},
		"capital host":     {caller("certificates: [Billing.internal]"), "neither a DNS name"},
		"relative URI":     {caller("certificates: ['/billing:x']"), "not a URI in its usual form"},
		"odd URI":          {caller("certificates: ['spiffe://example/a b']"), "not a URI in its usual form"},
		"broken URI":       {caller("certificates: ['spiffe://%zz']"), "not a URI in its usual form"},
		"same certificate": {callers("certificates: [a.b]", "certificates: [a.b]"), `line 3: certificate "a.b" is on line 2 already`},
		"own certificate":  {caller("certificates: [a.b, a.b]"), "already"},
		"no issuer":        {"callers: []\njwt: [{audience: a, algorithms: [RS256], jwks_file: f}]", "line 2: issuer is missing"},
		"no audience":      {"callers: []\njwt: [{issuer: i, algorithms: [RS256], jwks_file: f}]", "line 2: audience is missing"},
		"empty audience":   {"callers: []\njwt: [{issuer: i, audience: '', algorithms: [RS256], jwks_file: f}]", "must be a plain value"},
		"same issuer":      {issuer(rs+"jwks_url: 'https://a'") + "\n- {issuer: i, audience: b, " + rs + "jwks_url: 'https://a'}", `line 4: issuer "i" is on line 3 already`},
		"no algorithms":    {issuer("jwks_file: f"), "line 3: algorithms must name at least one"},
		"none":             {issuer("algorithms: [none], jwks_file: f"), `"none" is not one of the algorithms ES256`},
		"None":             {issuer("algorithms: [None], jwks_file: f"), "is not one of the algorithms"},
		"HS256":            {issuer("algorithms: [RS256, HS256], jwks_file: f"), `"HS256" is not one of the algorithms`},
		"null algorithm":   {issuer("algorithms: [~], jwks_file: f"), "must be a plain value"},
		"no keys":          {issuer(rs), "line 3: one of jwks_file and jwks_url is needed"},
		"file and URL":     {issuer(rs + "jwks_file: f, jwks_url: 'https://a'"), "one of jwks_file and jwks_url is needed"},
		"no file":          {issuer(rs + "jwks_file: g"), `line 3: the keys of "i": file does not exist`},
		"bad file":         {issuer(rs + "jwks_file: bad"), `line 3: the keys of "i": not a JSON Web Key Set`},
		"http":             {issuer(rs + "jwks_url: 'http://idp.example/'"), "must be a URL with https"},
		"http elsewhere":   {issuer(rs + "jwks_url: 'http://192.0.2.1/'"), "must be a URL with https"},
		"http like us":     {issuer(rs + "jwks_url: 'http://localhost.example/'"), "must be a URL with https"},
		"file URL":         {issuer(rs + "jwks_url: 'file:///etc/jwks'"), "must be a URL with https"},
		"user":             {issuer(rs + "jwks_url: 'https://u:p@idp.example/'"), "must be a URL with https"},
		"fragment":         {issuer(rs + "jwks_url: 'https://idp.example/#'"), "must be a URL with https"},
		"no host":          {issuer(rs + "jwks_url: 'https:///x'"), "must be a URL with https"},
		"no URL":           {issuer(rs + "jwks_url: '%'"), "must be a URL with https"},
	} {
		d, err := parse([]byte(c.text), testKnown, readOnly("bad", "{"))
		if err == nil || d != nil {
			t.Errorf("%s: taken", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Issuers and subjects that look alike when they are put together are different.
func TestParseSubjectsApart(t *testing.T) {
	d, err := parse([]byte(`
callers:
- {name: a, scopes: [], apps: [main], jwt: [{issuer: i, subject: '"j" s'}]}
- {name: b, scopes: [], apps: [main], jwt: [{issuer: 'i" "j', subject: s}]}
jwt:
- {issuer: i, audience: a, algorithms: [RS256], jwks_url: 'https://a'}
- {issuer: 'i" "j', audience: a, algorithms: [RS256], jwks_url: 'https://a'}
`), testKnown, nil)
	if err != nil || len(d.subjects) != 2 {
		t.Errorf("%v, %v", d, err)
	}
}

func TestParseTellsAll(t *testing.T) {
	_, err := parse([]byte("callers:\n- {name: A, color: red}\n- {name: b, scopes: [x], apps: [y], accounts: }\njwt: [{}]"), testKnown, nil)
	want := `line 4: issuer is missing
line 4: audience is missing
line 4: algorithms must name at least one
line 4: one of jwks_file and jwks_url is needed
line 2: unknown key "color": there are name, keys, jwt, certificates, scopes, apps, accounts, expires, quota_share
line 2: a name begins with a small letter or a digit; up to 63 more, '.', '_' and '-' may follow
line 2: scopes is missing; [] is how to have none
line 2: apps is missing, and there are several: main, other
line 3: there is no scope "x": there are comments.read, conversations.read, conversations.write, messages.read, messages.send
line 3: there is no app "y": there are main, other
line 3: must be a list; [] is an empty one`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
	_, err = parse([]byte("callers:"+strings.Repeat("\n- a", 100)), testKnown, nil)
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != maxProblems+1 || lines[maxProblems] != "and 80 more" {
		t.Error(err)
	}
}

// A key that was put into the wrong place must not get into the log.
func TestParseErrorsHideKeys(t *testing.T) {
	key := "yxf_01234567_" + secretOf
	for _, text := range []string{
		"callers: [{name: " + key + ", scopes: [" + key + "], apps: [" + key + "], accounts: [" + key + "|], expires: " + key + "}]",
		"callers: [{name: a, keys: [{id: " + key + ", sha256: " + key + ", " + key + ": 1}], quota_share: " + key + "}]",
		"callers: [{name: a, keys: [" + key + "], certificates: ['" + key + "', '" + key + ":'], jwt: [{issuer: " + key + "}]}]",
		key + ": " + key, key, "- " + key, "callers: [*" + key, "callers: {'" + key,
		"callers: []\njwt: [{issuer: " + key + ", algorithms: [" + key + "], jwks_file: x, jwks_url: " + key + "}]",
	} {
		_, err := parse([]byte(text), testKnown, func(string, int64) ([]byte, error) { return nil, errors.New("no") })
		if err == nil || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path, keys := filepath.Join(dir, "callers.yaml"), filepath.Join(dir, "jwks.json")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, strings.ReplaceAll(fullFile, "jwks.json", keys))
	write(keys, string(testSet(t)))
	d, err := Load(path, testKnown)
	if err != nil || !slices.Equal(d.Files(), []string{path, keys}) {
		t.Fatalf("%v, %v", d, err)
	}
	d.Files()[0] = "x"
	if d.Files()[0] != path {
		t.Error("a directory can be changed")
	}
	write(path, "callers: 1")
	if _, err := Load(path, testKnown); err == nil || err.Error() != path+": line 1: must be a list; [] is an empty one" {
		t.Error(err)
	}
	write(path, "callers: []\n#"+strings.Repeat("x", maxFile))
	if _, err := Load(path, testKnown); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, filepath.Join(dir, "gone")} {
		if _, err := Load(path, testKnown); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzCallers(f *testing.F) {
	f.Add([]byte(fullFile))
	for _, seed := range []string{
		"", "callers: []", "callers: [{}]", "a: &a [*a]", "callers: &x [*x, *x]", "- - - -", "{{{{", "callers:\n- name: a\n  keys: [{id: 1}]",
		"? [a]\n: b", "callers: !!binary aGk=", "---\n---", "\xff\xfe", "jwt: [{jwks_file: jwks.json}]", "callers: [{name: 1_000, accounts: [0x1]}]",
	} {
		f.Add([]byte(seed))
	}
	set := testSet(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parse(data, testKnown, readOnly("jwks.json", string(set)))
		if (d == nil) == (err == nil) {
			t.Fatalf("%v, %v", d, err)
		}
		if err != nil {
			return
		}
		for name, c := range d.names {
			if c.Name() != name || !callerName.MatchString(name) || !slices.Contains(testKnown.Apps, c.App()) || !(c.QuotaShare() > 0 && c.QuotaShare() <= 1) {
				t.Errorf("%q: %+v", name, c)
			}
		}
		for id := range d.keys {
			if !isID(id) {
				t.Errorf("key %q", id)
			}
		}
		for name, i := range d.issuers {
			if name == "" || i.audience == "" || len(i.algorithms) == 0 || (i.url == "") != (i.keys != nil) {
				t.Errorf("%q: %+v", name, i)
			}
		}
	})
}

// A large file is read in time that grows with its size.
func TestParseLarge(t *testing.T) {
	var text strings.Builder
	text.WriteString("callers:\n")
	for i := range 3000 {
		fmt.Fprintf(&text, "- {name: n%d, scopes: ['*'], apps: [main], keys: [{id: %08x, sha256: %s}]}\n", i, rand.Uint32()<<12|uint32(i), digits)
	}
	d, err := parse([]byte(text.String()), testKnown, nil)
	if err != nil || len(d.names) != 3000 || len(d.keys) != 3000 {
		t.Error(err)
	}
}

package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// varying are the members of which the value is another one each time, in the
// spelling of the protos. Their type must still be the same.
var varying = map[string]bool{
	"message_server_id": true, "message_client_id": true, "group_id": true, "group_ids": true,
	"create_time": true, "update_time": true, "modify_time": true, "last_read_time": true,
	"sort_order": true, "next_page_token": true, "trace_id": true,
}

// alike compares JSON as exact parses it: the same members, lists of the same
// length, equal values but for those that vary.
func alike(path string, want, have any) error {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: is no object but %v", path, have)
		}
		if w, h := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(have)); !slices.Equal(w, h) {
			return fmt.Errorf("%s: has the members %q, want %q", path, h, w)
		}
		for name := range want {
			if err := alike(path+"."+name, want[name], have[name]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return fmt.Errorf("%s: is %v, want a list of %d", path, have, len(want))
		}
		for i := range want {
			if err := alike(fmt.Sprintf("%s[%d]", path, i), want[i], have[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if varies(path) && fmt.Sprintf("%T", want) == fmt.Sprintf("%T", have) || want == have {
		return nil
	}
	return fmt.Errorf("%s: is %#v, want %#v", path, have, want)
}

var (
	index = regexp.MustCompile(`\[\d+\]$`)
	upper = regexp.MustCompile(`[A-Z]`)
)

// varies reports whether the member at a path varies; grpcurl writes its name in
// camel case.
func varies(path string) bool {
	path = index.ReplaceAllString(path, "")
	name := path[strings.LastIndexByte(path, '.')+1:]
	return varying[upper.ReplaceAllStringFunc(name, func(s string) string { return "_" + strings.ToLower(s) })]
}

var unsteady = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "TRACE-ID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`(?m)^(Date|date): .*$`), "$1: DATE"},
	{regexp.MustCompile(`(localhost|127\.0\.0\.1):\d+`), "ADDRESS"},
}

// steady replaces in a text what is another value each time, and drops the space
// at the ends of lines.
func steady(text string) string {
	for _, u := range unsteady {
		text = u.what.ReplaceAllString(text, u.name)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r")
	}
	return strings.Join(lines, "\n")
}

func TestAlike(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want, have string
		alike            bool
	}{
		{"equal", `{"a":[1,"x",null,true]}`, `{"a": [1, "x", null, true]}`, true},
		{"another order", `{"a":1,"b":2}`, `{"b":2,"a":1}`, true},
		{"another value", `{"a":1}`, `{"a":2}`, false},
		{"another digit", `{"a":1232001762022391810}`, `{"a":1232001762022391811}`, false},
		{"another form of a number", `{"a":0.1}`, `{"a":0.10}`, false},
		{"a member less", `{"a":1,"b":1}`, `{"a":1}`, false},
		{"a member more", `{"a":1}`, `{"a":1,"b":1}`, false},
		{"an item more", `[1]`, `[1,1]`, false},
		{"a list for an object", `{"a":{}}`, `{"a":[]}`, false},
		{"null for an object", `{"a":{}}`, `{"a":null}`, false},
		{"a varying value", `{"r":[{"trace_id":"a"}]}`, `{"r":[{"trace_id":"b"}]}`, true},
		{"a varying value in camel case", `{"messageServerId":"1"}`, `{"messageServerId":"2"}`, true},
		{"a varying list", `{"group_ids":["1"]}`, `{"group_ids":["2"]}`, true},
		{"a varying value of another type", `{"sort_order":"1"}`, `{"sort_order":1}`, false},
		{"a varying value that is gone", `{"sort_order":"1"}`, `{}`, false},
	} {
		if err := alike("", exact(t, []byte(c.want)), exact(t, []byte(c.have))); (err == nil) != c.alike {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSteady(t *testing.T) {
	t.Parallel()
	const once = "HTTP/1.1 200 OK \r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\nX-Trace-Id: 00112233445566778899aabbccddeeff\nat 2024-02-04T03:30:23.142Z on localhost:8080\n"
	const now = "HTTP/1.1 200 OK\nDate: today\nX-Trace-Id: ffeeddccbbaa99887766554433221100\nat 2026-01-01T00:00:00Z on 127.0.0.1:41999"
	if steady(once) != steady(now) {
		t.Errorf("differ: %q and %q", steady(once), steady(now))
	}
	if steady("HTTP/1.1 200 OK") == steady("HTTP/1.1 404 Not Found") {
		t.Error("two statuses are one")
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	const text = "# Title\n```sh\ngo run ./cmd/server\n```\n```go\ncurl()\n```\n" +
		"```sh\ncurl -s localhost:8080/v1/x\n```\nIt prints\n```json\n{}\n```\n" +
		"```sh\n# the version\nserver --version\n```\n```text\nv1\n```\n```sh\nx=$(grpcurl -d '{}' a b)\n```\n```json\n[]\n```\n"
	all, err := examples(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []example{
		{9, "curl -s localhost:8080/v1/x", "json", "{}"},
		{16, "# the version\nserver --version", "text", "v1"},
		{23, "x=$(grpcurl -d '{}' a b)", "json", "[]"},
	}
	if !slices.Equal(all, want) {
		t.Errorf("have %+v, want %+v", all, want)
	}
	for _, text := range []string{"```sh\ncurl x\n```\n", "```sh\ncurl x\n```\n```sh\ncurl y\n```\n```json\n{}\n```\n"} {
		if _, err := examples(text); err == nil {
			t.Errorf("a command without output passed: %q", text)
		}
	}
}

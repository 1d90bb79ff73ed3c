package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var testRecord = Record{
	Time:   time.Date(2026, 11, 22, 23, 4, 5, 6789, time.FixedZone("", 8*3600)),
	Caller: "billing", App: "main", Method: "/yunxin.im.v1.MessageService/SendMessage", Accounts: []string{"alice", "bob"},
	Door: "rest", Address: "10.1.2.3", TraceID: "76deb508ea0505c3a2b6598c53b6a4b4",
	Code: "PermissionDenied", Reason: "ACCOUNT_DENIED", Duration: 1234567 * time.Nanosecond,
}

const testLine = `{"time":"2026-11-22T15:04:05.000006Z","caller":"billing","app":"main",` +
	`"method":"/yunxin.im.v1.MessageService/SendMessage","door":"rest","address":"10.1.2.3",` +
	`"trace_id":"76deb508ea0505c3a2b6598c53b6a4b4","code":"PermissionDenied","reason":"ACCOUNT_DENIED","accounts":["alice","bob"],"duration_us":1234}` + "\n"

func TestRecord(t *testing.T) {
	if got := string(testRecord.appendTo(nil)); got != testLine {
		t.Errorf("got\n%swant\n%s", got, testLine)
	}
	if got, want := string(appendLoss(nil, testRecord.Time, 7)), `{"time":"2026-11-22T15:04:05.000006Z","lost":7}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                      `""`,
		"a b~":                  `"a b~"`,
		"\"\\/":                 `"\"\\/"`,
		"a\nb\r\x00\x1b[2J":     `"a\u000ab\u000d\u0000\u001b[2J"`,
		"\x7f\u0085\u009b":      `"\u007f\u0085\u009b"`,
		"\u2028\u2029\ufeff":    `"\u2028\u2029\ufeff"`,
		"\u202eabc\u2066":       `"\u202eabc\u2066"`,
		"a\xffb\xc0\x8a":        `"a\ufffdb\ufffd\ufffd"`,
		"\xed\xa0\x80":          `"\ufffd\ufffd\ufffd"`,
		"云信":                    `"\u4e91\u4fe1"`,
		"\U0001F600":            `"\ud83d\ude00"`,
		`","code":"OK"}` + "\n": `"\",\"code\":\"OK\"}\u000a"`,
	} {
		if got := string(appendText(nil, text)); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestTextIsCut(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"all of it":       {strings.Repeat("a", 256), strings.Repeat("a", 256)},
		"one more":        {strings.Repeat("a", 257), strings.Repeat("a", 256) + "…"},
		"within a letter": {strings.Repeat("a", 255) + "é", strings.Repeat("a", 255) + "…"},
		"behind a letter": {strings.Repeat("a", 254) + "éb", strings.Repeat("a", 254) + "é…"},
		"no letters":      {strings.Repeat("\x80", 1<<20), strings.Repeat("\ufffd", 252) + "…"},
	} {
		var got string
		if err := json.Unmarshal(appendText(nil, c.text), &got); err != nil || got != c.want {
			t.Errorf("%s: %d bytes %q, want %q (%v)", name, len(got), got, c.want, err)
		}
	}
}

// checkLine makes sure that a line is one record with these members, in this order.
func checkLine(t testing.TB, line []byte) map[string]any {
	t.Helper()
	for _, c := range line[:len(line)-1] {
		if c < ' ' || c > '~' {
			t.Fatalf("byte %#x in %q", c, line)
		}
	}
	if line[len(line)-1] != '\n' {
		t.Fatalf("no end of the line: %q", line)
	}
	d := json.NewDecoder(strings.NewReader(string(line)))
	var names []string
	for depth := 0; d.More() || depth == 0; depth = 1 {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if depth == 1 {
			names = append(names, fmt.Sprint(token))
			if err := d.Decode(new(json.RawMessage)); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
		}
	}
	const want = "time caller app method door address trace_id code reason accounts duration_us"
	if got := strings.Join(names, " "); got != want && got != "time lost" {
		t.Fatalf("members %s in %q", got, line)
	}
	var members map[string]any
	if err := json.Unmarshal(line, &members); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	return members
}

func FuzzRecord(f *testing.F) {
	for _, seed := range []string{"", "alice", "\n", "\"}\n{\"time\":\"x", "\u2028", "\xff\xfe", strings.Repeat("é", 200), "\U0010FFFF\x00"} {
		f.Add(seed, "b")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		line := (&Record{Caller: a, App: b, Method: a, Accounts: []string{a, b}, Door: b, Address: a, TraceID: b, Code: a, Reason: a}).appendTo(nil)
		members := checkLine(t, line)
		if len(line) > 10*(6*maxText+2)+300 {
			t.Errorf("%d bytes", len(line))
		}
		if utf8.ValidString(a) && len(a) <= maxText && (members["caller"] != a || members["reason"] != a) {
			t.Errorf("%q became %q", a, members["caller"])
		}
	})
}

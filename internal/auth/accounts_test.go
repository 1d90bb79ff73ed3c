package auth

import (
	"strings"
	"testing"
)

func newAccounts(t testing.TB, patterns ...string) *accounts {
	t.Helper()
	a := &accounts{exact: map[string]bool{}}
	for _, p := range patterns {
		if problem := a.add(p); problem != "" {
			t.Fatalf("%q %s", p, problem)
		}
	}
	return a
}

func TestAccounts(t *testing.T) {
	for _, c := range []struct {
		pattern, match, other string // separated by spaces
	}{
		{"bob", "bob BOB Bob", "bo bobb xbob b*b"},
		{"BOB", "bob BOB", "alice"},
		{"svc-*", "svc- svc-1 SVC-x svc-*", "svc svc_1 xsvc-1"},
		{"*-bot", "-bot a-bot A-BOT", "bot a-bots"},
		{"*", "a * a.b@c-d_e", ""},
		{"**", "a", ""},
		{"a*b", "ab aXb abb aab", "a b ba abc"},
		{"aa*aa", "aaaa aaXaa aaaaa", "aa aaa"},
		{"a*b*c", "abc aXbYc abbc abcbc", "ac acb abcd"},
		{"*ab*ab*", "abab xabyabz", "ab aba xabz"},
		{"a.c", "a.c", "abc"},
		{"*@example.com", "x@example.com", "x@exampleXcom"},
	} {
		a := newAccounts(t, c.pattern)
		for account := range strings.FieldsSeq(c.match) {
			if !a.match(account) {
				t.Errorf("%s does not match %s", c.pattern, account)
			}
		}
		for account := range strings.FieldsSeq(c.other) {
			if a.match(account) {
				t.Errorf("%s matches %s", c.pattern, account)
			}
		}
	}
	for _, account := range []string{"", strings.Repeat("a", maxAccount+1)} {
		if newAccounts(t, "*", "a*").match(account) {
			t.Errorf("matches %q", account)
		}
	}
	if newAccounts(t).match("a") {
		t.Error("no pattern matches")
	}
	several := newAccounts(t, "alice", "svc-*", "*-bot")
	for account, want := range map[string]bool{"alice": true, "svc-7": true, "x-bot": true, "bob": false} {
		if several.match(account) != want {
			t.Errorf("%s: want %t", account, want)
		}
	}
}

// What other languages than ASCII fold together stays apart, and other forms of
// the same text, too.
func TestAccountsFoldNothingElse(t *testing.T) {
	a := newAccounts(t, "kiss", "i-*")
	for _, account := range []string{"\u212Aiss", "ki\u017F\u017F", "kiß", "\uFF4Biss", "kiss\x00", "kiss\u200B", " kiss", "kiss ", "\u0130-1", "\u0131-1"} {
		if a.match(account) {
			t.Errorf("matches %q", account)
		}
	}
}

func TestAccountPatterns(t *testing.T) {
	for _, pattern := range []string{"", "a b", "a|b", "a|1|b", "a,b", "a?", "[ab]", "a\\*", "é", "a\n", "{a,b}", strings.Repeat("a", maxAccount+1)} {
		if (&accounts{exact: map[string]bool{}}).add(pattern) == "" {
			t.Errorf("%q is taken", pattern)
		}
	}
	a := newAccounts(t)
	for i := range maxGlobs + 1 {
		if problem := a.add("a*"); (problem != "") != (i == maxGlobs) {
			t.Errorf("number %d: %q", i+1, problem)
		}
	}
	if problem := a.add("exact"); problem != "" {
		t.Error(problem)
	}
}

// slow matches as the definition says, in any time.
func slow(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return slow(pattern[1:], s) || s != "" && slow(pattern, s[1:])
	default:
		return s != "" && s[0] == pattern[0] && slow(pattern[1:], s[1:])
	}
}

func FuzzAccounts(f *testing.F) {
	for _, seed := range [][2]string{{"svc-*", "SVC-1"}, {"a*b*a", "abab"}, {"*", ""}, {"**a", "aa"}, {"bob", "bob|1|x"}, {"a*", "\xff"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, account string) {
		a := &accounts{exact: map[string]bool{}}
		if a.add(pattern) != "" {
			return
		}
		got := a.match(account)
		if strings.Count(pattern, "*") > 4 || len(account) > 40 {
			return // too much for the slow one
		}
		if want := account != "" && slow(lower(pattern), lower(account)); got != want {
			t.Errorf("%q and %q: %t, want %t", pattern, account, got, want)
		}
	})
}

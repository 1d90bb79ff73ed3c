package auth

import (
	"strings"
)

// Limits of patterns and of what they are held against: no account id is longer,
// and the work for one request stays small.
const (
	maxAccount = 128 // bytes: 32 characters
	maxGlobs   = 100 // of one caller
)

// accounts are those that a caller may act for.
type accounts struct {
	exact map[string]bool
	globs []glob
}

// add takes a pattern: an account id, or one with asterisks, each of which stands
// for any text. It tells what is wrong with one that cannot be right.
func (a *accounts) add(pattern string) (problem string) {
	if pattern == "" || len(pattern) > maxAccount {
		return "must have 1 to 128 characters"
	}
	for i := range len(pattern) {
		if !isAccountByte(pattern[i]) && pattern[i] != '*' {
			return "may hold only what an account id may, letters, digits, '_', '@', '.' and '-', and '*' for any text"
		}
	}
	pattern = lower(pattern)
	if !strings.Contains(pattern, "*") {
		a.exact[pattern] = true
		return ""
	}
	if len(a.globs) == maxGlobs {
		return "is one too many: a caller may have 100 patterns with '*'"
	}
	a.globs = append(a.globs, strings.Split(pattern, "*"))
	return ""
}

func isAccountByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_@.-", c) >= 0
}

// match reports whether one of the patterns is that of an account. Letters match in
// either case, as the upstream takes ids, but only those of ASCII: what else a
// language folds together, such as the Kelvin sign and k, are different accounts.
func (a *accounts) match(account string) bool {
	if account == "" || len(account) > maxAccount {
		return false
	}
	account = lower(account)
	if a.exact[account] {
		return true
	}
	for _, g := range a.globs {
		if g.match(account) {
			return true
		}
	}
	return false
}

// A glob is the texts between the asterisks of a pattern, at least two.
type glob []string

// match takes each text at its first place behind the one before. No other place
// could help the texts that follow, so the time is linear.
func (g glob) match(s string) bool {
	first, last := g[0], g[len(g)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, text := range g[1 : len(g)-1] {
		_, rest, found := strings.Cut(s, text)
		if !found {
			return false
		}
		s = rest
	}
	return true
}

// lower maps the capital letters of ASCII.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

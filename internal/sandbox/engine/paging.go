package engine

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// MaxPage is the most items of one page.
const MaxPage = 100

// Page tokens hold the sort key of the last item a caller has seen, not an
// offset: what arrives between two pages neither repeats nor hides an item.

// EncodeToken makes the token of the page that follows a sort key.
func EncodeToken(key ...int64) string {
	parts := make([]string, len(key))
	for i, n := range key {
		parts[i] = strconv.FormatInt(n, 36)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, ".")))
}

// DecodeToken returns the n parts of a token, or nil for an empty token.
func DecodeToken(token string, n int) ([]int64, *Refusal) {
	if token == "" {
		return nil, nil
	}
	malformed := BadParameter("page_token was not issued by this API")
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, malformed
	}
	parts := strings.Split(string(text), ".")
	if len(parts) != n {
		return nil, malformed
	}
	key := make([]int64, n)
	for i, part := range parts {
		if key[i], err = strconv.ParseInt(part, 36, 64); err != nil {
			return nil, malformed
		}
	}
	return key, nil
}

// PageSize checks a limit; def is used when it was left out.
func PageSize(limit *int, def int) (int, *Refusal) {
	n := cmp.Or(limit, &def)
	if *n < 1 || *n > MaxPage {
		return 0, BadParameter("limit must be 1 to %d", MaxPage)
	}
	return *n, nil
}

// Positioned is something kept in a log, in the order of its position.
type Positioned interface {
	// At returns the position and the time in milliseconds.
	At() (position, time int64)
}

// Window says which part of a log to show, and how.
type Window struct {
	Begin, End int64 // milliseconds, both inclusive
	Oldest     bool  // oldest first
	Limit      int
	Token      string
}

// Pick returns one page of a log and the token of the next, empty at the end.
func Pick[E Positioned](w Window, log []E) (page []E, next string, bad *Refusal) {
	if w.Begin > w.End {
		return nil, "", CodeTimeRange.Refuse()
	}
	cursor, bad := DecodeToken(w.Token, 1)
	if bad != nil {
		return nil, "", bad
	}
	page = []E{}
	for i := range log {
		if !w.Oldest {
			i = len(log) - 1 - i
		}
		position, time := log[i].At()
		if time < w.Begin || time > w.End || w.passed(position, cursor) {
			continue
		}
		if len(page) == w.Limit {
			last, _ := page[len(page)-1].At()
			return page, EncodeToken(last), nil
		}
		page = append(page, log[i])
	}
	return page, "", nil
}

// passed reports whether an earlier page held this position.
func (w Window) passed(position int64, cursor []int64) bool {
	if cursor == nil {
		return false
	}
	if w.Oldest {
		return position <= cursor[0]
	}
	return position >= cursor[0]
}

// Apply converts every item of a list; the result is never nil.
func Apply[A, B any](list []A, convert func(A) B) []B {
	converted := make([]B, len(list))
	for i, item := range list {
		converted[i] = convert(item)
	}
	return converted
}

// Only filters without touching the log it is given.
func Only[E any](log []E, keep func(E) bool) []E {
	return slices.DeleteFunc(slices.Clone(log), func(e E) bool { return !keep(e) })
}

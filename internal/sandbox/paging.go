package sandbox

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// Page tokens hold the sort key of the last item a caller has seen, not an
// offset: what arrives between two pages neither repeats nor hides an item.

func encodeToken(key ...int64) string {
	parts := make([]string, len(key))
	for i, n := range key {
		parts[i] = strconv.FormatInt(n, 36)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, ".")))
}

// decodeToken returns the n parts of a token, or nil for an empty token.
func decodeToken(token string, n int) ([]int64, *refusal) {
	if token == "" {
		return nil, nil
	}
	malformed := badParameter("page_token was not issued by this API")
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

// pageSize checks a limit; def is used when it was left out.
func pageSize(limit *int, def int) (int, *refusal) {
	n := cmp.Or(limit, &def)
	if *n < 1 || *n > maxPage {
		return 0, badParameter("limit must be 1 to %d", maxPage)
	}
	return *n, nil
}

// entry is something kept in a log, in the order of its position.
type entry interface{ at() (position, time int64) }

// window says which part of a log to show, and how.
type window struct {
	begin, end int64 // milliseconds, both inclusive
	oldest     bool  // oldest first
	limit      int
	token      string
}

// pick returns one page of a log and the token of the next, empty at the end.
func pick[E entry](w window, log []E) (page []E, next string, bad *refusal) {
	if w.begin > w.end {
		return nil, "", refuse(codeTimeRange)
	}
	cursor, bad := decodeToken(w.token, 1)
	if bad != nil {
		return nil, "", bad
	}
	page = []E{}
	for i := range log {
		if !w.oldest {
			i = len(log) - 1 - i
		}
		position, time := log[i].at()
		if time < w.begin || time > w.end || w.passed(position, cursor) {
			continue
		}
		if len(page) == w.limit {
			last, _ := page[len(page)-1].at()
			return page, encodeToken(last), nil
		}
		page = append(page, log[i])
	}
	return page, "", nil
}

// passed tells whether an earlier page held this position.
func (w window) passed(position int64, cursor []int64) bool {
	if cursor == nil {
		return false
	}
	if w.oldest {
		return position <= cursor[0]
	}
	return position >= cursor[0]
}

// apply converts every item of a list; the result is never nil.
func apply[A, B any](list []A, convert func(A) B) []B {
	converted := make([]B, len(list))
	for i, item := range list {
		converted[i] = convert(item)
	}
	return converted
}

// only filters without touching the log it is given.
func only[E any](log []E, keep func(E) bool) []E {
	return slices.DeleteFunc(slices.Clone(log), func(e E) bool { return !keep(e) })
}

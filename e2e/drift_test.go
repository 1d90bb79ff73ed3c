package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

// A drift writes JSON as the upstream does: values are what they are, but their
// form changes from one answer to the next. It shares nothing with the codec
// that is to read it.
type drift struct{ *rapid.T }

// maybe reports whether to do something unusual.
func (d drift) maybe(what string) bool {
	return rapid.IntRange(0, 3).Draw(d.T, what) == 0
}

// A member is a member of an object. Without a value it is absent.
type member struct{ name, value string }

// further names a member that has no field. What such a member holds is the
// sender's own, and so is its name.
const further = "further"

// object writes members in any order, with an absent one left out or null.
func (d drift) object(members ...member) string {
	var parts []string
	for _, m := range rapid.Permutation(members).Draw(d.T, "order") {
		switch {
		case m.value == "" && !d.maybe("null"):
			continue
		case m.value == "":
			m.value = "null"
		}
		if m.name != further && d.maybe("slip in a name") {
			m.name += "\t" // as some pages show
		}
		parts = append(parts, d.space()+quote(m.name)+":"+d.space()+m.value+d.space())
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (d drift) space() string {
	return rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(d.T, "space")
}

// integer is a number or its text; zero may also be absent.
func (d drift) integer(n int64) string {
	if n == 0 && d.maybe("absent zero") {
		return ""
	}
	return d.number(n)
}

func (d drift) number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	if d.maybe("number as text") {
		return quote(digits)
	}
	return digits
}

func (d drift) boolean(b *bool) string {
	switch {
	case b == nil:
		return ""
	case d.maybe("boolean as text"):
		return quote(strconv.FormatBool(*b))
	default:
		return strconv.FormatBool(*b)
	}
}

// text is a string, in plain letters or all escaped.
func (d drift) text(s string) string {
	if !d.maybe("escapes") {
		return quote(s)
	}
	var b strings.Builder
	for _, unit := range utf16Of(s) {
		fmt.Fprintf(&b, `\u%04x`, unit)
	}
	return `"` + b.String() + `"`
}

// filled is a text that is absent if empty.
func (d drift) filled(s string) string {
	if s == "" {
		return ""
	}
	return d.text(s)
}

func (d drift) optional(s *string) string {
	if s == nil {
		return ""
	}
	return d.text(*s)
}

func (d drift) time(ts *timestamppb.Timestamp) string {
	if ts == nil {
		return ""
	}
	return d.number(ts.AsTime().UnixMilli())
}

func array[E any](items []E, write func(E) string) string {
	if len(items) == 0 {
		return ""
	}
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = write(item)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// number32 and number64 write an optional number.
func (d drift) number32(n *int32) string {
	if n == nil {
		return ""
	}
	return d.number(int64(*n))
}

func (d drift) number64(n *int64) string {
	if n == nil {
		return ""
	}
	return d.number(*n)
}

func quote(s string) string {
	literal, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has JSON
	}
	return string(literal)
}

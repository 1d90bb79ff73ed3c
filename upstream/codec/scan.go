package codec

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"unicode/utf8"
)

// The functions of this file walk JSON that json.Valid has accepted; nothing
// otherwise may be given to them. Values are slices of the input, so numbers keep
// every digit and free JSON is passed on byte for byte.

// members yields the members of an object, in their order. Names lose
// surrounding space: the upstream's documents show a name with a tab in it.
func members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for name, value := range pairs(object) {
			if !yield(strings.TrimSpace(unquote(name)), value) {
				return
			}
		}
	}
}

// pairs yields the members of an object with their names as they are written.
func pairs(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		i := skipSpace(object, 1)
		for object[i] != '}' {
			end := valueEnd(object, i)
			name := object[i:end]
			i = skipSpace(object, skipSpace(object, end)+1) // behind the colon
			end = valueEnd(object, i)
			if !yield(name, object[i:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

// elements yields the elements of an array.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := skipSpace(array, 1)
		for array[i] != ']' {
			end := valueEnd(array, i)
			if !yield(array[i:end]) {
				return
			}
			if i = skipSpace(array, end); array[i] == ',' {
				i = skipSpace(array, i+1)
			}
		}
	}
}

// member returns the value of one member, or nil if there is none. Null is
// none.
func member(object []byte, name string) []byte {
	for n, value := range members(object) {
		if n == name && !isNull(value) {
			return value
		}
	}
	return nil
}

// valid returns the one JSON value that text holds, without the space around
// it, or nil.
func valid(text []byte) []byte {
	if !json.Valid(text) {
		return nil
	}
	return bytes.TrimSpace(text)
}

func isNull(value []byte) bool { return value[0] == 'n' }

// isEmpty reports whether a value says nothing: null, "" or {}.
func isEmpty(value []byte) bool {
	switch value[0] {
	case 'n':
		return true
	case '"':
		return len(value) == 2
	case '{':
		return value[skipSpace(value, 1)] == '}'
	default:
		return false
	}
}

// unquote returns the text of a string.
func unquote(literal []byte) string {
	inner := literal[1 : len(literal)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var s string
	if err := json.Unmarshal(literal, &s); err != nil {
		panic("upstream: not a JSON string: " + string(literal))
	}
	return s
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns the index behind the value that begins at i.
func valueEnd(b []byte, i int) int {
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch b[i] {
			case '"':
				i = stringEnd(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
		}
	default:
		for i < len(b) && strings.IndexByte(",]} \n\t\r", b[i]) < 0 {
			i++
		}
		return i
	}
}

func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

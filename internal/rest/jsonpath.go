package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// fieldAt returns the path of the field at an offset, such as "a.b[2].c".
func fieldAt(data []byte, offset int64) string {
	var at jsonPath
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		if key, ok := at.key(token); ok {
			at.top().key = key
		}
		if d.InputOffset() > offset {
			return at.String()
		}
		at.pass(token)
	}
}

// offsetOf turns a line and a column, both from 1, into an offset in bytes.
func offsetOf(data []byte, line, column int) int64 {
	offset := 0
	for ; line > 1; line-- {
		offset += bytes.IndexByte(data[offset:], '\n') + 1
	}
	for ; column > 1; column-- {
		_, size := utf8.DecodeRune(data[offset:])
		offset += size
	}
	return int64(offset)
}

// jsonPath is a place in a JSON document: the objects and lists around it, outermost
// first.
type jsonPath []*layer

// layer is an object or a list around a place.
type layer struct {
	list    bool
	index   int    // in a list
	key     string // in an object
	inValue bool   // the key was passed
}

func (p *jsonPath) top() *layer { return (*p)[len(*p)-1] }

// key reports whether the next token is the key of a member.
func (p *jsonPath) key(token json.Token) (string, bool) {
	text, ok := token.(string)
	return text, ok && len(*p) > 0 && !p.top().list && !p.top().inValue
}

// pass moves behind a token.
func (p *jsonPath) pass(token json.Token) {
	if _, ok := p.key(token); ok {
		p.top().inValue = true
		return
	}
	switch token {
	case json.Delim('{'), json.Delim('['):
		*p = append(*p, &layer{list: token == json.Delim('[')})
		return
	case json.Delim('}'), json.Delim(']'):
		*p = (*p)[:len(*p)-1]
	}
	if len(*p) > 0 { // a value is complete
		p.top().index++
		p.top().inValue = false
	}
}

// String implements fmt.Stringer.
func (p *jsonPath) String() string {
	var b strings.Builder
	for _, l := range *p {
		switch {
		case l.list:
			fmt.Fprintf(&b, "[%d]", l.index)
		case l.key != "" && b.Len() > 0:
			b.WriteString("." + l.key)
		default:
			b.WriteString(l.key)
		}
	}
	return b.String()
}

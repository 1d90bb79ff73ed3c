package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// fieldAt returns the path of the field at an offset in JSON, such as "a.b[2].c".
func fieldAt(data []byte, offset int64) string {
	p := jsonPath{Decoder: json.NewDecoder(bytes.NewReader(data)), offset: offset}
	if found, err := p.find(); !found || err != nil {
		return ""
	}
	return strings.TrimPrefix(strings.Join(p.path, ""), ".")
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

// jsonPath is the way to a place in a JSON document: ".key" and "[index]", outermost
// first. What it reads has passed the limit of depth of encoding/json.
type jsonPath struct {
	*json.Decoder

	offset int64
	path   []string
}

// find reads a value, and reports whether the offset is in it. The path then leads there.
func (p *jsonPath) find() (found bool, err error) {
	token, err := p.Token()
	found = p.InputOffset() > p.offset
	if err != nil || found || token != json.Delim('{') && token != json.Delim('[') {
		return found, err
	}
	at := len(p.path)
	p.path = append(p.path, "")
	for i := 0; p.More(); i++ {
		p.path[at] = fmt.Sprintf("[%d]", i)
		if token == json.Delim('{') {
			key, err := p.Token()
			p.path[at] = fmt.Sprintf(".%v", key)
			if found := p.InputOffset() > p.offset; found || err != nil {
				return found, err
			}
		}
		if found, err := p.find(); found || err != nil {
			return found, err
		}
	}
	p.path = p.path[:at]
	_, err = p.Token() // the end of the value
	return p.InputOffset() > p.offset, err
}

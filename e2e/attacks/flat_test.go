package attacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// flat is a request to the upstream, value by value: what a server reads that
// decodes everything once. Numbers are as they were written.
type flat map[string]string

func flatten(s sent) (flat, error) {
	f := flat{"method": s.method}
	for i, segment := range strings.Split(s.path, "/") {
		value, err := url.PathUnescape(segment)
		if err != nil {
			return nil, err
		}
		f[fmt.Sprintf("path[%d]", i)] = value
	}
	query, err := url.ParseQuery(s.query)
	if err != nil {
		return nil, err
	}
	for name, values := range query {
		for i, value := range values {
			f.text(fmt.Sprintf("query.%s[%d]", name, i), value)
		}
	}
	if len(s.body) == 0 {
		return f, nil
	}
	d := json.NewDecoder(strings.NewReader(string(s.body)))
	d.UseNumber()
	if err := f.value(d, "body"); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("there is more after the body: %w", err)
	}
	return f, nil
}

// text adds a text, and what it says if it is JSON itself.
func (f flat) text(at, value string) {
	f[at] = value
	if value != "" && (value[0] == '[' || value[0] == '{') && json.Valid([]byte(value)) {
		d := json.NewDecoder(strings.NewReader(value))
		d.UseNumber()
		if f.value(d, at+"!") == nil {
			delete(f, at)
		}
	}
}

func (f flat) value(d *json.Decoder, at string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Delim:
		return f.nested(d, at, token)
	case string:
		f.text(at, token)
	default:
		f[at] = fmt.Sprint(token)
	}
	return nil
}

func (f flat) nested(d *json.Decoder, at string, open json.Delim) error {
	for i := 0; d.More(); i++ {
		inner := fmt.Sprintf("%s[%d]", at, i)
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			inner = fmt.Sprintf("%s.%v", at, name)
		}
		if _, twice := f[inner]; twice {
			return fmt.Errorf("%s is given twice", inner)
		}
		if err := f.value(d, inner); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

package engine

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// Requests are structs whose tags say where a field comes from:
//
//	`path:"conversation_id"`  `query:"limit"`  `json:"message"`
//
// `required:"true"` refuses a call without it (a field that may legitimately be
// zero is then a pointer). `max:"500"` bounds the characters of a text or the items
// of a list, and `items:"100"` the items of a list that must not be empty. encoding/json is used for single
// values only, because it matches member names whatever their case and does
// not name the element of a list that has the wrong type.

// decode fills a request from the input. Unknown members are ignored, as the
// upstream does.
func (in *input) decode(request any) *Refusal {
	return decoder{}.fields(in, reflect.ValueOf(request).Elem(), "")
}

type decoder struct {
	strict bool // refuse unknown members
}

// DecodeStrict fills the struct that request points to from a JSON value. Unlike
// a call, it refuses unknown members. The error names the member.
func DecodeStrict(name string, raw json.RawMessage, request any) error {
	bad := decoder{strict: true}.value(raw, reflect.ValueOf(request).Elem(), name)
	if bad == nil {
		return nil
	}
	return errors.New(strings.TrimPrefix(bad.Msg, CodeBadParameter.Text+": "))
}

func (d decoder) fields(in *input, v reflect.Value, prefix string) *Refusal {
	for i := range v.NumField() {
		field, tag := v.Field(i), v.Type().Field(i).Tag
		if v.Type().Field(i).Anonymous {
			if bad := d.fields(in, field, prefix); bad != nil {
				return bad
			}
			continue
		}
		name, bad := d.field(in, field, tag, prefix)
		if bad != nil {
			return bad
		}
		if tag.Get("required") == "true" && field.IsZero() {
			return BadParameter("%s is missing", prefix+name)
		}
		if bad := checkLimit(field, tag, prefix+name); bad != nil {
			return bad
		}
	}
	return nil
}

// checkLimit refuses a value that is larger than its tags permit.
func checkLimit(v reflect.Value, tag reflect.StructTag, name string) *Refusal {
	most, err := strconv.Atoi(tag.Get("items"))
	if err == nil {
		return CheckCount(name, v.Len(), most)
	}
	if most, err = strconv.Atoi(tag.Get("max")); err != nil {
		return nil
	}
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		return CheckLength(name, v.String(), most)
	case v.Kind() == reflect.Slice && v.Len() > most:
		return BadParameter("%s has more than %d items", name, most)
	default:
		return nil
	}
}

// field fills one field from wherever its tags point to.
func (d decoder) field(in *input, v reflect.Value, tag reflect.StructTag, prefix string) (name string, bad *Refusal) {
	if key, ok := tag.Lookup("path"); ok {
		name = key
		if value, ok := in.path[key]; ok {
			return name, d.text(value, v, key)
		}
	}
	if key, ok := tag.Lookup("query"); ok {
		name = key
		if in.query.Has(key) {
			return name, d.text(in.query.Get(key), v, key)
		}
	}
	if key, ok := tag.Lookup("json"); ok {
		name, _, _ = strings.Cut(key, ",")
		if raw, ok := in.members[name]; ok {
			delete(in.members, name)
			return name, d.value(raw, v, prefix+name)
		}
	}
	return name, nil
}

// value decodes JSON; null is the same as absent.
func (d decoder) value(raw json.RawMessage, v reflect.Value, name string) *Refusal {
	if string(raw) == "null" {
		return nil
	}
	switch v.Addr().Interface().(type) {
	case json.Unmarshaler, encoding.TextUnmarshaler:
		return wrongType(name, v, json.Unmarshal(raw, v.Addr().Interface()))
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(raw, v.Elem(), name)
	case reflect.Struct:
		inner := &input{query: url.Values{}}
		if err := json.Unmarshal(raw, &inner.members); err != nil {
			return wrongType(name, v, err)
		}
		if bad := d.fields(inner, v, name+"."); bad != nil || !d.strict {
			return bad
		}
		for unknown := range inner.members {
			return BadParameter("%s.%s is not known", name, unknown)
		}
		return nil
	case reflect.Slice:
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return wrongType(name, v, err)
		}
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
		for i, item := range items {
			if bad := d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", name, i)); bad != nil {
				return bad
			}
		}
		return nil
	default:
		return wrongType(name, v, json.Unmarshal(raw, v.Addr().Interface()))
	}
}

// text decodes a path or query value; lists are joined by commas.
func (d decoder) text(s string, v reflect.Value, name string) *Refusal {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return wrongType(name, v, u.UnmarshalText([]byte(s)))
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.text(s, v.Elem(), name)
	case reflect.Slice:
		if s == "" {
			return nil
		}
		items := strings.Split(s, ",")
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
		for i, item := range items {
			if bad := d.text(item, v.Index(i), name); bad != nil {
				return bad
			}
		}
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		if s != "true" && s != "false" {
			return BadParameter("%s must be true or false", name)
		}
		v.SetBool(s == "true")
	default:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return BadParameter("%s must be an integer", name)
		}
		v.SetInt(n)
	}
	return nil
}

// wrongType turns a decoding error, if there is one, into the refusal that
// names the member.
func wrongType(name string, v reflect.Value, err error) *Refusal {
	if err == nil {
		return nil
	}
	if mismatch := (*json.UnmarshalTypeError)(nil); !errors.As(err, &mismatch) {
		return BadParameter("%s: %v", name, err)
	}
	kinds := map[reflect.Kind]string{
		reflect.Bool: "a boolean", reflect.String: "a string", reflect.Float64: "a number",
		reflect.Int: "an integer", reflect.Int64: "an integer",
		reflect.Struct: "an object", reflect.Slice: "an array",
	}
	want := kinds[v.Kind()]
	if _, isText := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); isText {
		want = "a string"
	}
	return BadParameter("%s must be %s", name, want)
}

// LooseInt is an int64 that some sources write as a number and some as a string.
type LooseInt int64

// UnmarshalJSON accepts both forms.
func (n *LooseInt) UnmarshalJSON(raw []byte) error {
	digits := strings.TrimSuffix(strings.TrimPrefix(string(raw), `"`), `"`)
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return errors.New("must be an integer")
	}
	*n = LooseInt(v)
	return nil
}

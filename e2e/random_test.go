package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// Random values, over the whole range that their types allow.

var (
	anyText  = rapid.StringN(0, 40, -1)
	someText = rapid.StringN(1, 40, -1)
	// accounts may hold whatever a conversation id and a list can bear.
	account = rapid.StringMatching(`[a-zA-Z0-9_@.\-/?#%&=+;:'"<>é中😀]{1,32}`)
	teamID  = rapid.Int64Range(0, 1<<63-1)
)

// maybe draws a value that may be absent.
func maybe[V any](t *rapid.T, name string, of *rapid.Generator[V]) *V {
	return rapid.Ptr(of, true).Draw(t, name)
}

// instant draws a time of whole milliseconds between the years 1 and 9999.
func instant(t *rapid.T, name string) *timestamppb.Timestamp {
	return timestamppb.New(time.UnixMilli(rapid.Int64Range(-62135596800000, 253402300799999).Draw(t, name)))
}

func maybeInstant(t *rapid.T, name string) *timestamppb.Timestamp {
	if !rapid.Bool().Draw(t, name+" given") {
		return nil
	}
	return instant(t, name)
}

// jsonValue draws any JSON value as text, numbers beyond every type included.
func jsonValue(t *rapid.T, depth int) string {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number")
	case 1:
		return quote(anyText.Draw(t, "text"))
	case 2:
		return strconv.FormatBool(rapid.Bool().Draw(t, "boolean"))
	case 3:
		return rapid.SampledFrom([]string{"0", `""`, "{}", "[]", "1232001762022391810", "0.1", "1e400"}).Draw(t, "edge")
	case 4:
		return jsonObject(t, depth-1)
	default:
		items := make([]string, rapid.IntRange(0, 3).Draw(t, "length"))
		for i := range items {
			items[i] = jsonValue(t, depth-1)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
}

func jsonObject(t *rapid.T, depth int) string {
	parts := make([]string, rapid.IntRange(0, 3).Draw(t, "members"))
	for i := range parts {
		parts[i] = fmt.Sprintf("%s:%s", quote(fmt.Sprint(anyText.Draw(t, "name"), i)), jsonValue(t, depth))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// maybeExtra draws a further member of an attachment, as the text of an object.
func maybeExtra(t *rapid.T) (m member, extra *string) {
	if !rapid.Bool().Draw(t, "extra given") {
		return member{further, ""}, nil
	}
	m = member{further, jsonValue(t, 2)}
	object := fmt.Sprintf(`{%q:%s}`, further, m.value)
	return m, &object
}

func utf16Of(s string) []uint16 { return utf16.Encode([]rune(s)) }

// attachment draws the content of a type with an attachment of fixed form, and
// the members of it. Width and height go by one of their names.
func attachment(d drift, kind int) (*imv1.MessageContent, []member) {
	t := d.T
	more, extra := maybeExtra(t)
	name, md5, ext := maybe(t, "name", anyText), maybe(t, "md5", anyText), maybe(t, "ext", anyText)
	size, dur := maybe(t, "size", rapid.Int64()), maybe(t, "dur", rapid.Int64())
	width, height := maybe(t, "width", rapid.Int32()), maybe(t, "height", rapid.Int32())
	url := someText.Draw(t, "url")
	file := []member{
		more, {"md5", d.optional(md5)}, {"ext", d.optional(ext)},
		{"size", d.number64(size)}, {"url", d.text(url)},
	}
	named := member{"name", d.optional(name)}
	w, h := "w", "h"
	if d.maybe("other names of the sizes") {
		w, h = "width", "height"
	}
	sizes := []member{{w, d.number32(width)}, {h, d.number32(height)}}
	lasts := member{"dur", d.number64(dur)}
	switch kind {
	case 1:
		image := &imv1.MessageContent_Image{Name: name, Md5: md5, Url: url, Ext: ext, Width: width, Height: height, Size: size, Extra: extra}
		return &imv1.MessageContent{Kind: &imv1.MessageContent_Image_{Image: image}}, append(append(file, named), sizes...)
	case 2:
		audio := &imv1.MessageContent_Audio{DurationMs: dur, Md5: md5, Url: url, Ext: ext, Size: size, Extra: extra}
		return &imv1.MessageContent{Kind: &imv1.MessageContent_Audio_{Audio: audio}}, append(file, lasts)
	case 3:
		video := &imv1.MessageContent_Video{Name: name, DurationMs: dur, Md5: md5, Url: url, Ext: ext, Width: width, Height: height, Size: size, Extra: extra}
		return &imv1.MessageContent{Kind: &imv1.MessageContent_Video_{Video: video}}, append(append(file, named, lasts), sizes...)
	default:
		plain := &imv1.MessageContent_File{Name: name, Md5: md5, Url: url, Ext: ext, Size: size, Extra: extra}
		return &imv1.MessageContent{Kind: &imv1.MessageContent_File_{File: plain}}, append(file, named)
	}
}

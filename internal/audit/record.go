package audit

import (
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// A Record is one call. Its texts may be anything: they are escaped, and each is cut
// at 256 bytes. Empty is what was not known when the call ended, such as the caller of a
// call that was refused for its credential.
type Record struct {
	Time     time.Time // when the call began
	Caller   string    // name of the caller, never a credential
	App      string    // the app that was called
	Method   string    // as gRPC writes it: /package.Service/Method
	Accounts []string  // that were acted for
	Door     string    // grpc or rest
	Address  string    // of the peer
	TraceID  string
	Code     string // of gRPC, such as OK or PermissionDenied
	Reason   string // of the error
	Duration time.Duration
}

const (
	maxText  = 256      // bytes of a text
	cutMark  = `\u2026` // …, behind a text that was cut
	lineSize = 1 << 10  // bytes that most lines fit into
)

var newline = []byte{'\n'}

// appendTo appends the record as a line of JSON. All members are there, always in
// this order, so that simple tools can tell them apart.
func (r *Record) appendTo(b []byte) []byte {
	b = appendTime(b, r.Time)
	for _, member := range [...]struct{ name, text string }{
		{`,"caller":`, r.Caller},
		{`,"app":`, r.App},
		{`,"method":`, r.Method},
		{`,"door":`, r.Door},
		{`,"address":`, r.Address},
		{`,"trace_id":`, r.TraceID},
		{`,"code":`, r.Code},
		{`,"reason":`, r.Reason},
	} {
		b = appendText(append(b, member.name...), member.text)
	}
	b = append(b, `,"accounts":[`...)
	for i, account := range r.Accounts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, account)
	}
	b = append(b, `],"duration_us":`...)
	b = strconv.AppendInt(b, r.Duration.Microseconds(), 10)
	return append(b, '}', '\n')
}

// appendLoss appends a line that stands for records that are missing.
func appendLoss(b []byte, now time.Time, lost int) []byte {
	b = appendTime(b, now)
	b = append(b, `,"lost":`...)
	b = strconv.AppendInt(b, int64(lost), 10)
	return append(b, '}', '\n')
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, `{"time":"`...)
	b = t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	return append(b, '"')
}

// appendText appends a string of JSON in ASCII. Nothing that a program or a person
// could take for the end of a line or for another text, on whatever screen, is left
// as it is: U+2028, marks of writing direction and look-alikes are outside of ASCII,
// and so is what is no UTF-8.
func appendText(b []byte, text string) []byte {
	cut := len(text) > maxText
	if cut {
		end := maxText
		for end > maxText-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	b = append(b, '"')
	for text != "" {
		plain := 0
		for plain < len(text) && isPlain(text[plain]) {
			plain++
		}
		b = append(b, text[:plain]...)
		if text = text[plain:]; text == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			b = appendEscape(appendEscape(b, high), low)
		default:
			b = appendEscape(b, r)
		}
	}
	if cut {
		b = append(b, cutMark...)
	}
	return append(b, '"')
}

func isPlain(c byte) bool { return c >= ' ' && c <= '~' && c != '"' && c != '\\' }

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&0xF], digits[r>>8&0xF], digits[r>>4&0xF], digits[r&0xF])
}

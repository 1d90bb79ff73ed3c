package apierror

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// Reasons that the upstream's client gives by itself. It knows no API and none of
// its enums, so it names them; TableOf reports one that the enum lacks.
const (
	InvalidRequest   = "INVALID_REQUEST"
	Unreachable      = "UPSTREAM_UNREACHABLE"
	OutcomeUnknown   = "OUTCOME_UNKNOWN"
	Unavailable      = "UPSTREAM_UNAVAILABLE"
	HTTPStatus       = "UPSTREAM_HTTP_STATUS"
	ReplyInvalid     = "UPSTREAM_REPLY_INVALID"
	ReplyTooLarge    = "UPSTREAM_REPLY_TOO_LARGE"
	CodeUnknown      = "UPSTREAM_CODE_UNKNOWN"
	DeadlineExceeded = "DEADLINE_EXCEEDED"
	Cancelled        = "CANCELLED"
	Internal         = "INTERNAL"
	QuotaExceeded    = "QUOTA_EXCEEDED"
	Overloaded       = "OVERLOADED"
	ClockSkewed      = "CLOCK_SKEWED"
)

var required = []string{
	InvalidRequest, Unreachable, OutcomeUnknown, Unavailable, HTTPStatus, ReplyInvalid, ReplyTooLarge,
	CodeUnknown, DeadlineExceeded, Cancelled, Internal, QuotaExceeded, Overloaded, ClockSkewed,
}

// Codes of the upstream. Numbers below CodeSuccess are reasons of the facade.
const (
	CodeSuccess   = 200
	CodeRateLimit = 416
)

// How long callers are told to wait, and up to twice as long, if nothing better
// is known.
const (
	repeatAfter   = time.Second
	repeatLimited = 10 * time.Second // the upstream blocks the operation for a while
)

// Table is the error table of an API: from the upstream's codes and the facade's
// own reasons to the gRPC code and whether to try again.
type Table struct {
	// Jitter returns a random time from 0 to below a limit. Callers that fail in one
	// instant must not come back in one.
	Jitter func(limit time.Duration) time.Duration

	byName   map[string]row
	byNumber map[protoreflect.EnumNumber]row
	aliases  map[int64][]alias
}

// row is one reason.
type row struct {
	name  string // without the enum's prefix
	code  codes.Code
	retry upstreamv1.Retry
	http  int
}

// alias is the reason for a code whose text matches.
type alias struct {
	text *regexp.Regexp
	row
}

// tables keeps the table of each enum, by its descriptor.
var tables sync.Map

// TableOf returns the table that an enum describes: its numbers from 200 up are the
// upstream's codes, and each value says its meaning in an option.
func TableOf(enum protoreflect.EnumDescriptor) (*Table, error) {
	if known, ok := tables.Load(enum); ok {
		if t, ok := known.(*Table); ok {
			return t, nil
		}
	}
	t := &Table{Jitter: jitter, byName: make(map[string]row), byNumber: make(map[protoreflect.EnumNumber]row), aliases: make(map[int64][]alias)}
	var errs []error
	values := enum.Values()
	prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
	for i := range values.Len() {
		value := values.Get(i)
		if value.Number() == 0 {
			continue
		}
		option, _ := proto.GetExtension(value.Options(), upstreamv1.E_Code).(*upstreamv1.Code)
		if option.GetStatus() == 0 {
			return nil, fmt.Errorf("%s has no gRPC code", value.FullName())
		}
		r := row{
			name:  strings.TrimPrefix(string(value.Name()), prefix),
			code:  codes.Code(option.GetStatus()), //nolint:gosec // the two enums have the same numbers
			retry: option.GetRetry(),
			http:  int(option.GetHttpStatus()),
		}
		t.byName[r.name], t.byNumber[value.Number()] = r, r
		for _, a := range option.GetAliases() {
			text, err := regexp.Compile("(?i)" + a.GetText())
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", value.FullName(), err))
				continue
			}
			t.aliases[a.GetCode()] = append(t.aliases[a.GetCode()], alias{text, r})
		}
	}
	for _, name := range required {
		if _, ok := t.byName[name]; !ok {
			errs = append(errs, fmt.Errorf("%s has no reason %s", enum.FullName(), name))
		}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	tables.Store(enum, t)
	return t, nil
}

// New makes an error for a reason of the facade, a value of the API's enum of
// reasons.
func New(reason protoreflect.Enum, format string, args ...any) *Error {
	t, err := TableOf(reason.Descriptor())
	if err != nil { // the server does not start with such a table
		return &Error{Reason: Internal, Code: codes.Internal, Message: "the error table is broken", Cause: err}
	}
	return t.make(t.byNumber[reason.Number()], fmt.Sprintf(format, args...))
}

// BadRequest makes an error of which the message says the first violation, for people,
// and the details say all. There must be one.
func BadRequest(reason protoreflect.Enum, violations []Violation) *Error {
	text := violations[0].Description
	if field := violations[0].Field; field != "" {
		text = field + ": " + text
	}
	if more := len(violations) - 1; more > 0 {
		text = fmt.Sprintf("%s (and %d more)", text, more)
	}
	e := New(reason, "%s", text)
	e.Violations = violations
	return e
}

// Error makes an error for one of the reasons that this package names.
func (t *Table) Error(name, format string, args ...any) *Error {
	return t.make(t.byName[name], fmt.Sprintf(format, args...))
}

func (t *Table) make(r row, message string) *Error {
	e := &Error{Reason: r.name, Code: r.code, RESTStatus: r.http, Message: message, Retry: r.retry}
	if r.retry != upstreamv1.Retry_RETRY_UNSPECIFIED {
		e.After = repeatAfter + t.Jitter(repeatAfter)
	}
	return e
}

// jitter returns whole milliseconds.
func jitter(limit time.Duration) time.Duration {
	return rand.N(limit).Truncate(time.Millisecond) //nolint:gosec // jitter is no secret
}

// Upstream makes the error for a code that the upstream answered with a text.
func (t *Table) Upstream(code int64, text string) *Error {
	r, ok := t.byNumber[protoreflect.EnumNumber(code)]                             //nolint:gosec // compared below
	if !ok || code < CodeSuccess || int64(protoreflect.EnumNumber(code)) != code { //nolint:gosec // compared
		r = t.byName[CodeUnknown]
	}
	for _, a := range t.aliases[code] {
		if a.text.MatchString(text) {
			r = a.row
			break
		}
	}
	e := t.make(r, upstreamText(code, text))
	e.UpstreamCode = code
	if code == CodeRateLimit {
		e.After = repeatLimited + t.Jitter(repeatLimited)
	}
	return e
}

// upstreamText limits the foreign text that reaches a caller.
func upstreamText(code int64, message string) string {
	const most = 512
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + "..."
	}
	switch {
	case message != "":
		return fmt.Sprintf("%s (upstream code %d)", message, code)
	case code == 0:
		return "the upstream gave no reason"
	default:
		return fmt.Sprintf("upstream code %d", code)
	}
}

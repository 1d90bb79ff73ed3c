package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// marshaler is the JSON of the REST view: fields have their proto names, and nothing is
// ignored when reading.
type marshaler struct {
	runtime.JSONPb

	door *Door
}

// NewDecoder implements runtime.Marshaler.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	b, ok := r.(*body)
	if !ok { // not a body of ours
		return m.JSONPb.NewDecoder(r)
	}
	return &decoder{marshaler: m, json: json.NewDecoder(b), call: b.call}
}

// decoder reads the messages of a body: one, or many if the request is a stream.
type decoder struct {
	*marshaler

	json *json.Decoder
	call *call
}

// Decode implements runtime.Decoder. It leaves its error with the call, because the
// generated code makes a text of it.
func (d *decoder) Decode(v any) error {
	var data json.RawMessage
	err := d.json.Decode(&data)
	if errors.Is(err, io.EOF) {
		return err // no body is an empty message, no further one the end of a stream
	}
	if err == nil {
		err = d.Unmarshal(data, v)
	}
	if err == nil && !d.call.manyMessages() {
		err = d.end()
	}
	if request, ok := v.(proto.Message); ok && err == nil {
		if violations := contradicted(request, d.call.path); len(violations) > 0 {
			err = malformed(violations...)
		}
	}
	if err == nil {
		return nil
	}
	refusal := d.refuse(data, err)
	d.call.refusal.Store(refusal)
	return refusal
}

var errTrailing = errors.New("there is more after the JSON value")

// end makes sure that nothing follows the message.
func (d *decoder) end() error {
	_, err := d.json.Token()
	switch {
	case err == nil:
		return errTrailing
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// refuse explains why a body was not taken.
func (d *decoder) refuse(data []byte, err error) *apierror.Error {
	var (
		known  *apierror.Error
		large  *http.MaxBytesError
		syntax *json.SyntaxError
	)
	var text string
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errBodies):
		return apierror.New(imv1.ErrorReason_ERROR_REASON_OVERLOADED, "%v", err)
	case errors.As(err, &large):
		return d.door.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return apierror.New(imv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "the body did not arrive in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		text = "the JSON of the body is not complete"
	case errors.Is(err, errTrailing):
		text = err.Error()
	case errors.As(err, &syntax):
		text = fmt.Sprintf("the body is not JSON: %v at byte %d", syntax, syntax.Offset)
	case data == nil:
		return apierror.New(imv1.ErrorReason_ERROR_REASON_CANCELLED, "the body did not arrive")
	default:
		text, field := explain(data, err)
		return malformed(apierror.Violation{Field: field, Description: text})
	}
	return apierror.New(imv1.ErrorReason_ERROR_REASON_MALFORMED_BODY, "%s", text)
}

func malformed(violations ...apierror.Violation) *apierror.Error {
	return apierror.BadRequest(imv1.ErrorReason_ERROR_REASON_MALFORMED_BODY, violations)
}

// The forms of the errors of protojson. Its authors put no-break spaces into some of them at
// random, to keep others from relying on the text.
var (
	protojsonError = regexp.MustCompile(`(?s)^proto:.(?:syntax error )?\(line (\d+):(\d+)\): (.*)$`)
	protojsonField = regexp.MustCompile(`^(invalid value for \S+) field [^:]+:`)
)

// explain makes an error of protojson fit for callers, and finds the field that it is about
// by its position. Text and field repeat what was sent, of any size, and are shortened.
func explain(data []byte, err error) (text, field string) {
	plain := strings.ReplaceAll(callinfo.Shorten(err.Error()), "\u00a0", " ")
	match := protojsonError.FindStringSubmatch(plain)
	if match == nil {
		return strings.TrimPrefix(plain, "proto: "), ""
	}
	line, _ := strconv.Atoi(match[1])
	column, _ := strconv.Atoi(match[2])
	// The path says which field it is. The name in the text is one that nobody used.
	text = protojsonField.ReplaceAllString(match[3], "$1:")
	return fmt.Sprintf("%s (line %d, column %d)", text, line, column), callinfo.Shorten(fieldAt(data, offsetOf(data, line, column)))
}

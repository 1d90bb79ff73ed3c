package codec

import "errors"

// Envelope is what every answer of the upstream is wrapped in:
// {"code":200,"msg":"success","data":{}}, under HTTP 200 also for errors. One
// documented answer has its data beside the code instead.
type Envelope struct {
	// Code is 200 for success.
	Code int64
	// Text is what the upstream says about the code.
	Text string
	// Data is a JSON object, never nil.
	Data []byte
}

var errNoEnvelope = errors.New("the answer is not a JSON object with a code")

// ReadEnvelope reads an answer.
func ReadEnvelope(body []byte) (Envelope, error) {
	body = valid(body)
	if len(body) == 0 || body[0] != '{' {
		return Envelope{}, errNoEnvelope
	}
	var e Envelope
	beside := []byte{'{'}
	hasCode := false
	for name, value := range members(body) {
		switch name {
		case "code":
			var err error
			if e.Code, err = integer(value, 64); err != nil {
				return Envelope{}, errNoEnvelope
			}
			hasCode = true
		case "msg":
			if !isNull(value) {
				e.Text = text(value)
			}
		case "data":
			if !isEmpty(value) {
				e.Data = value
			}
		default:
			beside = append(appendMember(beside, name), value...)
		}
	}
	if e.Data == nil {
		beside = append(beside, '}')
		e.Data = beside
	}
	if !hasCode {
		return Envelope{}, errNoEnvelope
	}
	return e, nil
}

package upstream

import "errors"

// An envelope is what every answer of the upstream is wrapped in:
// {"code":200,"msg":"success","data":{}}, under HTTP 200 also for errors. One
// documented answer has its data beside the code instead.
type envelope struct {
	code    int64
	message string
	data    []byte // an object; never nil
}

var errNoEnvelope = errors.New("the answer is not a JSON object with a code")

func readEnvelope(body []byte) (envelope, error) {
	body = valid(body)
	if len(body) == 0 || body[0] != '{' {
		return envelope{}, errNoEnvelope
	}
	var e envelope
	beside := []byte{'{'}
	hasCode := false
	for name, value := range members(body) {
		switch name {
		case "code":
			var err error
			if e.code, err = integer(value, 64); err != nil {
				return envelope{}, errNoEnvelope
			}
			hasCode = true
		case "msg":
			if !isNull(value) {
				e.message = text(value)
			}
		case "data":
			if !isEmpty(value) {
				e.data = value
			}
		default:
			beside = append(appendMember(beside, name), value...)
		}
	}
	if e.data == nil {
		beside = append(beside, '}')
		e.data = beside
	}
	if !hasCode {
		return envelope{}, errNoEnvelope
	}
	return e, nil
}

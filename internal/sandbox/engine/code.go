package engine

import "fmt"

// Code is a code of the upstream and the text that it is answered with. A domain
// declares each of its codes once, with NewCode.
type Code struct {
	Number int
	Text   string
}

// NewCode declares a code.
func NewCode(number int, text string) Code { return Code{number, text} }

// The codes that do not belong to a domain.
var (
	CodeOK           = NewCode(200, "success")
	CodeForbidden    = NewCode(403, "forbidden")
	CodeNotFound     = NewCode(404, "not found")
	CodeBadParameter = NewCode(414, "parameter error")
	CodeRateLimited  = NewCode(416, "rate limit exceeded")
	CodeServerError  = NewCode(500, "server error")
	CodeUnknownApp   = NewCode(101303, "app key not exist")
	CodeTimeRange    = NewCode(107439, "time range error")
)

// Refusal is the answer to a call, or to one item of a batch, that is not carried
// out. It is not an error of the sandbox: a refusal is a result like any other.
type Refusal struct {
	Code Code
	Msg  string
}

// ItemError is a refusal as it stands in an item of a batch.
type ItemError struct {
	ErrorCode int    `json:"error_code"`
	ErrorMsg  string `json:"error_msg"`
}

// Item returns the refusal as it stands in an item of a batch.
func (r *Refusal) Item() ItemError { return ItemError{r.Code.Number, r.Msg} }

// Refuse answers with the code's own text.
func (c Code) Refuse() *Refusal { return &Refusal{c, c.Text} }

// Refusef adds to the code's text what is wrong with this call.
func (c Code) Refusef(format string, args ...any) *Refusal {
	return &Refusal{c, c.Text + ": " + fmt.Sprintf(format, args...)}
}

// BadParameter refuses a call because of one of its parameters.
func BadParameter(format string, args ...any) *Refusal {
	return CodeBadParameter.Refusef(format, args...)
}

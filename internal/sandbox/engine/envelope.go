package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
)

// MaxBody is the largest body that a call may have, in bytes.
const MaxBody = 1 << 20

// input is what a call brought along, not yet typed.
type input struct {
	path    map[string]string
	query   url.Values
	members map[string]json.RawMessage // of the JSON body
}

func readInput(w http.ResponseWriter, r *http.Request, params map[string]string) (*input, *Refusal) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, BadParameter("query: %v", err)
	}
	in := &input{path: params, query: query}
	if r.Body == nil {
		return in, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, BadParameter("body is larger than %d bytes", MaxBody)
	}
	if err != nil {
		return nil, BadParameter("body: %v", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return in, nil
	}
	if err := json.Unmarshal(body, &in.members); err != nil {
		return nil, BadParameter("body is not a JSON object: %v", err)
	}
	return in, nil
}

type envelope struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
	Data any    `json:"data"`
}

// encode renders an answer: data of a success, or a refusal with empty data.
func encode(data any, bad *Refusal) []byte {
	e := envelope{Code: CodeOK.Number, Msg: CodeOK.Text, Data: data}
	if bad != nil {
		e = envelope{Code: bad.Code.Number, Msg: bad.Msg}
	}
	if e.Data == nil {
		e.Data = struct{}{}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // attachments go back as they came
	if err := enc.Encode(e); err != nil {
		return encode(nil, CodeServerError.Refusef("%v", err))
	}
	return buf.Bytes()
}

func writeAnswer(w http.ResponseWriter, status int, answer []byte) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	// A caller who has gone cannot be told anything.
	_, _ = w.Write(answer)
}

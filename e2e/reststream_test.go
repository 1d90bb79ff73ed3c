package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// stream posts the requests line by line if they are a stream themselves, and
// reads the replies line by line.
func (d restDoor) stream(ctx context.Context, m protoreflect.MethodDescriptor, requests []frame) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	first := []byte("{}")
	if !m.IsStreamingClient() {
		first = requests[0].json
	}
	r, err := httpRequest(ctx, d.base, m, first)
	if err != nil {
		return nil, err
	}
	s := &restStream{client: d.client, method: m, request: r, outcome: &outcome{}}
	defer s.close()
	if m.IsStreamingClient() {
		if err := s.post(requests); err != nil {
			return nil, err
		}
	}
	for !s.ended {
		if err := s.receive(); err != nil {
			return nil, err
		}
	}
	return s.outcome, s.outcome.sound()
}

// A restStream is one call whose answer arrives in lines.
type restStream struct {
	client  *http.Client
	method  protoreflect.MethodDescriptor
	request *http.Request
	outcome *outcome

	answer   chan answer // of the call, while it is made
	response *http.Response
	lines    *bufio.Reader
	ended    bool
}

type answer struct {
	response *http.Response
	err      error
}

// post sends the requests while the answer may have begun.
func (s *restStream) post(requests []frame) error {
	body, in := io.Pipe()
	s.request.Body, s.request.ContentLength, s.request.GetBody = body, -1, nil
	s.start()
	for _, request := range requests {
		if s.ended {
			break
		}
		var line bytes.Buffer
		if err := json.Compact(&line, request.json); err != nil {
			return err
		}
		line.WriteByte('\n')
		if _, err := in.Write(line.Bytes()); err != nil && !errors.Is(err, io.ErrClosedPipe) { // closed: it ended, receive tells why
			return err
		}
		if request.answered {
			if err := s.receive(); err != nil {
				return err
			}
		}
	}
	return in.Close()
}

func (s *restStream) start() {
	s.answer = make(chan answer, 1)
	go func() {
		response, err := s.client.Do(s.request) //nolint:bodyclose // close does
		s.answer <- answer{response, err}
	}()
}

// begin waits for the head of the answer. Under any status but 200 it is that of
// a call that is no stream.
func (s *restStream) begin() error {
	if s.answer == nil {
		s.start()
	}
	a := <-s.answer
	if a.err != nil {
		return a.err
	}
	s.response, s.lines = a.response, bufio.NewReader(a.response.Body)
	s.outcome.traceID = a.response.Header.Get(traceHeader)
	if a.response.StatusCode == http.StatusOK {
		return nil
	}
	s.ended = true
	var err error
	if s.outcome.body, err = io.ReadAll(s.lines); err != nil {
		return err
	}
	return s.outcome.fail(s.response)
}

// receive reads the next line: a reply or, at the end, the status or an error.
func (s *restStream) receive() error {
	if s.response == nil {
		if err := s.begin(); err != nil || s.ended {
			return err
		}
	}
	text, err := s.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the stream ended without a status: %w: %q", err, text)
	}
	var line struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
		Status json.RawMessage `json:"status"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&line); err != nil {
		return fmt.Errorf("not a line of a stream: %w: %s", err, text)
	}
	if line.Result != nil {
		reply, err := newMessage(s.method.Output())
		if err != nil {
			return err
		}
		s.outcome.replies = append(s.outcome.replies, reply)
		return protojson.Unmarshal(line.Result, reply)
	}
	return s.end(line.Error, line.Status)
}

// end reads the last line, behind which nothing may stand.
func (s *restStream) end(failure, success json.RawMessage) error {
	s.ended = true
	rest, err := io.ReadAll(s.lines)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("behind the last line: %q", rest)
	}
	text := success
	if failure != nil {
		text = failure
	}
	last := &statuspb.Status{}
	if err := protojson.Unmarshal(text, last); err != nil {
		return fmt.Errorf("no google.rpc.Status: %w: %q", err, text)
	}
	if (last.GetCode() != 0) != (failure != nil) {
		return fmt.Errorf("the last line says of itself what it is not: %v", last)
	}
	if failure != nil {
		s.outcome.status = status.FromProto(last)
	}
	return nil
}

// close ends a call that was not read to its end.
func (s *restStream) close() {
	if s.response != nil {
		_ = s.response.Body.Close()
	}
}

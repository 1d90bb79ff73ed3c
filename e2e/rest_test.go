package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/code"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// restDoor calls over REST, as the method's google.api.http annotation says.
type restDoor struct {
	base   string
	client *http.Client
}

func (d restDoor) call(ctx context.Context, m protoreflect.MethodDescriptor, request []byte) (*outcome, error) {
	r, err := httpRequest(ctx, d.base, m, request)
	if err != nil {
		return nil, err
	}
	reply, err := newMessage(m.Output())
	if err != nil {
		return nil, err
	}
	return d.do(r, reply)
}

// do sends a request and reads the answer: 200 and the reply, or anything else
// and a google.rpc.Status.
func (d restDoor) do(r *http.Request, reply proto.Message) (*outcome, error) {
	response, err := d.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "application/json" {
		return nil, fmt.Errorf("HTTP %d with content type %q: %s", response.StatusCode, kind, body)
	}
	o := &outcome{reply: reply, traceID: response.Header.Get(traceHeader), body: body}
	if response.StatusCode == http.StatusOK {
		if err := protojson.Unmarshal(body, reply); err != nil {
			return nil, fmt.Errorf("the reply does not fit: %w: %s", err, body)
		}
		return o, o.sound()
	}
	o.reply = nil
	return o, o.fail(response)
}

// fail reads the answer to a call that failed.
func (o *outcome) fail(response *http.Response) error {
	s := &statuspb.Status{}
	if err := protojson.Unmarshal(o.body, s); err != nil {
		return fmt.Errorf("HTTP %d without a google.rpc.Status: %w: %s", response.StatusCode, err, o.body)
	}
	o.status = status.FromProto(s)
	if err := checkHead(response, o); err != nil {
		return err
	}
	return o.sound()
}

// httpStatuses are the HTTP statuses of gRPC codes, as google.rpc.Code has
// them, and the more exact ones of HTTP itself.
var httpStatuses = map[code.Code][]int{
	code.Code_CANCELLED:           {499},
	code.Code_UNKNOWN:             {http.StatusInternalServerError},
	code.Code_INVALID_ARGUMENT:    {http.StatusBadRequest},
	code.Code_DEADLINE_EXCEEDED:   {http.StatusGatewayTimeout},
	code.Code_NOT_FOUND:           {http.StatusNotFound},
	code.Code_ALREADY_EXISTS:      {http.StatusConflict},
	code.Code_PERMISSION_DENIED:   {http.StatusForbidden},
	code.Code_UNAUTHENTICATED:     {http.StatusUnauthorized},
	code.Code_RESOURCE_EXHAUSTED:  {http.StatusTooManyRequests, http.StatusRequestEntityTooLarge},
	code.Code_FAILED_PRECONDITION: {http.StatusBadRequest},
	code.Code_ABORTED:             {http.StatusConflict},
	code.Code_UNIMPLEMENTED:       {http.StatusNotImplemented, http.StatusMethodNotAllowed},
	code.Code_INTERNAL:            {http.StatusInternalServerError},
	code.Code_UNAVAILABLE:         {http.StatusServiceUnavailable},
}

// checkHead checks that the head of an error's answer says what its body says.
func checkHead(response *http.Response, o *outcome) error {
	fits := false
	for _, s := range httpStatuses[codeOf(o)] {
		fits = fits || s == response.StatusCode
	}
	if !fits {
		return fmt.Errorf("HTTP %d for %v", response.StatusCode, o)
	}
	want := ""
	if retry := o.retry(); retry != nil {
		want = strconv.FormatFloat(math.Ceil(retry.GetRetryDelay().AsDuration().Seconds()), 'f', 0, 64)
	}
	if have := response.Header.Get("Retry-After"); have != want {
		return fmt.Errorf("Retry-After is %q, want %q: %v", have, want, o)
	}
	return nil
}

func codeOf(o *outcome) code.Code { return code.Code(o.status.Proto().GetCode()) }

// codeNamed returns the gRPC code with a name such as NOT_FOUND.
func codeNamed(name string) (codes.Code, error) {
	n, ok := code.Code_value[name]
	if !ok {
		return 0, fmt.Errorf("there is no gRPC code %s", name)
	}
	return codes.Code(n), nil
}

// httpRequest is the REST form of a call. It works on the JSON as it was
// written, so that the server sees the caller's own digits and types.
func httpRequest(ctx context.Context, base string, m protoreflect.MethodDescriptor, request []byte) (*http.Request, error) {
	verb, template, body := binding(m)
	if verb == "" {
		return nil, fmt.Errorf("%s has no REST form", m.FullName())
	}
	var members object
	if err := json.Unmarshal(request, &members); err != nil {
		return nil, err
	}
	var err error
	path := parameter.ReplaceAllStringFunc(template, func(p string) string {
		var value string
		if value, err = members.take(strings.Split(p[1:len(p)-1], "."), m.Input()); err != nil {
			return ""
		}
		return escape(value)
	})
	if err != nil {
		return nil, err
	}
	if body == "*" {
		content, err := json.Marshal(members)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, verb, base+path, bytes.NewReader(content))
		if err == nil {
			r.Header.Set("Content-Type", "application/json")
		}
		return r, err
	}
	query := url.Values{}
	if err := members.query("", query); err != nil {
		return nil, err
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return http.NewRequestWithContext(ctx, verb, base+path, http.NoBody)
}

var parameter = regexp.MustCompile(`\{[a-z_.]+\}`)

// binding reads the method's google.api.http annotation.
func binding(m protoreflect.MethodDescriptor) (verb, template, body string) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	for verb, template := range map[string]string{
		http.MethodGet: rule.GetGet(), http.MethodPost: rule.GetPost(), http.MethodPut: rule.GetPut(),
		http.MethodPatch: rule.GetPatch(), http.MethodDelete: rule.GetDelete(),
	} {
		if template != "" {
			return verb, template, rule.GetBody()
		}
	}
	return "", "", ""
}

// escape makes one path segment of any text.
func escape(s string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(unreserved, s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// object is a JSON object whose values are as they were written.
type object map[string]json.RawMessage

// take removes the value at a path and returns it as text. A path always has a
// value: if the caller gave none, it is the field's default.
func (o object) take(path []string, desc protoreflect.MessageDescriptor) (string, error) {
	fd := fieldNamed(desc, path[0])
	name := path[0]
	if _, ok := o[name]; !ok {
		name = fd.JSONName()
	}
	raw, ok := o[name]
	if len(path) == 1 {
		if !ok {
			return fd.Default().String(), nil
		}
		delete(o, name)
		return textOf(raw)
	}
	inner := object{}
	if ok {
		if err := json.Unmarshal(raw, &inner); err != nil {
			return "", err
		}
	}
	value, err := inner.take(path[1:], fd.Message())
	if err != nil {
		return "", err
	}
	o[name], err = json.Marshal(inner)
	return value, err
}

// query spreads the members over query parameters.
func (o object) query(prefix string, to url.Values) error {
	for name, raw := range o {
		items := []json.RawMessage{raw}
		switch raw[0] {
		case '{':
			var inner object
			if err := json.Unmarshal(raw, &inner); err != nil {
				return err
			}
			if err := inner.query(prefix+name+".", to); err != nil {
				return err
			}
			continue
		case '[':
			if err := json.Unmarshal(raw, &items); err != nil {
				return err
			}
		}
		for _, item := range items {
			value, err := textOf(item)
			if err != nil {
				return err
			}
			to.Add(prefix+name, value)
		}
	}
	return nil
}

// textOf is a scalar as it stands in a path or a query.
func textOf(raw json.RawMessage) (string, error) {
	if raw[0] != '"' {
		return string(raw), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

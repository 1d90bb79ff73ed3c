package attacks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/yunxin-facade/yunxin-facade/service"
)

// An rpc is an RPC with a request that the upstream takes and its answer, both
// from the wire vectors of the end-to-end tests.
type rpc struct {
	method  protoreflect.MethodDescriptor
	request json.RawMessage
	answer  []byte
}

// String is the short name, such as MessageService/SendMessage.
func (c rpc) String() string { return fmt.Sprintf("%s/%s", c.method.Parent().Name(), c.method.Name()) }

// path is the name of the method on the wire.
func (c rpc) path() string {
	return fmt.Sprintf("/%s/%s", c.method.Parent().FullName(), c.method.Name())
}

func (c rpc) streaming() bool { return c.method.IsStreamingClient() || c.method.IsStreamingServer() }

// message makes an empty message of a type.
func message(desc protoreflect.MessageDescriptor) proto.Message {
	typ, err := protoregistry.GlobalTypes.FindMessageByName(desc.FullName())
	if err != nil {
		panic(err)
	}
	return typ.New().Interface()
}

var loadRPCs = sync.OnceValues(func() ([]rpc, error) {
	vectors := map[string]rpc{}
	files, err := filepath.Glob("../testdata/wire/*.jsonl")
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			var v struct {
				RPC       string            `json:"rpc"`
				Request   json.RawMessage   `json:"request"`
				Requests  []json.RawMessage `json:"requests"`
				Response  json.RawMessage   `json:"response"`
				Exchanges []struct {
					Response json.RawMessage `json:"response"`
				} `json:"exchanges"`
			}
			if err := json.Unmarshal(line, &v); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if v.Requests != nil { // of a stream: its first request
				v.Request, v.Response = v.Requests[0], v.Exchanges[0].Response
			}
			if len(v.Requests) == 1 { // pages, of which one is enough
				v.Response = v.Exchanges[len(v.Exchanges)-1].Response
			}
			vectors[v.RPC] = rpc{request: v.Request, answer: v.Response}
		}
	}
	var all []rpc
	for _, s := range service.Descriptors() {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			c, ok := vectors[rpc{method: m}.String()]
			if !ok {
				return nil, fmt.Errorf("%s has no wire vector", m.FullName())
			}
			c.method = m
			all = append(all, c)
		}
	}
	return all, nil
})

// rpcs returns all RPCs there are.
func rpcs(tb testing.TB) []rpc {
	tb.Helper()
	all, err := loadRPCs()
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// rpcNamed returns one RPC.
func rpcNamed(tb testing.TB, name string) rpc {
	tb.Helper()
	for _, c := range rpcs(tb) {
		if c.String() == name {
			return c
		}
	}
	tb.Fatalf("there is no RPC %s", name)
	return rpc{}
}

// proto is the request as a message.
func (c rpc) proto(tb testing.TB) proto.Message {
	tb.Helper()
	m := message(c.method.Input())
	if err := protojson.Unmarshal(c.request, m); err != nil {
		tb.Fatalf("%s: %v", c, err)
	}
	return m
}

// binding reads the google.api.http annotation.
func (c rpc) binding() (verb, template, body string) {
	rule, _ := proto.GetExtension(c.method.Options(), annotations.E_Http).(*annotations.HttpRule)
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

// A form is the REST form of a call.
type form struct{ verb, target, body string }

var parameter = regexp.MustCompile(`\{[a-z_.]+\}`)

// rest spreads a request, which is JSON under proto names, over path, query and
// body.
func (c rpc) rest(request json.RawMessage) (form, error) {
	verb, template, body := c.binding()
	var members map[string]any
	if err := decode(request, &members); err != nil {
		return form{}, err
	}
	path := parameter.ReplaceAllStringFunc(template, func(p string) string {
		return escape(take(members, strings.Split(p[1:len(p)-1], ".")))
	})
	if body == "*" {
		content, err := json.Marshal(members)
		return form{verb, path, string(content)}, err
	}
	query := url.Values{}
	spread(members, "", query)
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return form{verb, path, ""}, nil
}

// decode keeps numbers as they were written.
func decode(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}

// take removes the value at a path and returns it as text.
func take(members map[string]any, path []string) string {
	value, ok := members[path[0]]
	if !ok {
		return ""
	}
	if inner, ok := value.(map[string]any); ok && len(path) > 1 {
		return take(inner, path[1:])
	}
	delete(members, path[0])
	return fmt.Sprint(value)
}

func spread(members map[string]any, before string, to url.Values) {
	for name, value := range members {
		switch value := value.(type) {
		case map[string]any:
			spread(value, before+name+".", to)
		case []any:
			for _, item := range value {
				to.Add(before+name, fmt.Sprint(item))
			}
		default:
			to.Add(before+name, fmt.Sprint(value))
		}
	}
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

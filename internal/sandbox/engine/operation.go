package engine

import (
	"net/url"
	"slices"
	"strings"
)

// livenessPath is what the vendor's SDKs probe before they use an endpoint.
const livenessPath = "/health/liveness.action"

// sdkPrefix stands before every path in the base URLs the vendor's SDKs use.
// It is accepted and has no meaning.
const sdkPrefix = "/nimserver"

// Operation is one API of the upstream, whichever methods and versions reach it.
// C is what it works on.
type Operation[C any] struct {
	methods string // separated by a space where the sources disagree
	path    string // below the version
	write   bool   // changes the state: its answers are kept by trace id
	v21     bool   // also exists under /im/v2.1/
	handle  handler[C]
}

// handler decodes the input of a call and returns what remains to be run while
// the engine holds its lock.
type handler[C any] func(*input) (run func(C) (any, *Refusal), bad *Refusal)

// Read makes an operation that changes nothing. Its path is what follows
// "/im/v2/"; {name} stands for one segment of the path.
func Read[C, Req any](methods, path string, op func(C, *Req) (any, *Refusal)) Operation[C] {
	return Operation[C]{methods: methods, path: path, handle: handle(op)}
}

// Write makes an operation that changes the state. A call that repeats the trace
// id of a successful one gets the answer of that one and changes nothing.
func Write[C, Req any](methods, path string, op func(C, *Req) (any, *Refusal)) Operation[C] {
	return Operation[C]{methods: methods, path: path, write: true, handle: handle(op)}
}

// WithV21 returns an operation that exists under /im/v2.1/ as well.
func (op Operation[C]) WithV21() Operation[C] {
	op.v21 = true
	return op
}

// checker is a request with rules that can be judged without the state. They are
// checked before the operation runs.
type checker interface{ Check() *Refusal }

// handle adapts an operation that is written for its own request type.
func handle[C, Req any](op func(C, *Req) (any, *Refusal)) handler[C] {
	return func(in *input) (func(C) (any, *Refusal), *Refusal) {
		req := new(Req)
		if bad := in.decode(req); bad != nil {
			return nil, bad
		}
		if c, ok := any(req).(checker); ok {
			if bad := c.Check(); bad != nil {
				return nil, bad
			}
		}
		return func(c C) (any, *Refusal) { return op(c, req) }, nil
	}
}

// route is one method and path at which an operation can be reached.
type route[C any] struct {
	operation *Operation[C]
	method    string
	pattern   string
	segments  []string
	v21       bool
}

// String is the route as Routes, Fault.Route and Entry.Route spell it.
func (r *route[C]) String() string { return r.method + " " + r.pattern }

func expand[C any](ops []Operation[C]) []*route[C] {
	var all []*route[C]
	for i := range ops {
		op := &ops[i]
		for version, v21 := range map[string]bool{"/im/v2/": false, "/im/v2.1/": true} {
			if v21 && !op.v21 {
				continue
			}
			for method := range strings.FieldsSeq(op.methods) {
				pattern := version + op.path
				all = append(all, &route[C]{
					operation: op,
					method:    method,
					pattern:   pattern,
					segments:  strings.Split(pattern, "/"),
					v21:       v21,
				})
			}
		}
	}
	slices.SortFunc(all, func(a, b *route[C]) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// Routes returns "METHOD /im/v2/path/{param}" of every operation, sorted.
func (e *Engine[C]) Routes() []string {
	names := make([]string, len(e.routes))
	for i, r := range e.routes {
		names[i] = r.String()
	}
	return names
}

// sentPath is the path with the client's own percent-encoding. URL.EscapedPath
// alone would not do: when the client left a "|" bare it encodes the decoded
// path anew, and an encoded slash inside an id would become a real one.
func sentPath(u *url.URL) string {
	path := u.RawPath
	if path == "" {
		path = u.EscapedPath()
	}
	if rest, ok := strings.CutPrefix(path, sdkPrefix+"/"); ok {
		return "/" + rest
	}
	return path
}

// match finds the route of a path and its decoded parameters. http.ServeMux is
// not used because it answers "..", "." and empty segments with a redirect to
// the cleaned path, and all of them can be part of an id here. No two patterns
// fit the same path, so the order of routes does not matter.
func (e *Engine[C]) match(method, path string) (*route[C], map[string]string, bool) {
	segments := strings.Split(path, "/")
	for _, r := range e.routes {
		if r.method != method || len(r.segments) != len(segments) {
			continue
		}
		if params, ok := r.params(segments); ok {
			return r, params, true
		}
	}
	return nil, nil, false
}

func (r *route[C]) params(segments []string) (map[string]string, bool) {
	params := map[string]string{}
	for i, want := range r.segments {
		name, isParam := strings.CutPrefix(want, "{")
		if !isParam {
			if segments[i] != want {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}

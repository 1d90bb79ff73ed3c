package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	policyv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/policy/v1"
)

// A Policy is what methods demand of their callers.
type Policy struct {
	methods map[string]method // by /package.Service/Method
}

// A method demands a scope, and acts for the accounts at a path of its request.
type method struct {
	scope   string
	request protoreflect.MessageDescriptor
	account []protoreflect.FieldDescriptor // empty if it acts for no account
	field   string                         // the path as it is written
	stream  bool                           // of requests
}

// NewPolicy reads what the methods of services demand. A method that demands
// nothing, or what its request cannot tell, is an error: nobody could be refused.
func NewPolicy(services []protoreflect.ServiceDescriptor) (*Policy, error) {
	p := &Policy{methods: map[string]method{}}
	var errs []error
	for _, service := range services {
		for i := range service.Methods().Len() {
			md := service.Methods().Get(i)
			m, err := newMethod(md)
			if err != nil {
				errs = append(errs, fmt.Errorf("the policy of %s: %w", md.FullName(), err))
			}
			p.methods["/"+string(service.FullName())+"/"+string(md.Name())] = m
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

func newMethod(md protoreflect.MethodDescriptor) (method, error) {
	option, ok := proto.GetExtension(md.Options(), policyv1.E_Policy).(*policyv1.Policy)
	if !ok || option.GetScope() == "" {
		return method{}, errors.New("it has no scope")
	}
	m := method{scope: option.GetScope(), request: md.Input(), field: option.GetAccount(), stream: md.IsStreamingClient()}
	if strings.ContainsAny(m.scope, "* ") {
		return method{}, fmt.Errorf("%q is no scope", m.scope)
	}
	if m.field == "" {
		return m, nil
	}
	message := m.request
	for name := range strings.SplitSeq(m.field, ".") {
		if message == nil {
			return method{}, fmt.Errorf("account %q: there is nothing in %s", m.field, m.account[len(m.account)-1].FullName())
		}
		field := message.Fields().ByName(protoreflect.Name(name))
		if field == nil || field.IsMap() {
			return method{}, fmt.Errorf("account %q: %s has no such field", m.field, message.FullName())
		}
		m.account = append(m.account, field)
		message = field.Message()
	}
	if last := m.account[len(m.account)-1]; last.Kind() != protoreflect.StringKind {
		return method{}, fmt.Errorf("account %q: %s is no text", m.field, last.FullName())
	}
	return m, nil
}

// Has tells whether there is a method, written as /package.Service/Method.
func (p *Policy) Has(name string) bool {
	_, ok := p.methods[name]
	return ok
}

// Scopes returns all scopes that methods demand, in order.
func (p *Policy) Scopes() []string {
	scopes := make([]string, 0, len(p.methods))
	for _, m := range p.methods {
		scopes = append(scopes, m.scope)
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// A DeniedError says that a caller may not do what it asks for. Its text is for the
// caller; of the callers it names no other one.
type DeniedError struct {
	Caller string // its name, or empty
	Method string // as gRPC writes it: /package.Service/Method
	Scope  string // that is missing, or empty
	Field  string // of the request that names the account; empty if that is not the cause

	text string
}

// Error implements error.
func (d *DeniedError) Error() string { return d.text }

// Begin begins a call of a method, which is written as gRPC does:
// /package.Service/Method. It tells whether the caller may call the method at all;
// each message of the request must then pass Allow. Its error is a *DeniedError.
func (p *Policy) Begin(caller *Caller, name string) (*Call, error) {
	m, ok := p.methods[name]
	switch {
	case caller == nil:
		return nil, &DeniedError{Method: name, text: "this method takes a caller that is known"}
	case !ok:
		return nil, &DeniedError{Caller: caller.name, Method: name, text: "there is no policy for " + name}
	case !caller.scopes[m.scope]:
		return nil, &DeniedError{
			Caller: caller.name, Method: name, Scope: m.scope,
			text: fmt.Sprintf("the caller %s does not have the scope %s", caller.name, m.scope),
		}
	case caller.bound != nil && m.account == nil:
		return nil, &DeniedError{
			Caller: caller.name, Method: name,
			text: fmt.Sprintf("the caller %s may act for certain accounts only, and this method acts for none", caller.name),
		}
	}
	return &Call{caller: caller, name: name, method: m}, nil
}

// A Call is one call of a caller that has the scope for it. Its messages must not
// be checked at the same time.
type Call struct {
	caller *Caller
	name   string
	method method
	begun  bool // a message has named an account, which the caller may act for
}

// Allow tells whether the caller may send a message: all accounts that it names
// must be the caller's to act for, and it must name one. In a stream whose account
// stands in a part of the message, messages without that part belong to the
// account before; none passes until there is one. Its error is a *DeniedError.
func (c *Call) Allow(request proto.Message) error {
	if c.caller.bound == nil {
		return nil
	}
	message := request.ProtoReflect()
	if message.Descriptor() != c.method.request {
		return c.deny("the caller %s sent a message of another type: %s is not there", c.caller.name, c.method.field)
	}
	path := c.method.account
	if c.begun && c.method.stream && len(path) > 1 && !path[0].IsList() && !message.Has(path[0]) {
		return nil
	}
	problem := ""
	for value := range values(message, path) {
		// An account id holds no "|", and a conversation id begins with its owner's.
		account, _, _ := strings.Cut(value, "|")
		switch {
		case account == "":
			problem = "the caller %s may act for certain accounts only, and %s does not name one"
		case !c.caller.bound.match(account):
			problem = "the caller %s may not act for the account in %s"
		}
		if problem != "" {
			return c.deny(problem, c.caller.name, c.method.field)
		}
	}
	c.begun = true
	return nil
}

func (c *Call) deny(format string, args ...any) error {
	return &DeniedError{Caller: c.caller.name, Method: c.name, Field: c.method.field, text: fmt.Sprintf(format, args...)}
}

// Accounts returns the accounts that a message names, each once and at most so many
// of them, for those who note who acted for whom.
func (c *Call) Accounts(request proto.Message, most int) []string {
	message := request.ProtoReflect()
	if c.method.account == nil || message.Descriptor() != c.method.request {
		return nil
	}
	var accounts []string
	for value := range values(message, c.method.account) {
		account, _, _ := strings.Cut(value, "|")
		if account != "" && !slices.Contains(accounts, account) {
			accounts = append(accounts, account)
		}
		if len(accounts) == most {
			break
		}
	}
	return accounts
}

// values goes through all texts at a path. Where there is nothing, it finds "".
func values(m protoreflect.Message, path []protoreflect.FieldDescriptor) func(func(string) bool) {
	return func(yield func(string) bool) { visit(m, path, yield) }
}

func visit(m protoreflect.Message, path []protoreflect.FieldDescriptor, yield func(string) bool) bool {
	field, rest := path[0], path[1:]
	item := func(v protoreflect.Value) bool {
		if len(rest) == 0 {
			return yield(v.String())
		}
		return visit(v.Message(), rest, yield)
	}
	if !field.IsList() {
		return item(m.Get(field))
	}
	list := m.Get(field).List()
	if list.Len() == 0 {
		return yield("")
	}
	for i := range list.Len() {
		if !item(list.Get(i)) {
			return false
		}
	}
	return true
}

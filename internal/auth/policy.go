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

// A Policy is what a method demands of its callers: a scope, and that they may act for
// the accounts that stand at a path of its request.
type Policy struct {
	name    string // as gRPC writes it: /package.Service/Method
	scope   string
	request protoreflect.MessageDescriptor
	account []protoreflect.FieldDescriptor // empty if it acts for no account
	field   string                         // the path as it is written
	stream  bool                           // of requests
}

// NewPolicy reads what a method demands. It is an error if the method demands nothing,
// or what its request cannot tell: nobody could be refused.
func NewPolicy(md protoreflect.MethodDescriptor) (*Policy, error) {
	option, ok := proto.GetExtension(md.Options(), policyv1.E_Policy).(*policyv1.Policy)
	if !ok || option.GetScope() == "" {
		return nil, errors.New("it has no scope")
	}
	p := &Policy{
		name:  fmt.Sprintf("/%s/%s", md.Parent().FullName(), md.Name()),
		scope: option.GetScope(), request: md.Input(), field: option.GetAccount(), stream: md.IsStreamingClient(),
	}
	if strings.ContainsAny(p.scope, "* ") {
		return nil, fmt.Errorf("%q is no scope", p.scope)
	}
	if p.field == "" {
		return p, nil
	}
	message := p.request
	for name := range strings.SplitSeq(p.field, ".") {
		if message == nil {
			return nil, fmt.Errorf("account %q: there is nothing in %s", p.field, p.account[len(p.account)-1].FullName())
		}
		field := message.Fields().ByName(protoreflect.Name(name))
		if field == nil || field.IsMap() {
			return nil, fmt.Errorf("account %q: %s has no such field", p.field, message.FullName())
		}
		p.account = append(p.account, field)
		message = field.Message()
	}
	if last := p.account[len(p.account)-1]; last.Kind() != protoreflect.StringKind {
		return nil, fmt.Errorf("account %q: %s is no text", p.field, last.FullName())
	}
	return p, nil
}

// Scope returns the scope that callers must have.
func (p *Policy) Scope() string { return p.scope }

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

// Begin begins a call, if the caller may call the method at all; each message of the
// request must then pass Allow. Its error is a *DeniedError.
func (p *Policy) Begin(caller *Caller) (*Call, error) {
	switch {
	case caller == nil:
		return nil, &DeniedError{Method: p.name, text: "this method takes a caller that is known"}
	case !caller.scopes[p.scope]:
		return nil, &DeniedError{
			Caller: caller.name, Method: p.name, Scope: p.scope,
			text: fmt.Sprintf("the caller %s does not have the scope %s", caller.name, p.scope),
		}
	case caller.bound != nil && p.account == nil:
		return nil, &DeniedError{
			Caller: caller.name, Method: p.name,
			text: fmt.Sprintf("the caller %s may act for certain accounts only, and this method acts for none", caller.name),
		}
	}
	return &Call{Policy: p, caller: caller}, nil
}

// A Call is one call of a caller that has the scope for it. Its messages must not
// be checked at the same time.
type Call struct {
	*Policy

	caller *Caller
	begun  bool // a message has named an account, which the caller may act for
}

// Allow reports whether the caller may send a message: all accounts that it names
// must be the caller's to act for, and it must name one. In a stream whose account
// stands in a part of the message, messages without that part belong to the
// account before; none passes until there is one. Its error is a *DeniedError.
func (c *Call) Allow(request proto.Message) error {
	if c.caller.bound == nil {
		return nil
	}
	message := request.ProtoReflect()
	if message.Descriptor() != c.request {
		return c.deny("the caller %s sent a message of another type: %s is not there", c.caller.name, c.field)
	}
	path := c.account
	if c.begun && c.stream && len(path) > 1 && !path[0].IsList() && !message.Has(path[0]) {
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
			return c.deny(problem, c.caller.name, c.field)
		}
	}
	c.begun = true
	return nil
}

func (c *Call) deny(format string, args ...any) error {
	return &DeniedError{Caller: c.caller.name, Method: c.name, Field: c.field, text: fmt.Sprintf(format, args...)}
}

// Accounts returns the accounts that a message names, each once and at most so many
// of them, for those who note who acted for whom.
func (c *Call) Accounts(request proto.Message, most int) []string {
	message := request.ProtoReflect()
	if c.account == nil || message.Descriptor() != c.request {
		return nil
	}
	var accounts []string
	for value := range values(message, c.account) {
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

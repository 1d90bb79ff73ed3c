package service

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// pages streams all pages of a list method, from the one that the request's page_token
// names. While one is sent the next is fetched, and no more than that is held. The
// stream ends with an error rather than silently short.
type pages struct {
	list  protoreflect.MethodDescriptor
	in    protoreflect.MessageType
	token protoreflect.FieldDescriptor // of the request: page_token
	next  protoreflect.FieldDescriptor // of the reply: next_page_token
	call  func(context.Context, proto.Message) (proto.Message, error)
}

// newPages reads the option pages_of of a stream.
func newPages(m protoreflect.MethodDescriptor) (*pages, error) {
	name, _ := proto.GetExtension(m.Options(), upstreamv1.E_PagesOf).(string)
	service, _ := m.Parent().(protoreflect.ServiceDescriptor)
	list := service.Methods().ByName(protoreflect.Name(name))
	switch {
	case proto.HasExtension(m.Options(), upstreamv1.E_Batch):
		return nil, fmt.Errorf("%s is a stream, and a batch is none", m.FullName())
	case name == "":
		return nil, fmt.Errorf("%s has neither the option pages_of nor a function", m.FullName())
	case list == nil || list.IsStreamingServer() || list.IsStreamingClient():
		return nil, fmt.Errorf("%s: the service has no list method %q", m.FullName(), name)
	case m.IsStreamingClient() || m.Input() != list.Input() || m.Output() != list.Output():
		return nil, fmt.Errorf("%s must have the request of %s and stream its replies", m.FullName(), list.Name())
	}
	p := &pages{list: list, token: m.Input().Fields().ByName("page_token"), next: m.Output().Fields().ByName("next_page_token")}
	if !isText(p.token) || !isText(p.next) {
		return nil, fmt.Errorf("%s: pages need page_token and next_page_token", m.FullName())
	}
	var err error
	p.in, err = protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	return p, err
}

func isText(f protoreflect.FieldDescriptor) bool {
	return f != nil && f.Kind() == protoreflect.StringKind && !f.IsList()
}

// page is a page, or why there is none.
type page struct {
	reply proto.Message
	err   error
}

func (p *pages) stream(stream grpc.ServerStream) error {
	request := p.in.New()
	if err := stream.RecvMsg(request.Interface()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	ahead := make(chan page, 1)
	fetch := func(token string) {
		of := proto.Clone(request.Interface())
		of.ProtoReflect().Set(p.token, protoreflect.ValueOfString(token))
		reply, err := p.call(ctx, of)
		ahead <- page{reply, err}
	}
	token := request.Get(p.token).String()
	go fetch(token)
	defer func() {
		cancel()
		<-ahead // no fetch outlives the stream
	}()
	cycle := cycle{at: token, power: 1}
	for {
		have := <-ahead
		if have.err != nil {
			ahead <- have // for the deferred receive
			return have.err
		}
		next := have.reply.ProtoReflect().Get(p.next).String()
		switch {
		case next == "":
			ahead <- have
			return stream.SendMsg(have.reply)
		case cycle.closes(next):
			ahead <- have
			return apierror.New(imv1.ErrorReason_ERROR_REASON_UPSTREAM_REPLY_INVALID, "the upstream's page tokens repeat")
		}
		go fetch(next)
		if err := stream.SendMsg(have.reply); err != nil {
			return err
		}
	}
}

// cycle finds out, in constant space, whether a sequence of tokens comes back to itself
// (Brent's algorithm): it compares with one token, which it exchanges for the current
// one after 1, 2, 4, 8... steps.
type cycle struct {
	at           string
	steps, power int
}

func (c *cycle) closes(token string) bool {
	if token == c.at {
		return true
	}
	c.steps++
	if c.steps == c.power {
		c.at, c.steps, c.power = token, 0, c.power*2
	}
	return false
}

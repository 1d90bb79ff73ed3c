package upstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MessageClientID makes the client id of a message to a conversation: always the
// same under one idempotency key, and a new one without.
func MessageClientID(ctx context.Context, conversationID string) string {
	key := callInfoOf(ctx).IdempotencyKey
	if key == "" {
		return NewTraceID()
	}
	return digest(fmt.Appendf(nil, "%q %q", key, conversationID))
}

// operation makes the operation for a request: its class, its trace id, and what
// is sent. Messages without a client id get one, in the request itself.
func (c *Conn) operation(ctx context.Context, method string, e *endpoint, request proto.Message) (operation, error) {
	info := callInfoOf(ctx)
	op := operation{endpoint: e, class: e.class, rpc: info.TraceID}
	if info.IdempotencyKey != "" && e.class != read {
		op.id = keyedID(c.appKey, info.IdempotencyKey, method, request)
		op.class = max(e.class, keyedWrite)
	} else {
		op.id = info.traceID()
	}
	op.rpc = cmp.Or(op.rpc, op.id)
	var err error
	e.in.fillClientIDs(request.ProtoReflect(), op.id)
	op.target, op.body, err = e.encode(request)
	return op, err
}

// keyedID derives a trace id. The request is part of it because one key covers
// all parts of a batch.
func keyedID(appKey, key, method string, request proto.Message) string {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return NewTraceID() // no message of ours; encode says why
	}
	return digest(fmt.Appendf(nil, "%q %q %q %s", appKey, key, method, body))
}

// digest has the form of a trace id.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// fillClientIDs gives an id to each message of a request that has none.
func (p *plan) fillClientIDs(m protoreflect.Message, id string) {
	for _, f := range p.fields {
		if f.message == nil || f.message.client == nil || !m.Has(f.FieldDescriptor) {
			continue
		}
		if !f.IsList() {
			f.message.setClientID(m.Mutable(f.FieldDescriptor).Message(), id)
			continue
		}
		list := m.Mutable(f.FieldDescriptor).List()
		for i := range list.Len() {
			f.message.setClientID(list.Get(i).Message(), fmt.Sprintf("%s-%d", id, i))
		}
	}
}

func (p *plan) setClientID(m protoreflect.Message, id string) {
	if !m.Has(p.client.FieldDescriptor) {
		m.Set(p.client.FieldDescriptor, protoreflect.ValueOfString(id))
	}
}

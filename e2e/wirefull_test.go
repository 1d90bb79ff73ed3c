package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// fullRequest makes a request that has a value in all its fields, its content
// being of one kind. Lists have two items; the nth holds n wherever it can.
func fullRequest(tb testing.TB, m protoreflect.MethodDescriptor, kind string) json.RawMessage {
	tb.Helper()
	request, err := newMessage(m.Input())
	if err != nil {
		tb.Fatal(err)
	}
	fill(request.ProtoReflect(), kind, 1)
	if update, ok := request.(*imv1.UpdateMessageRequest); ok {
		update.TeamOption.MarkAsRead = nil // only when sending
	}
	text, err := protojson.Marshal(request)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func fill(m protoreflect.Message, kind string, n int) {
	if ts, ok := m.Interface().(*timestamppb.Timestamp); ok {
		ts.Nanos = int32(n) * 1e6
		return
	}
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		switch {
		case !goesWith(fd, kind):
		case fd.IsList():
			list := m.Mutable(fd).List()
			for n := range 2 {
				list.Append(fullValue(fd, list.NewElement(), kind, n+1))
			}
		default:
			m.Set(fd, fullValue(fd, m.NewField(fd), kind, n))
		}
	}
}

// goesWith reports whether a field can be set beside content of a kind.
func goesWith(fd protoreflect.FieldDescriptor, kind string) bool {
	oneof := fd.ContainingOneof()
	switch {
	case oneof != nil && !oneof.IsSynthetic():
		return string(fd.Name()) == kind
	case fd.FullName() == "yunxin.im.v1.MessageContent.description":
		return kind != "text" && kind != "tip"
	default:
		return fd.Name() != "extra" // holds what has no field
	}
}

func fullValue(fd protoreflect.FieldDescriptor, empty protoreflect.Value, kind string, n int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		fill(empty.Message(), kind, n)
		return empty
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fullText(fd, n))
	case protoreflect.BoolKind:
		// Without these, others are not allowed or not answered; the rest
		// exclude each other if true.
		return protoreflect.ValueOfBool(fd.Name() == "notification_enabled" || fd.Name() == "need_message_detail")
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n + 1))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	default:
		return protoreflect.ValueOfInt64(int64(n))
	}
}

func fullText(fd protoreflect.FieldDescriptor, n int) string {
	options, _ := proto.GetExtension(fd.Options(), upstreamv1.E_Field).(*upstreamv1.Field)
	switch {
	case options.GetJson() == upstreamv1.Json_JSON_ARRAY:
		return "[]"
	case options.GetJson() != upstreamv1.Json_JSON_UNSPECIFIED:
		return `{"anything":1}`
	case strings.HasPrefix(string(fd.Name()), "conversation_id"):
		return fmt.Sprintf("1|1|%d", n)
	default:
		return strconv.Itoa(n)
	}
}

package service

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// inOrder gives every id of a request its result, in the order of the request.
// The upstream answers in two lists of an order of its own, an id given twice
// once, and ids in lower case. A result names its item in its first field.
func inOrder[R proto.Message](ids []string, results []R) []R {
	byID := make(map[string]R, len(results))
	for _, r := range results {
		byID[strings.ToLower(itemID(r))] = r
	}
	ordered := make([]R, len(ids))
	for i, id := range ids {
		r, ok := byID[strings.ToLower(id)]
		switch {
		case !ok:
			r = unanswered[R]()
		case itemID(r) != id:
			r = proto.CloneOf(r)
		}
		m := r.ProtoReflect()
		m.Set(m.Descriptor().Fields().Get(0), protoreflect.ValueOfString(id))
		ordered[i] = r
	}
	return ordered
}

func itemID(result proto.Message) string {
	m := result.ProtoReflect()
	return m.Get(m.Descriptor().Fields().Get(0)).String()
}

// unanswered makes the result of an item that the upstream passed over.
func unanswered[R proto.Message]() R {
	var zero R
	m := zero.ProtoReflect().New()
	s := status.New(codes.Internal, "the upstream did not answer for this item")
	if detailed, err := s.WithDetails(&errdetails.ErrorInfo{
		Reason: strings.TrimPrefix(imv1.ErrorReason_ERROR_REASON_UPSTREAM_REPLY_INVALID.String(), "ERROR_REASON_"),
		Domain: "yunxin-facade",
	}); err == nil {
		s = detailed
	}
	m.Set(m.Descriptor().Fields().ByName("error"), protoreflect.ValueOfMessage(s.Proto().ProtoReflect()))
	result, _ := m.Interface().(R)
	return result
}

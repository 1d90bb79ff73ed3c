package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// infrastructureBytes are enough for the names that health checks and reflection ask
// for. What is asked of health is kept as long as the caller watches.
const infrastructureBytes = 1 << 10

// limitSize refuses messages above the limit with a reason and a trace id, which
// the limit of the gRPC library cannot give.
func limitSize(most int) interceptor {
	limit := func(req any, most int) error {
		if message, ok := req.(proto.Message); ok && proto.Size(message) > most {
			return apierror.New(imv1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE, "the request has %d bytes, the limit is %d", proto.Size(message), most)
		}
		return nil
	}
	mostOf := func(method string) int {
		if isInfrastructure(method) {
			return infrastructureBytes
		}
		return most
	}
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := limit(req, mostOf(info.FullMethod)); err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			check := func(ctx context.Context, message proto.Message) error {
				return limit(message, mostOf(info.FullMethod))
			}
			return next(srv, &checkedStream{ServerStream: stream, check: check})
		},
	}
}

// checkMessages applies a check to every message that a caller of the API sends.
func checkMessages(check func(context.Context, proto.Message) error) interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if message, ok := req.(proto.Message); ok && !isInfrastructure(info.FullMethod) {
				if err := check(ctx, message); err != nil {
					return nil, err
				}
			}
			return next(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if isInfrastructure(info.FullMethod) {
				return next(srv, stream)
			}
			return next(srv, &checkedStream{ServerStream: stream, check: check})
		},
	}
}

// checkedStream checks what it receives.
type checkedStream struct {
	grpc.ServerStream

	check func(context.Context, proto.Message) error
}

// RecvMsg implements grpc.ServerStream.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if message, ok := m.(proto.Message); ok {
		return s.check(s.Context(), message)
	}
	return nil
}

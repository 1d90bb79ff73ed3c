package server

import (
	"context"
	"slices"

	"google.golang.org/grpc"
)

// registrar registers services whose unary calls pass a first part of the chain
// before their message is read, as streams do by themselves: who may not call is
// refused without it.
type registrar struct {
	*grpc.Server

	arrivals *arrivals
	first    grpc.UnaryServerInterceptor
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	own := *desc
	own.Methods = slices.Clone(desc.Methods)
	for i, method := range desc.Methods {
		name := "/" + desc.ServiceName + "/" + method.MethodName
		own.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, rest grpc.UnaryServerInterceptor) (any, error) {
			return r.first(ctx, nil, &grpc.UnaryServerInfo{Server: srv, FullMethod: name}, func(ctx context.Context, _ any) (any, error) {
				return method.Handler(srv, ctx, func(m any) error {
					return r.arrivals.receive(ctx, func() error { return decode(m) })
				}, rest)
			})
		}
	}
	r.Server.RegisterService(&own, impl)
}

package callinfo

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/yunxin-facade/yunxin-facade/internal/auth"
)

// Method is a method that can be called.
type Method struct {
	// Name is as gRPC writes it: /package.Service/Method.
	Name       string
	Descriptor protoreflect.MethodDescriptor
	// Streams says that there may be many requests or many replies.
	Streams bool
	// Infrastructure is what health checks and reflection are, and not the API. They
	// have clients with expectations of their own: their errors are not the API's, and
	// their streams stay open for as long as the server runs.
	Infrastructure bool
	// Health checks come from machinery that has no credentials.
	Health bool
	// Policy is what the method demands of callers, nil for infrastructure.
	Policy *auth.Policy
}

// Methods are all methods, by name.
type Methods map[string]*Method

// NewMethods reads the methods of the API from their descriptors, and adds those of
// health checks and reflection.
func NewMethods(api []protoreflect.ServiceDescriptor) (Methods, error) {
	all := Methods{}
	var errs []error
	for _, service := range api {
		for _, m := range all.add(service) {
			var err error
			if m.Policy, err = auth.NewPolicy(m.Descriptor); err != nil {
				errs = append(errs, fmt.Errorf("the policy of %s: %w", m.Descriptor.FullName(), err))
			}
		}
	}
	for _, file := range []protoreflect.FileDescriptor{
		grpc_health_v1.File_grpc_health_v1_health_proto,
		reflectionv1.File_grpc_reflection_v1_reflection_proto,
		reflectionv1alpha.File_grpc_reflection_v1alpha_reflection_proto,
	} {
		for _, m := range all.add(file.Services().Get(0)) {
			m.Infrastructure = true
			m.Health = file == grpc_health_v1.File_grpc_health_v1_health_proto
		}
	}
	return all, errors.Join(errs...)
}

func (all Methods) add(service protoreflect.ServiceDescriptor) []*Method {
	methods := make([]*Method, service.Methods().Len())
	for i := range methods {
		d := service.Methods().Get(i)
		methods[i] = &Method{
			Name:       fmt.Sprintf("/%s/%s", service.FullName(), d.Name()),
			Descriptor: d,
			Streams:    d.IsStreamingClient() || d.IsStreamingServer(),
		}
		all[methods[i].Name] = methods[i]
	}
	return methods
}

// Inputs returns the types of the requests of the API.
func (all Methods) Inputs() []protoreflect.MessageDescriptor {
	var inputs []protoreflect.MessageDescriptor
	for _, m := range all {
		if !m.Infrastructure {
			inputs = append(inputs, m.Descriptor.Input())
		}
	}
	return inputs
}

// Scopes returns all scopes that methods demand, in order.
func (all Methods) Scopes() []string {
	var scopes []string
	for _, m := range all {
		if m.Policy != nil {
			scopes = append(scopes, m.Policy.Scope())
		}
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

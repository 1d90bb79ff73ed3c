package callinfo

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/yunxin-facade/yunxin-facade/service"
)

func TestMethods(t *testing.T) {
	methods, err := NewMethods(service.Descriptors())
	if err != nil {
		t.Fatal(err)
	}
	scopes := methods.Scopes()
	if !slices.IsSorted(scopes) || len(slices.Compact(slices.Clone(scopes))) != len(scopes) || !slices.Contains(scopes, "messages.send") {
		t.Error(scopes)
	}
	for name, want := range map[string]Method{
		"/yunxin.im.v1.MessageService/SendMessage":                       {},
		"/yunxin.im.v1.MessageService/SendStreamMessage":                 {Streams: true},
		"/grpc.health.v1.Health/Watch":                                   {Streams: true, Infrastructure: true, Health: true},
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {Streams: true, Infrastructure: true},
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {Streams: true, Infrastructure: true},
	} {
		got := methods[name]
		if got == nil || got.Name != name || got.Streams != want.Streams || got.Infrastructure != want.Infrastructure || got.Health != want.Health || (got.Policy == nil) != want.Infrastructure {
			t.Errorf("%s: %+v", name, got)
		}
	}
	api := 0
	for _, s := range service.Descriptors() {
		api += s.Methods().Len()
	}
	if got := len(methods.Inputs()); got != api {
		t.Errorf("%d inputs of %d methods", got, api)
	}
}

// A method that demands nothing of its callers stops the start.
func TestMethodWithoutPolicy(t *testing.T) {
	health := grpc_health_v1.File_grpc_health_v1_health_proto.Services()
	_, err := NewMethods(append(service.Descriptors(), health.Get(0)))
	if err == nil || !strings.Contains(err.Error(), "the policy of grpc.health.v1.Health.Check: it has no scope") {
		t.Error(err)
	}
}

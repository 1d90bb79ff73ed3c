package server

import (
	"context"
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// validation enforces the rules that stand in the protos.
type validation struct {
	validator protovalidate.Validator
}

// newValidation compiles the rules of all requests. Left to the first call of
// each method, that would cost callers tens of milliseconds, and a rule that
// does not compile would be found by one of them.
func newValidation(services []protoreflect.ServiceDescriptor) (*validation, error) {
	var requests []protoreflect.MessageDescriptor
	for _, service := range services {
		for i := range service.Methods().Len() {
			requests = append(requests, service.Methods().Get(i).Input())
		}
	}
	validator, err := protovalidate.New(protovalidate.WithMessageDescriptors(requests...))
	if err != nil {
		return nil, err
	}
	return &validation{validator}, nil
}

func (v *validation) interceptor() interceptor { return checkMessages(v.check) }

// Limits of what is told of a request that breaks rules. One can break a rule a
// million times, and finding them all takes seconds.
const (
	smallRequest   = 16 << 10 // bytes; of larger ones only the first broken rule is told
	mostViolations = 100
)

// check names every broken rule, within limits.
func (v *validation) check(ctx context.Context, message proto.Message) error {
	err := v.validator.Validate(message, protovalidate.WithFailFast())
	if err == nil {
		return nil
	}
	if proto.Size(message) <= smallRequest {
		err = v.validator.Validate(message)
	}
	invalid, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return fmt.Errorf("the rules of %s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	var violations []apierror.Violation
	for _, violation := range invalid.Violations[:min(len(invalid.Violations), mostViolations)] {
		violations = append(violations, apierror.Violation{
			Field:       protovalidate.FieldPathString(violation.Proto.GetField()),
			Description: violation.Proto.GetMessage(),
			Rule:        violation.Proto.GetRuleId(),
		})
	}
	return refuseFields(imv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, violations)
}

// refuseFields makes an error of which the message tells the first violation,
// for people, and the details tell all.
func refuseFields(reason imv1.ErrorReason, violations []apierror.Violation) *apierror.Error {
	text := violations[0].Description
	if field := violations[0].Field; field != "" {
		text = field + ": " + text
	}
	if more := len(violations) - 1; more > 0 {
		text = fmt.Sprintf("%s (and %d more)", text, more)
	}
	refusal := apierror.New(reason, "%s", text)
	refusal.Violations = violations
	return refusal
}

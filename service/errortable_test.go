package service

import (
	"testing"

	"google.golang.org/grpc/codes"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// TestUpstream checks what a code and its text become.
func TestUpstream(t *testing.T) {
	t.Parallel()
	table, err := apierror.TableOf(imv1.ErrorReason(0).Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code   int64
		text   string
		reason string
		status codes.Code
	}{
		{102404, "account not exist", "ACCOUNT_NOT_FOUND", codes.NotFound},
		{110404, "", "CONVERSATION_NOT_FOUND", codes.NotFound},
		{414, "Conversation does not exist", "CONVERSATION_NOT_FOUND", codes.NotFound},
		{414, "conversation not exist", "CONVERSATION_NOT_FOUND", codes.NotFound},
		{414, "conversation_id is too long", "PARAMETER_INVALID", codes.InvalidArgument},
		{414, "", "PARAMETER_INVALID", codes.InvalidArgument},
		{500, "conversation not exist", "SERVER_ERROR", codes.Internal},
		{7, "a reason of the facade has no upstream code", "UPSTREAM_CODE_UNKNOWN", codes.Unknown},
		{1<<32 + 110404, "", "UPSTREAM_CODE_UNKNOWN", codes.Unknown},
	} {
		e := table.Upstream(c.code, c.text)
		if e.Reason != c.reason || e.Code != c.status || e.UpstreamCode != c.code {
			t.Errorf("%d %q: %s %s %d, want %s %s", c.code, c.text, e.Code, e.Reason, e.UpstreamCode, c.status, c.reason)
		}
	}
}

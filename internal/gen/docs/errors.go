package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// firstUpstreamCode is the first value that is numbered by the upstream.
const firstUpstreamCode = 200

const errorsIntro = `# Errors

A call that fails returns a google.rpc.Status: over gRPC as the status and its
details, over REST as the JSON body, under the HTTP status named here. Programs
look at the reason in its google.rpc.ErrorInfo; the message is for people. The
domain is ` + "`yunxin-facade`" + `; the metadata holds ` + "`trace_id`" + `, which names the call in
the logs, and ` + "`upstream_code`" + ` if the upstream answered with one. A
google.rpc.BadRequest names the fields of a request that is not valid. A
google.rpc.RetryInfo (over REST also the header ` + "`Retry-After`" + `) says how long to
wait before the same call may be repeated; without one it must not be repeated as
it is.
`

func errorsPage(files *protoregistry.Files) (string, error) {
	found, err := files.FindDescriptorByName("yunxin.im.v1.ErrorReason")
	if err != nil {
		return "", err
	}
	enum, ok := found.(protoreflect.EnumDescriptor)
	if !ok {
		return "", fmt.Errorf("%s is not an enum", found.FullName())
	}
	var page strings.Builder
	page.WriteString(errorsIntro + "\n" + comment(enum) + "\n")
	var section *table
	flush := func() {
		if section != nil {
			page.WriteString(section.String())
		}
	}
	for i := 1; i < enum.Values().Len(); i++ { // the zero value is never sent
		value := enum.Values().Get(i)
		if titles := enum.ParentFile().SourceLocations().ByDescriptor(value).LeadingDetachedComments; len(titles) > 0 {
			flush()
			section = newTable("Reason", "Upstream code", "gRPC", "HTTP", "Repeat", "Meaning")
			page.WriteString("\n## " + strings.TrimSuffix(reflow(titles[len(titles)-1]), ".") + "\n\n")
		}
		if section == nil {
			return "", fmt.Errorf("%s is in no section: put a comment with its title, and an empty line, before it", value.FullName())
		}
		section.row(reasonCells(value)...)
	}
	flush()
	return page.String(), nil
}

func reasonCells(value protoreflect.EnumValueDescriptor) []string {
	option, _ := proto.GetExtension(value.Options(), upstreamv1.E_Code).(*upstreamv1.Code)
	reason := strings.TrimPrefix(string(value.Name()), "ERROR_REASON_")
	number := ""
	if value.Number() >= firstUpstreamCode {
		number = strconv.Itoa(int(value.Number()))
	}
	repeat := map[upstreamv1.Retry]string{
		upstreamv1.Retry_RETRY_SAFE:       "yes",
		upstreamv1.Retry_RETRY_IDEMPOTENT: "reads, idempotent writes",
	}[option.GetRetry()]
	status := cmp.Or(int(option.GetHttpStatus()), runtime.HTTPStatusFromCode(codes.Code(option.GetStatus())))
	return []string{code(reason), number, option.GetStatus().String(), strconv.Itoa(status), repeat, comment(value)}
}

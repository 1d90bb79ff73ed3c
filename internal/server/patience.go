package server

import (
	"context"
	"time"

	"google.golang.org/grpc/tap"

	"github.com/yunxin-facade/yunxin-facade/service"
)

// patience ends calls that never arrive in full. The library waits for messages
// with no context but the stream's, so no deadline of the chain reaches it. It is no
// deadline, for the chain asks whether the caller gave one.
func patience(longest, longestStream time.Duration) tap.ServerInHandle {
	streams := map[string]bool{}
	for _, service := range service.Descriptors() {
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			streams["/"+methodName(m)] = m.IsStreamingClient() || m.IsStreamingServer()
		}
	}
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		if isInfrastructure(info.FullMethodName) {
			return ctx, nil
		}
		limit := longest
		if streams[info.FullMethodName] {
			limit = longestStream
		}
		ctx, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(limit+connectionAgeGrace, cancel)
		context.AfterFunc(ctx, func() { timer.Stop() })
		return ctx, nil
	}
}

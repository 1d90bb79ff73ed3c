package server

import (
	"context"
	"time"

	"google.golang.org/grpc/tap"

	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
)

// patience ends calls that never arrive in full. The library waits for messages
// with no context but the stream's, so no deadline of the chain reaches it. It shows no
// deadline, because the chain asks whether the caller gave one.
func patience(methods callinfo.Methods, longest, longestStream time.Duration) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		method, limit := methods[info.FullMethodName], longest
		switch {
		case method != nil && method.Infrastructure:
			return ctx, nil
		case method != nil && method.Streams:
			limit = longestStream
		}
		ctx, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(limit+connectionAgeGrace, cancel)
		context.AfterFunc(ctx, func() { timer.Stop() })
		return ctx, nil
	}
}

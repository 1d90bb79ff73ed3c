package upstream

import "context"

type callerKey struct{}

// WithCaller names who makes the calls under a context. Callers that compete for
// a quota take turns, whatever the number of calls that each of them makes.
func WithCaller(ctx context.Context, caller string) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// callerOf returns the caller of a context. Those without a name are one caller.
func callerOf(ctx context.Context) string {
	caller, _ := ctx.Value(callerKey{}).(string)
	return caller
}

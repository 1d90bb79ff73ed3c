package server

import (
	"context"
	"sync"
)

// facts are what is found out about a call on its way, for those who tell of it
// when it has ended.
type facts struct {
	mu     sync.Mutex
	caller string // its name, or "" if nobody knows
	app    string // the app that is used, or "" if the call did not get that far
}

type factsKey struct{}

// withFacts begins to collect facts.
func withFacts(ctx context.Context) context.Context {
	return context.WithValue(ctx, factsKey{}, new(facts))
}

// factsIn returns the facts of a call. Outside of one, nobody reads them.
func factsIn(ctx context.Context) *facts {
	if f, ok := ctx.Value(factsKey{}).(*facts); ok {
		return f
	}
	return new(facts)
}

func (f *facts) setCaller(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.caller = name
}

func (f *facts) setApp(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.app = name
}

func (f *facts) get() (caller, app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.caller, f.app
}

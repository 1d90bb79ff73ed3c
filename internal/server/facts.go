package server

import (
	"context"
	"slices"
	"sync"
)

// facts are what is found out about a call on its way, for those who tell of it
// when it has ended.
type facts struct {
	mu     sync.Mutex
	caller string // its name, or "" if nobody knows
	app    string // the app that is used, or "" if the call did not get that far
	// accounts that the call acts for; "..." after the last if there are more
	accounts []string
}

const mostAccounts = 8

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

func (f *facts) addAccounts(accounts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, account := range accounts {
		switch {
		case slices.Contains(f.accounts, account):
		case len(f.accounts) == mostAccounts:
			f.accounts = append(f.accounts, "...")
		case len(f.accounts) < mostAccounts:
			f.accounts = append(f.accounts, account)
		}
	}
}

func (f *facts) get() (caller, app string, accounts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.caller, f.app, slices.Clone(f.accounts)
}

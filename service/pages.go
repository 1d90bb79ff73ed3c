package service

import "context"

// A page is one page of a list, and the token of the page that follows.
type page[T any] struct {
	items []T
	next  string
}

// walk sends all pages of a list, from the one that token names. While one is
// sent the next is fetched, and no more than that is held. It ends with an error
// rather than silently short, and with one if the upstream's tokens go in a
// circle.
func walk[T any](ctx context.Context, token string, fetch func(context.Context, string) (page[T], error), send func(page[T]) error) error {
	ctx, cancel := context.WithCancel(ctx)
	type fetched struct {
		page page[T]
		err  error
	}
	ahead := make(chan fetched, 1)
	get := func(token string) {
		p, err := fetch(ctx, token)
		ahead <- fetched{p, err}
	}
	go get(token)
	defer func() {
		cancel()
		<-ahead // no fetch outlives the walk
	}()
	circle := circle{at: token, power: 1}
	for {
		f := <-ahead
		if f.err != nil || f.page.next == "" {
			ahead <- f // for the deferred receive
			if f.err != nil {
				return f.err
			}
			return send(f.page)
		}
		if circle.closes(f.page.next) {
			ahead <- f
			return replyInvalid("the upstream's page tokens repeat")
		}
		go get(f.page.next)
		if err := send(f.page); err != nil {
			return err
		}
	}
}

// A circle finds out, in constant space, whether a sequence of tokens comes back
// to itself (Brent's algorithm): it compares with one token, which it exchanges
// for the current one after 1, 2, 4, 8... steps.
type circle struct {
	at           string
	steps, power int
}

func (c *circle) closes(token string) bool {
	if token == c.at {
		return true
	}
	c.steps++
	if c.steps == c.power {
		c.at, c.steps, c.power = token, 0, c.power*2
	}
	return false
}

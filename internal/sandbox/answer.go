package sandbox

import "github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"

// batch answers a call about many items. Both lists go out as [] if they are
// empty, so neither may be nil.
type batch[S, F any] struct {
	SuccessList []S `json:"success_list"`
	FailedList  []F `json:"failed_list"`
}

// page answers a call for a page of a list.
type page[T any] struct {
	HasMore   bool   `json:"has_more"`
	NextToken string `json:"next_token,omitempty"`
	Items     []T    `json:"items"`
}

// pageOf picks a page of a log and converts its items.
func pageOf[E engine.Positioned, T any](w engine.Window, log []E, convert func(E) T) (any, *engine.Refusal) {
	items, next, bad := engine.Pick(w, log)
	if bad != nil {
		return nil, bad
	}
	return page[T]{next != "", next, engine.Apply(items, convert)}, nil
}

package rest

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestBodyAfterItsCall checks that what is read of a body after its call has ended,
// by a goroutine that nobody waits for, takes nothing of the budget.
func TestBodyAfterItsCall(t *testing.T) {
	t.Parallel()
	var budget atomic.Int64
	const all = 4 * smallBody
	budget.Store(all)
	b := &body{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("x", all))), budget: &budget}
	if _, err := io.CopyN(io.Discard, b, 2*smallBody); err != nil || budget.Load() == all {
		t.Fatalf("%v, %d bytes left", err, budget.Load())
	}
	b.settle()
	if n, err := b.Read(make([]byte, smallBody)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if budget.Load() != all {
		t.Errorf("%d bytes left of %d", budget.Load(), all)
	}
}

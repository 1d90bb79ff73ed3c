package rest

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// Each REST body may take a small part of memory, and beyond that all together as much as
// some of the largest. The limit of calls times that of bodies is more memory than there is,
// and decoding takes a multiple of the size of a body.
const (
	smallBody     = 64 << 10
	largestBodies = 2
)

var errBodies = errors.New("the bodies of the calls in progress take too much memory")

// body is the body of a request. The generated code reads that of a stream in a goroutine,
// which may outlive the call.
type body struct {
	io.ReadCloser

	call   *call
	budget *atomic.Int64 // bytes that bodies may still take

	mu      sync.Mutex
	size    int64 // so far
	taken   int64 // of the budget
	settled bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settled {
		return 0, http.ErrBodyReadAfterClose
	}
	b.size += int64(n)
	if b.size <= smallBody {
		return n, err
	}
	b.taken += int64(n)
	if b.budget.Add(-int64(n)) < 0 {
		return 0, errBodies
	}
	return n, err
}

// settle gives back what the body has taken when its call is over.
func (b *body) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
	b.budget.Add(b.taken)
}

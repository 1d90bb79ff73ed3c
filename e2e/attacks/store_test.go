package attacks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A store holds files that are replaced whole.
type store interface {
	put(tb testing.TB, files map[string]string)
	path(name string) string
}

// A folder has each file renamed over the one before.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) put(tb testing.TB, files map[string]string) {
	tb.Helper()
	for name, content := range files {
		next := f.path("." + name)
		if err := errors.Join(os.WriteFile(next, []byte(content), 0o600), os.Rename(next, f.path(name))); err != nil {
			tb.Fatal(err)
		}
	}
}

// A volume is a directory as Kubernetes mounts it: its files are links into
// ..data, which is a link to a directory that another takes the place of.
type volume struct {
	folder

	files map[string]string // all of them
	n     int
}

func newVolume(tb testing.TB) *volume {
	tb.Helper()
	return &volume{folder: folder(tb.TempDir()), files: map[string]string{}}
}

func (v *volume) put(tb testing.TB, files map[string]string) {
	tb.Helper()
	v.n++
	former, next := fmt.Sprintf("..%d", v.n-1), fmt.Sprintf("..%d", v.n)
	errs := []error{os.Mkdir(v.path(next), 0o700)}
	for name, content := range files {
		if _, known := v.files[name]; !known {
			errs = append(errs, os.Symlink(filepath.Join("..data", name), v.path(name)))
		}
		v.files[name] = content
	}
	for name, content := range v.files {
		errs = append(errs, os.WriteFile(filepath.Join(v.path(next), name), []byte(content), 0o600))
	}
	errs = append(errs, os.Symlink(next, v.path("..data_tmp")), os.Rename(v.path("..data_tmp"), v.path("..data")), os.RemoveAll(v.path(former)))
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
}

// A shift is what calls use until something else takes its place.
type shift[T any] struct {
	mu  sync.Mutex
	now *tenure[T]
}

// A tenure is one of these, with those who use it.
type tenure[T any] struct {
	value T
	users sync.WaitGroup
}

// take returns what is in use now, until the user leaves.
func (s *shift[T]) take() (value T, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	now.users.Add(1)
	return now.value, now.users.Done
}

// replace puts something else to use. The one before is over when nobody uses it.
func (s *shift[T]) replace(value T) (former T, over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now
	s.now = &tenure[T]{value: value}
	if old == nil {
		return former, func() {}
	}
	return old.value, old.users.Wait
}

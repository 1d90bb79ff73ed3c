package watch

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

const maxHops = 32 // links on the way to a file

// Events tell that something has happened in a directory that matters. Directories
// are watched and not files: the watch of a file stays with the old one when
// another takes its place.
type events struct {
	err     error // why there are none
	watcher *fsnotify.Watcher
	some    chan struct{} // holds that something has happened
	ended   chan struct{}
	added   map[string]os.FileInfo // the directories, as they were
}

func openEvents(open func() (*fsnotify.Watcher, error)) *events {
	e := &events{some: make(chan struct{}, 1), ended: make(chan struct{}), added: map[string]os.FileInfo{}}
	if e.watcher, e.err = open(); e.err != nil {
		close(e.ended)
		return e
	}
	go e.forward()
	return e
}

// close ends the events.
func (e *events) close() {
	if e.err == nil {
		_ = e.watcher.Close() // nothing is left to be done about it
	}
	<-e.ended
}

// forward takes events in until they end. It does nothing else, for the library
// can hold a lock that adding a directory needs while it has something to tell.
//
// An error is that events were lost. Then something has happened, too.
func (e *events) forward() {
	defer close(e.ended)
	for open := true; open; {
		select {
		case _, open = <-e.watcher.Events:
		case _, open = <-e.watcher.Errors:
		}
		select {
		case e.some <- struct{}{}:
		default:
		}
	}
}

// follow watches the directories that matter to the files, and no others. Its
// error tells that some are not watched.
func (e *events) follow(files []string) error {
	if e.err != nil {
		return e.err
	}
	wanted := map[string]bool{}
	for _, file := range files {
		for _, directory := range directories(file) {
			wanted[directory] = true
		}
	}
	watched := e.watcher.WatchList()
	for directory := range e.added {
		if !wanted[directory] {
			_ = e.watcher.Remove(directory) // it may have gone by itself
			delete(e.added, directory)
		}
	}
	var errs []error
	for directory := range wanted {
		info, err := os.Stat(directory)
		if before := e.added[directory]; err == nil && before != nil && os.SameFile(before, info) && slices.Contains(watched, directory) {
			continue
		}
		// There may be another directory of this name now.
		_ = e.watcher.Remove(directory)
		delete(e.added, directory)
		if err == nil {
			err = e.watcher.Add(directory)
		}
		switch {
		case err == nil:
			e.added[directory] = info
		case !errors.Is(err, os.ErrNotExist): // else it has just gone, which the one above it tells
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// directories returns those in which something happens when a path comes to mean
// another file: the one that holds the file, and those of all links on the way. If
// the path ends before, it is the one in which the rest would appear.
func directories(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	const separator = string(filepath.Separator)
	root := filepath.VolumeName(path) + separator
	at, rest := root, strings.Split(strings.TrimPrefix(path, root), separator)
	var found []string
	for hops := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name) // also where name is ..
		info, err := os.Lstat(next)
		if err != nil || len(rest) == 0 {
			found = append(found, at)
		}
		if err != nil {
			break
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		found = append(found, at)
		hops++
		target, err := os.Readlink(next)
		if err != nil || hops > maxHops {
			break
		}
		if filepath.IsAbs(target) {
			at = root
		}
		rest = append(strings.Split(target, separator), rest...)
	}
	return found
}

package attacks

import (
	"strconv"
	"testing"
)

// TestSpellings writes numbers in all ways into every field that holds an id as a
// number, over REST: the upstream gets the number that is written, read as a
// decimal one, or nothing. A number with a zero in front is not an octal one.
func TestSpellings(t *testing.T) {
	t.Parallel()
	p := newProber(t)
	tried, accepted := 0, 0
	for _, at := range places(t) {
		if at.isText() {
			continue
		}
		learnt := p.learn(t, at)
		for _, id := range spellings {
			ok, err := p.try(t.Context(), learnt, "rest", id)
			if err != nil {
				t.Errorf("%s, %q: %v", at, id, err)
			}
			tried++
			if ok {
				accepted++
			}
		}
	}
	t.Logf("%d spellings tried, %d taken for the number they are", tried, accepted)
}

// FuzzIDs looks for an id that arrives as another one.
func FuzzIDs(f *testing.F) {
	p := newProber(f)
	var probes []probe
	for _, at := range places(f) {
		probes = append(probes, p.learn(f, at))
	}
	for i, piece := range pieces {
		f.Add(uint(i), true, "alice|1|"+piece)
		f.Add(uint(i), false, piece)
	}
	f.Fuzz(func(t *testing.T, place uint, grpc bool, id string) {
		at, door := probes[place%uint(len(probes))], "rest"
		if grpc {
			door = "grpc"
			if _, err := strconv.ParseInt(id, 10, 64); err != nil && !at.isText() {
				t.Skip("protobuf cannot say it")
			}
		}
		if _, err := p.try(t.Context(), at, door, id); err != nil {
			t.Errorf("%s over %s, id %q: %v", at, door, id, err)
		}
	})
}

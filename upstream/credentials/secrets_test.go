package credentials

import "testing"

// TestSecretSlips tells what is tried after several changes in a row.
func TestSecretSlips(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		steps    string // letters are set, those behind a colon accepted
		ahead    string
		previous string
	}{
		"one":                {"b", "b", "a"},
		"none":               {"a", "a", ""},
		"a slip":             {"bc", "c", "a"},
		"a slip, calls":      {"b:ac", "c", "a"},
		"two changes":        {"b:bc", "c", "b"},
		"taken back":         {"ba", "a", "b"},
		"taken back, late":   {"b:ba", "a", "b"},
		"the same again":     {"b:ab", "a", "a"},
		"an answer from ago": {"b:bc:bd:ae", "e", "b"},
	} {
		s := NewSecrets("a")
		for i := 0; i < len(tt.steps); i++ {
			if tt.steps[i] != ':' {
				s.Set(tt.steps[i : i+1])
				continue
			}
			i++
			s.Accept(tt.steps[i : i+1])
			s.Prefer(tt.steps[i : i+1])
		}
		if s.ahead != tt.ahead || s.previous != tt.previous {
			t.Errorf("%s: %s is tried before %s and %s", name, s.ahead, s.current, s.previous)
		}
	}
}

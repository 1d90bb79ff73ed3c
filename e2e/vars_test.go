package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// vars are the values that ${name} stands for in the texts of a case.
type vars map[string]string

var (
	variable = regexp.MustCompile(`\$\{([^{}]*)\}`)
	repeated = regexp.MustCompile(`^(.+)\*(\d+)$`)
)

// expand replaces ${name} by its value, and ${x*3} by xxx. A name without a
// value is an error: an expectation that compares nothing would always hold.
func (v vars) expand(s string) (string, error) {
	var unknown error
	expanded := variable.ReplaceAllStringFunc(s, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if value, ok := v[name]; ok {
			return value
		}
		if m := repeated.FindStringSubmatch(name); m != nil {
			if n, err := strconv.Atoi(m[2]); err == nil {
				return strings.Repeat(m[1], n)
			}
		}
		unknown = fmt.Errorf("%s has no value", ref)
		return ref
	})
	return expanded, unknown
}

// counted replaces ${i} by the place in a list.
func counted(s string, i int) string { return strings.ReplaceAll(s, "${i}", strconv.Itoa(i)) }

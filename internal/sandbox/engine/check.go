package engine

import "unicode/utf8"

// CheckLength refuses a text with more than limit characters.
func CheckLength(name, text string, limit int) *Refusal {
	if utf8.RuneCountInString(text) > limit {
		return BadParameter("%s is longer than %d characters", name, limit)
	}
	return nil
}

// CheckCount refuses an empty list and one with more than limit items.
func CheckCount(name string, n, limit int) *Refusal {
	if n < 1 || n > limit {
		return BadParameter("%s must have 1 to %d items", name, limit)
	}
	return nil
}

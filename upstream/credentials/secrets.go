// Package credentials signs requests: it keeps the AppSecret and the one before it,
// and knows how far the upstream's clock is off.
package credentials

import (
	"sync"
	"time"
)

// grace is how long both a new secret and the one before it may be accepted. A secret
// is replaced in two places that no clock keeps together: here and at the upstream.
const grace = 10 * time.Minute

// Secrets are the AppSecret and, for a grace time, the one before it.
type Secrets struct {
	mu       sync.Mutex
	current  string
	previous string    // "" if there is none
	until    time.Time // the end of previous
	ahead    string    // the one of the two that is tried first
	proven   string    // the one that the upstream accepted last; at first, the first one
}

// NewSecrets begins with one secret.
func NewSecrets(secret string) *Secrets {
	return &Secrets{current: secret, ahead: secret, proven: secret}
}

// Set puts another secret in force. The secret in force, or none at all, changes
// nothing.
func (s *Secrets) Set(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if secret == "" || secret == s.current {
		return
	}
	// The one before a secret that was never accepted is the one that still works.
	s.previous = s.proven
	if s.previous == secret { // taken back
		s.previous = s.current
	}
	s.current, s.ahead, s.until = secret, secret, time.Now().Add(grace)
}

// expire forgets the previous secret when its time is over.
func (s *Secrets) expire() {
	if s.previous != "" && !time.Now().Before(s.until) {
		s.previous, s.ahead, s.proven = "", s.current, s.current
	}
}

// First returns the secret that an attempt is signed with.
func (s *Secrets) First() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	return s.ahead
}

// Other returns the secret to try after one was refused, if there is one.
func (s *Secrets) Other(refused string) (secret string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if refused != s.current {
		return s.current, true
	}
	return s.previous, s.previous != ""
}

// Accept notes that the upstream knows a secret.
func (s *Secrets) Accept(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret == s.current || secret == s.previous {
		s.proven = secret
	}
}

// Prefer makes a secret the first one, after the other was refused and this one was
// not. Being accepted is not enough for that, because an answer to an attempt from
// before a change would undo the change.
func (s *Secrets) Prefer(secret string) (changed, current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if secret == s.ahead || secret != s.current && secret != s.previous {
		return false, false
	}
	s.ahead = secret
	return true, secret == s.current
}

// IsProven reports whether a secret is the one that was accepted last.
func (s *Secrets) IsProven(secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return secret == s.proven
}

package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// A secret is replaced in two places that no clock keeps together: here and at
// the upstream. For so long both the new and the old one may be accepted.
const secretGrace = 10 * time.Minute

// secrets are the AppSecret and, for a grace time, the one before it.
type secrets struct {
	mu       sync.Mutex
	current  string
	previous string    // "" if there is none
	until    time.Time // the end of previous
	ahead    string    // the one of the two that is tried first
	proven   string    // the one that the upstream accepted last; at first, the first one
}

func newSecrets(secret string) *secrets {
	return &secrets{current: secret, ahead: secret, proven: secret}
}

// SetSecret puts another AppSecret in force, for all attempts from now on. While
// the upstream may not know it yet, for 10 minutes, an attempt whose signature is
// refused is repeated with the previous one, and the one that is accepted is then
// tried first. So it makes no difference where a secret is replaced first. The
// secret in force, or none at all, changes nothing.
func (c *Conn) SetSecret(secret string) { c.secrets.set(secret) }

func (s *secrets) set(secret string) {
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
	s.current, s.ahead, s.until = secret, secret, time.Now().Add(secretGrace)
}

// expire forgets the previous secret when its time is over.
func (s *secrets) expire() {
	if s.previous != "" && !time.Now().Before(s.until) {
		s.previous, s.ahead, s.proven = "", s.current, s.current
	}
}

// first returns the secret that an attempt is signed with.
func (s *secrets) first() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	return s.ahead
}

// other returns the secret to try after one was refused, if there is one.
func (s *secrets) other(refused string) (secret string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if refused != s.current {
		return s.current, true
	}
	return s.previous, s.previous != ""
}

// accept notes that the upstream knows a secret.
func (s *secrets) accept(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret == s.current || secret == s.previous {
		s.proven = secret
	}
}

// prefer makes a secret the first one, after the other was refused and this one
// was not. Being accepted is not enough for that: an answer to an attempt from
// before a change would undo it.
func (s *secrets) prefer(secret string) (changed, current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if secret == s.ahead || secret != s.current && secret != s.previous {
		return false, false
	}
	s.ahead = secret
	return true, secret == s.current
}

// isProven tells whether a secret is the one that was accepted last.
func (s *secrets) isProven(secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return secret == s.proven
}

// trySecrets makes an attempt, and if its signature is refused while there is
// another secret, a second one under that, at once. Whoever refuses a signature
// has executed nothing, so that is right for all operations.
//
// The codes of a refused signature are those of a bad request too, which both
// secrets get. Then nobody learns which one is good, and the caller hears what the
// one that has been good got.
func (c *Conn) trySecrets(ctx context.Context, op operation, avoid *host) (attempt, []byte, *apierror.Error) {
	op.secret = c.secrets.first()
	a, data, e := c.try(ctx, op, avoid)
	if !mayRefuseSignature(e) {
		c.learn(op.secret, e)
		return a, data, e
	}
	refused := op.secret
	var ok bool
	if op.secret, ok = c.secrets.other(refused); !ok {
		return a, data, e
	}
	b, data, second := c.try(ctx, op, avoid)
	if mayRefuseSignature(second) && c.secrets.isProven(refused) {
		return a, nil, e
	}
	if c.learn(op.secret, second) {
		if changed, current := c.secrets.prefer(op.secret); changed {
			c.log.WarnContext(ctx, "the upstream refuses one AppSecret and accepts the other, which is tried first from now on", "new_one", current)
		}
	}
	return b, data, second
}

// learn takes an answer for what it tells of the secret: that the upstream knows
// it, if it went as far as to look at the request. A rate limit comes before that.
func (c *Conn) learn(secret string, e *apierror.Error) (known bool) {
	known = e == nil || e.UpstreamCode != 0 && e.UpstreamCode != apierror.CodeRateLimit && !ofSignatures(e.UpstreamCode)
	if known {
		c.secrets.accept(secret)
	}
	return known
}

// mayRefuseSignature tells whether an answer can come from the secret.
func mayRefuseSignature(e *apierror.Error) bool {
	return e != nil && ofSignatures(e.UpstreamCode) && e.Reason != apierror.ClockSkewed
}

func ofSignatures(code int64) bool { return code == codeForbid || code == codeInvalid }

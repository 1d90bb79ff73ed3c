package upstream

import (
	"context"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
)

// trySecrets makes an attempt, and if its signature is refused while there is another
// secret, a second one under that, at once. Whoever refuses a signature has executed
// nothing, which makes this right for all operations.
//
// The codes of a refused signature are those of a bad request too, which both secrets
// get. Then nobody learns which one is good, and the caller gets the answer to the one
// that has been good.
func (c *Conn) trySecrets(ctx context.Context, made call, avoid *failover.Endpoint) (attempt, []byte, *apierror.Error) {
	made.secret = c.secrets.First()
	a, data, e := c.try(ctx, made, avoid)
	if !mayRefuseSignature(e) {
		c.learnSecret(made.secret, e)
		return a, data, e
	}
	refused := made.secret
	var ok bool
	if made.secret, ok = c.secrets.Other(refused); !ok {
		return a, data, e
	}
	b, data, second := c.try(ctx, made, avoid)
	if mayRefuseSignature(second) && c.secrets.IsProven(refused) {
		return a, nil, e
	}
	if c.learnSecret(made.secret, second) {
		if changed, current := c.secrets.Prefer(made.secret); changed {
			c.log.WarnContext(ctx, "the upstream refuses one AppSecret and accepts the other, which is tried first from now on", "new_one", current)
		}
	}
	return b, data, second
}

// learnSecret notes whether an answer shows that the upstream knows a secret, which it
// does if it went as far as to look at the request. A rate limit comes before that.
func (c *Conn) learnSecret(secret string, e *apierror.Error) (known bool) {
	known = e == nil || e.UpstreamCode != 0 && e.UpstreamCode != apierror.CodeRateLimit && !ofSignatures(e.UpstreamCode)
	if known {
		c.secrets.Accept(secret)
	}
	return known
}

// mayRefuseSignature reports whether an answer can come from the secret.
func mayRefuseSignature(e *apierror.Error) bool {
	return e != nil && ofSignatures(e.UpstreamCode) && e.Reason != apierror.ClockSkewed
}

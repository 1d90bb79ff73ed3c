package auth

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxToken = 8 << 10          // bytes
	leeway   = 30 * time.Second // between the clocks of an issuer and this server
	lastDate = 253402300799     // the end of the year 9999; conversions of more overflow
)

// A keySource finds the key of an id that fits an algorithm, and is nil without.
// It may wait a moment, at most until the context ends. It is known whether there
// are keys at all.
type keySource interface {
	key(ctx context.Context, id, alg string) any
	known() bool
}

func (s keySet) key(_ context.Context, id, alg string) any { return s.find(id, alg) }

func (keySet) known() bool { return true }

// A verifier checks the tokens of one issuer.
type verifier struct {
	parser *jwt.Parser
	keys   keySource
}

func newVerifier(i *issuer, keys keySource, now func() time.Time) *verifier {
	return &verifier{keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods(i.algorithms),
		jwt.WithIssuer(i.name),
		jwt.WithAudience(i.audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(),
	)}
}

// claims are those that count. Others are not even looked at.
type claims struct {
	issuer, subject             string
	audience                    jwt.ClaimStrings
	expires, notBefore, issueAt date
}

// UnmarshalJSON takes members by their exact names. Decoding into a struct would
// take SUB for sub, and some issuers let anybody choose claims of other names.
func (c *claims) UnmarshalJSON(data []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return err
	}
	for name, value := range map[string]any{
		"iss": &c.issuer, "sub": &c.subject, "aud": &c.audience,
		"exp": &c.expires, "nbf": &c.notBefore, "iat": &c.issueAt,
	} {
		if raw, ok := members[name]; ok {
			if err := json.Unmarshal(raw, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// A date is a time in a token, or nil.
type date struct{ *jwt.NumericDate }

// UnmarshalJSON takes numbers that are times.
func (d *date) UnmarshalJSON(data []byte) error {
	var seconds *float64
	if err := json.Unmarshal(data, &seconds); err != nil || seconds == nil {
		return err
	}
	if *seconds < 0 || *seconds > lastDate {
		return errors.New("a time out of range")
	}
	d.NumericDate = jwt.NewNumericDate(time.Unix(int64(*seconds), 0))
	return nil
}

// The methods by which golang-jwt reads claims.

func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.expires.NumericDate, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.notBefore.NumericDate, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.issueAt.NumericDate, nil }

var (
	errTokenForm     = refusal(BadCredential, "not of the form of a token")
	errTokenIssuer   = refusal(BadCredential, "a token of an unknown issuer")
	errTokenStranger = refusal(BadCredential, "a token of a subject that is no caller")
	errTokenCritical = errors.New("the token has critical extensions (crit), and none is known")
	errTokenKey      = errors.New("the issuer has no key of this id (kid) for this algorithm")
	errNoKeys        = errors.New("the keys of the issuer have not been fetched yet")
)

// byToken finds the caller of a token.
func (s *state) byToken(ctx context.Context, text string) (*Caller, error) {
	// Before anything is allocated for it.
	if len(text) > maxToken || strings.Count(text, ".") != 2 {
		return nil, errTokenForm
	}
	// Nothing of this can be trusted yet; it tells only whose keys to look for.
	var hint claims
	if _, _, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(text, &hint); err != nil {
		return nil, &Error{Kind: BadCredential, cause: err}
	}
	v := s.verifiers[hint.issuer]
	if v == nil {
		return nil, errTokenIssuer
	}
	var proven claims
	if _, err := v.parser.ParseWithClaims(text, &proven, v.keyOf(ctx)); err != nil {
		return nil, &Error{Kind: kindOf(err), cause: err}
	}
	caller := s.subjects[subject{proven.issuer, proven.subject}]
	if caller == nil {
		return nil, errTokenStranger
	}
	return caller, nil
}

// keyOf finds the key that a token names in its header. A token that names none is
// refused: to try all keys would be work for everybody who asks.
func (v *verifier) keyOf(ctx context.Context) jwt.Keyfunc {
	return func(token *jwt.Token) (any, error) {
		if _, ok := token.Header["crit"]; ok {
			return nil, errTokenCritical
		}
		id, _ := token.Header["kid"].(string)
		if key := v.keys.key(ctx, id, token.Method.Alg()); key != nil {
			return key, nil
		}
		if !v.keys.known() {
			return nil, errNoKeys
		}
		return nil, errTokenKey
	}
}

// kindOf tells a token that has only expired from all others. Its signature has
// been checked then, because that comes before the claims.
func kindOf(err error) Kind {
	for _, other := range []error{
		jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer,
		jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenNotValidYet,
	} {
		if errors.Is(err, other) {
			return BadCredential
		}
	}
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Expired
	case errors.Is(err, errNoKeys):
		return Unverified
	}
	return BadCredential
}

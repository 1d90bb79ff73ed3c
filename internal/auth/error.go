package auth

// A Kind is all that a caller is told of why its credentials were refused.
type Kind int

// The kinds of refusals.
const (
	// NoCredential means that there was none.
	NoCredential Kind = iota + 1
	// BadCredential means that there was none that counts: broken, unknown,
	// forged, several at once, or nobody's.
	BadCredential
	// Expired means that it was good once: the key, the token, the certificate or
	// the caller has expired.
	Expired
	// Unverified means that nobody knows yet: there are no keys of the issuer.
	Unverified
)

// String implements fmt.Stringer.
func (k Kind) String() string {
	switch k {
	case NoCredential:
		return "a credential is needed"
	case Expired:
		return "the credential has expired"
	case Unverified:
		return "the keys of the token's issuer cannot be fetched"
	case BadCredential:
	}
	return "the credential is not valid"
}

// An Error says that credentials were refused. Its text is for the caller, and
// tells nothing but the kind; what it wraps is for the log, and holds no part of a
// key or a signature.
type Error struct {
	Kind  Kind
	cause error
}

// Error implements error.
func (e *Error) Error() string { return e.Kind.String() }

// Unwrap returns what was wrong.
func (e *Error) Unwrap() error { return e.cause }

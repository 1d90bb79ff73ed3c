package config

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// Secret is a text that does not show up in logs, dumps and error messages.
// Only a conversion to string reveals it.
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML use too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format implements fmt.Formatter: %#v and %x would get past String.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) } //nolint:errcheck // nowhere to report it

// Bytes is a size, written like 512KiB or 4MiB.
type Bytes int64

// Largest first: String takes the first unit that fits.
var byteUnits = []struct {
	name string
	size Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	number, unit := string(text), Bytes(1)
	for _, u := range byteUnits {
		if digits, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = digits, u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || Bytes(n) > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size; it must look like 4MiB, 512KiB or 1000", text)
	}
	*b = Bytes(n) * unit
	return nil
}

// String implements fmt.Stringer.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return "0B"
}

// Rate is a number of calls per time, written like 500/s or 1000/min. The zero
// Rate has no limit.
type Rate struct {
	Calls int // 0 is unlimited
	Per   time.Duration
}

const (
	unlimited = "unlimited"
	mostCalls = 1_000_000 // more is no limit, but a slip of the pen
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(text []byte) error {
	if string(text) == unlimited {
		*r = Rate{}
		return nil
	}
	number, unit, _ := strings.Cut(string(text), "/")
	per := map[string]time.Duration{"s": time.Second, "min": time.Minute}[unit]
	// ParseUint takes no sign. None at all is not what anybody means by a quota.
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || per == 0 || n == 0 || n > mostCalls {
		return fmt.Errorf("%q is not a rate; it must look like 500/s or 1000/min, from 1 to %d, or be %s", text, mostCalls, unlimited)
	}
	*r = Rate{Calls: int(n), Per: per}
	return nil
}

// String implements fmt.Stringer.
func (r Rate) String() string {
	unit := r.Per.String()
	switch {
	case r.Calls == 0:
		return unlimited
	case r.Per == time.Second:
		unit = "s"
	case r.Per == time.Minute:
		unit = "min"
	}
	return strconv.Itoa(r.Calls) + "/" + unit
}

// Quotas are rates by the name of a class of operations or of an RPC, written
// like SendMessage=500/s;batch-send=1000/min.
type Quotas map[string]Rate

// UnmarshalText implements encoding.TextUnmarshaler. It adds to what there is,
// for a flag may be given more than once.
func (q *Quotas) UnmarshalText(text []byte) error {
	if *q == nil {
		*q = Quotas{}
	}
	for pair := range strings.SplitSeq(string(text), ";") {
		name, rate, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q must look like SendMessage=500/s", pair)
		}
		if _, twice := (*q)[name]; twice {
			return fmt.Errorf("%s has two rates: keep one", name)
		}
		var r Rate
		if err := r.UnmarshalText([]byte(rate)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		(*q)[name] = r
	}
	return nil
}

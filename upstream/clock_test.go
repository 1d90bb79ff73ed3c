package upstream

import (
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/credentials"
)

// TestClockSkew checks that a clock that is off is named as such, and not retried.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ahead time.Duration
		code  string
		want  string
	}{
		"far behind":           {5 * time.Minute, `{"code":403}`, apierror.ClockSkewed},
		"far ahead":            {-5 * time.Minute, `{"code":414}`, apierror.ClockSkewed},
		"off, but not by much": {4 * time.Minute, `{"code":403}`, "FORBIDDEN"},
		"another code":         {time.Hour, `{"code":404}`, "GONE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen recorder
			c := persistent(t, newServer(t, func(w http.ResponseWriter, r *http.Request) {
				seen.note(r.Header)
				w.Header().Set("Date", testNow.Add(tt.ahead).UTC().Format(http.TimeFormat))
				answer(http.StatusOK, tt.code)(w, r)
			}).URL)
			e := c.fail(WithCallInfo(t.Context(), CallInfo{IdempotencyKey: "k"}), t, writeThing)
			if e.Reason != tt.want || len(seen.all()) != 1 || e.UpstreamCode == 0 {
				t.Errorf("%s (%d) after %d requests", e.Reason, e.UpstreamCode, len(seen.all()))
			}
			if tt.want == apierror.ClockSkewed && (e.Code != codes.FailedPrecondition || e.RetryAfter() != 0) {
				t.Errorf("%s, retry after %v", e.Code, e.RetryAfter())
			}
			if got := c.clock.Skew(); got.Round(time.Second) != tt.ahead {
				t.Errorf("measured %v", got)
			}
		})
	}
}

// TestClockWarning checks that a clock is warned of once a minute, and that an
// answer without a time says nothing.
func TestClockWarning(t *testing.T) {
	t.Parallel()
	now := testNow
	c := credentials.Clock{Now: func() time.Time { return now }}
	warned := 0
	for range 121 {
		if skew, warn := c.Compare(now.Add(2 * time.Minute).Format(http.TimeFormat)); warn {
			warned++
		} else if skew.Round(time.Second) != 2*time.Minute {
			t.Fatalf("skew %v", skew)
		}
		now = now.Add(time.Second)
	}
	if warned != 3 {
		t.Errorf("%d warnings in two minutes", warned)
	}
	if _, warn := c.Compare(now.Format(http.TimeFormat)); warn {
		t.Error("warned of a good clock")
	}
	if skew, warn := c.Compare("yesterday"); warn || skew != 0 {
		t.Errorf("skew %v", skew)
	}
}

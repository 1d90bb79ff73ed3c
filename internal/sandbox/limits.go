package sandbox

import (
	"time"
	"unicode/utf8"
)

// Limits the upstream documents.
const (
	maxBatch           = 100 // ids of one call
	maxPage            = 100
	maxPinned          = 100
	maxGroupsPerChat   = 5 // groups one conversation may be in
	maxText            = 5000
	maxDescription     = 500 // text of a message that is not text or tip
	maxAttachment      = 5000
	maxExtension       = 1024
	maxPushContent     = 500
	maxPushPayload     = 2048
	maxForcePush       = 100
	maxAntispam        = 1024
	maxReceipts        = 50
	maxReceiptTeam     = 200 // members of a team whose messages may ask for receipts
	maxSearchSenders   = 5
	maxSearchKeywords  = 5
	maxRoomBatch       = 20
	maxHighPriority    = 10 // high priority messages per second and chat room
	modifyWindow       = 7 * 24 * time.Hour
	modifyInterval     = time.Second
	recallWindow       = 2 * time.Minute
	oneWayRecallWindow = 30 * 24 * time.Hour
	streamSilence      = 30 * time.Second
)

// Limits the upstream has but does not document, or that only keep the sandbox
// from growing without bound.
const (
	maxStored           = 10_000 // messages per conversation and per chat room, the oldest go first
	maxGroups           = 100    // groups per account
	maxGroupSize        = 200    // conversations per group
	maxGroupName        = 128
	maxClientID         = 128
	maxTarget           = 200 // accounts in a target list
	maxComments         = 100 // quick comments per message
	maxStreamIndex      = 10_000
	defaultSearchLimit  = 20
	rateWindow          = time.Second
	rateBlock           = time.Second // how long an API stays shut after its limit was hit
	traceWindow         = 10 * time.Minute
	maxTraces           = 4096
	maxTraceBytes       = 64 << 20
	maxLedger           = 1024
	maxLedgerTextLength = 512
)

// checkLength refuses a text with more than limit characters.
func checkLength(name, text string, limit int) *refusal {
	if utf8.RuneCountInString(text) > limit {
		return badParameter("%s is longer than %d characters", name, limit)
	}
	return nil
}

// checkCount refuses an empty list and one with more than limit items.
func checkCount(name string, n, limit int) *refusal {
	if n < 1 || n > limit {
		return badParameter("%s must have 1 to %d items", name, limit)
	}
	return nil
}

// limiter counts the calls of each API in windows of one second.
type limiter struct {
	rate    int // 0 = no limit
	buckets map[*operation]*bucket
}

type bucket struct {
	opened  time.Time
	taken   int
	blocked time.Time // until then everything is refused
}

// take counts one call. The call over the limit shuts the API for a while.
func (l *limiter) take(op *operation, now time.Time) *refusal {
	if l.rate <= 0 {
		return nil
	}
	if l.buckets == nil {
		l.buckets = map[*operation]*bucket{}
	}
	b := l.buckets[op]
	if b == nil {
		b = &bucket{opened: now}
		l.buckets[op] = b
	}
	if now.Before(b.blocked) {
		return refuse(codeRateLimited)
	}
	if now.Sub(b.opened) >= rateWindow {
		b.opened, b.taken = now, 0
	}
	b.taken++
	if b.taken > l.rate {
		b.blocked = now.Add(rateBlock)
		return refuse(codeRateLimited)
	}
	return nil
}

package sandbox

import "time"

// Limits that the upstream documents. Those of texts and lists stand in the tags of
// the requests.
const (
	maxPinned          = 100
	maxGroupsPerChat   = 5 // groups that one conversation may be in
	maxText            = 5000
	maxDescription     = 500 // text of a message that is not text or tip
	maxAttachment      = 5000
	maxForcePush       = 100
	maxReceiptTeam     = 200 // members of a team whose messages may ask for receipts
	maxSearchKeywords  = 5
	maxHighPriority    = 10 // high priority messages per second and chat room
	modifyWindow       = 7 * 24 * time.Hour
	modifyInterval     = time.Second
	recallWindow       = 2 * time.Minute
	oneWayRecallWindow = 30 * 24 * time.Hour
	streamSilence      = 30 * time.Second
)

// Limits that the upstream has but does not document, or that only keep the
// sandbox from growing without bound.
const (
	maxStored          = 10_000 // messages per conversation and per chat room, the oldest go first
	maxGroups          = 100    // groups per account
	maxGroupSize       = 200    // conversations per group
	maxClientID        = 128
	maxComments        = 100 // quick comments per message
	maxStreamIndex     = 10_000
	defaultSearchLimit = 20
)

package sandbox

import "fmt"

// Codes of the upstream that the sandbox answers with. Three digits are global;
// six digits are 1, a two-digit resource (02 account, 07 message, 08 team, ...)
// and a reason.
const (
	codeOK           = 200
	codeForbidden    = 403
	codeNotFound     = 404
	codeBadParameter = 414
	codeRateLimited  = 416
	codeServerError  = 500

	codeUnknownApp = 101303

	codeAccountMissing     = 102404
	codeAccountMuted       = 102421
	codeAccountBanned      = 102422
	codeAccountBlockListed = 102426
	codeNotFriends         = 104404

	codeReceiptTeamTooBig     = 107302
	codeRecallForbidden       = 107303
	codeDuplicateClientID     = 107306
	codeRecallTooLate         = 107314
	codeForcePushLimit        = 107316
	codeCommentLimit          = 107321
	codeNotRobot              = 107329
	codeNobodySenses          = 107330
	codeTeamReceiptOff        = 107331
	codeReceiptMissing        = 107332
	codeAIDisabled            = 107337
	codeTargetedNoDelete      = 107338
	codeTargetHasSender       = 107339
	codeTargetedNoComment     = 107347
	codeMessageMissing        = 107404
	codeRecallToSelf          = 107429
	codeTimeRange             = 107439
	codeModifyTooFast         = 107449
	codeTeamNotAdvanced       = 108302
	codeMembersMuted          = 108306
	codeTargetSuperExclusive  = 108319
	codeTargetSuperNewMember  = 108320
	codeTargetNewMember       = 108321
	codeTeamMissing           = 108404
	codeTeamMuted             = 108423
	codeForcePushOutside      = 109318
	codeNotTeamMember         = 109404
	codeMemberMuted           = 109424
	codeOwnerOrManagerOnly    = 109432
	codeOwnersDiffer          = 110301
	codeOwnerMismatch         = 110302
	codePinLimit              = 110303
	codeTooManyGroups         = 110304
	codeNotPinned             = 110305
	codeConversationMissing   = 110404
	codeRoomTempMuted         = 113301
	codeRoomMissing           = 113404
	codeRoomClosed            = 113406
	codeRoomMuted             = 113423
	codeRoomMemberMissing     = 114404
	codeRoomMemberMuted       = 114421
	codeRoomMemberBlockListed = 114426
	codeGroupMissing          = 116404
	codeGroupLimit            = 116435
	codeGroupFull             = 116437
	codeStreamStopped         = 189318
	codeStreamComplete        = 189319
	codeStreamBroken          = 189320
	codeNotStream             = 189321
)

var codeTexts = map[int]string{
	codeOK:           "success",
	codeForbidden:    "forbidden",
	codeNotFound:     "not found",
	codeBadParameter: "parameter error",
	codeRateLimited:  "rate limit exceeded",
	codeServerError:  "server error",

	codeUnknownApp: "app key not exist",

	codeAccountMissing:     "account not exist",
	codeAccountMuted:       "account muted",
	codeAccountBanned:      "account banned",
	codeAccountBlockListed: "account in block list",
	codeNotFriends:         "not friend",

	codeReceiptTeamTooBig:     "too many team members for read receipts",
	codeRecallForbidden:       "only sender or manager can recall",
	codeDuplicateClientID:     "duplicate message client id",
	codeRecallTooLate:         "recall time limit exceeded",
	codeForcePushLimit:        "force push list limit",
	codeCommentLimit:          "quick comment limit",
	codeNotRobot:              "not robot account",
	codeNobodySenses:          "sender and receiver both no sense",
	codeTeamReceiptOff:        "team read receipt off",
	codeReceiptMissing:        "team read receipt record not exist",
	codeAIDisabled:            "ai message disabled",
	codeTargetedNoDelete:      "targeted message can not be recalled or deleted one-way",
	codeTargetHasSender:       "target list contains sender",
	codeTargetedNoComment:     "targeted message can not be commented",
	codeMessageMissing:        "message not exist",
	codeRecallToSelf:          "message to self can not be recalled",
	codeTimeRange:             "time range error",
	codeModifyTooFast:         "message modified more than once per second",
	codeTeamNotAdvanced:       "not advanced team",
	codeMembersMuted:          "team normal members muted",
	codeTargetSuperExclusive:  "super team message can not exclude members",
	codeTargetSuperNewMember:  "super team message can not be visible to new members",
	codeTargetNewMember:       "message for listed members can not be visible to new members",
	codeTeamMissing:           "team not exist",
	codeTeamMuted:             "team muted",
	codeForcePushOutside:      "force push list outside of target list",
	codeNotTeamMember:         "team member not exist",
	codeMemberMuted:           "team member muted",
	codeOwnerOrManagerOnly:    "team owner or manager only",
	codeOwnersDiffer:          "conversations of different accounts",
	codeOwnerMismatch:         "conversation and account mismatch",
	codePinLimit:              "stick top conversation limit",
	codeTooManyGroups:         "conversation in too many groups",
	codeNotPinned:             "conversation not stick top",
	codeConversationMissing:   "conversation not exist",
	codeRoomTempMuted:         "chatroom member temporarily muted",
	codeRoomMissing:           "chatroom not exist",
	codeRoomClosed:            "chatroom closed",
	codeRoomMuted:             "chatroom muted",
	codeRoomMemberMissing:     "chatroom member not exist",
	codeRoomMemberMuted:       "chatroom member muted",
	codeRoomMemberBlockListed: "chatroom member in block list",
	codeGroupMissing:          "group not exist",
	codeGroupLimit:            "group limit",
	codeGroupFull:             "conversations in group limit",
	codeStreamStopped:         "stream stopped",
	codeStreamComplete:        "stream already complete",
	codeStreamBroken:          "stream broken off",
	codeNotStream:             "not a stream message",
}

// refusal is the answer to a call, or to one item of a batch, that is not
// carried out. It is no error: refusing is a result like any other.
type refusal struct {
	code int
	msg  string
}

func refuse(code int) *refusal {
	text, known := codeTexts[code]
	if !known {
		text = fmt.Sprintf("code %d", code)
	}
	return &refusal{code, text}
}

// refusef adds to the code's text what is wrong with this call.
func refusef(code int, format string, args ...any) *refusal {
	return &refusal{code, codeTexts[code] + ": " + fmt.Sprintf(format, args...)}
}

func badParameter(format string, args ...any) *refusal {
	return refusef(codeBadParameter, format, args...)
}

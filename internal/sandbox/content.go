package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
)

// Message types that can be sent.
const (
	typeText   = 0
	typeTip    = 10
	typeCustom = 100
)

var (
	sendableTypes = []int{typeText, 1, 2, 3, 4, 6, typeTip, typeCustom}
	// queryTypes joins the filter values of v2 (notification 5, robot 11) and
	// v2.1 (call record 12).
	queryTypes = []int{typeText, 1, 2, 3, 4, 5, 6, typeTip, 11, 12, typeCustom}
)

// messageBody is the member "message" of whatever sends or modifies.
type messageBody struct {
	MessageType *int            `json:"message_type" required:"true"`
	SubType     int             `json:"sub_type"`
	Text        string          `json:"text"`
	Attachment  json.RawMessage `json:"attachment"`
}

// content checks the body: text and tip need a text, all others an attachment.
func (b *messageBody) content() (content, *refusal) {
	made := content{messageType: *b.MessageType, subType: b.SubType, text: b.Text}
	if !slices.Contains(sendableTypes, made.messageType) {
		return content{}, badParameter("message_type %d can not be sent", made.messageType)
	}
	if b.SubType < 0 {
		return content{}, badParameter("sub_type must be positive")
	}
	if b.Attachment != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, b.Attachment); err != nil {
			return content{}, badParameter("attachment: %v", err)
		}
		made.attachment = compact.Bytes()
		if made.attachment[0] != '{' {
			return content{}, badParameter("attachment must be an object")
		}
	}
	longest := maxDescription
	if made.messageType == typeText || made.messageType == typeTip {
		longest = maxText
		if b.Text == "" {
			return content{}, badParameter("text is required for message_type %d", made.messageType)
		}
	} else if made.attachment == nil {
		return content{}, badParameter("attachment is required for message_type %d", made.messageType)
	}
	return made, cmp.Or(
		checkLength("text", b.Text, longest),
		checkLength("attachment", string(made.attachment), maxAttachment),
	)
}

// delivery holds the members that sending and modifying have in common. Those
// that only concern push services, content review and copies to the app's
// server are checked and have no further effect.
type delivery struct {
	RouteConfig     *routeConfig    `json:"route_config"`
	PushConfig      *pushConfig     `json:"push_config"`
	AntispamConfig  *antispamConfig `json:"antispam_config"`
	P2POption       p2pOption       `json:"p2p_option"`
	TeamOption      teamOption      `json:"team_option"`
	SuperTeamOption teamOption      `json:"superteam_option"`
	Extension       *string         `json:"extension"`
}

type routeConfig struct {
	RouteEnabled     bool   `json:"route_enabled"`
	RouteEnvironment string `json:"route_environment"`
}

type pushConfig struct {
	PushEnabled      bool        `json:"push_enabled"`
	PushNickEnabled  bool        `json:"push_nick_enabled"`
	PushContent      string      `json:"push_content"`
	PushPayload      string      `json:"push_payload"`
	ForcePushEnable  bool        `json:"push_forcepush_enable"`
	ForcePushAll     bool        `json:"push_forcepush_all"`
	ForcePushIDs     []accountID `json:"push_forcepush_ids"`
	ForcePushContent string      `json:"push_forcepush_content"`
}

func (p *pushConfig) check() *refusal {
	if p == nil {
		return nil
	}
	if len(p.ForcePushIDs) > maxForcePush {
		return refuse(codeForcePushLimit)
	}
	return cmp.Or(
		checkLength("push_content", p.PushContent, maxPushContent),
		checkLength("push_payload", p.PushPayload, maxPushPayload),
		checkLength("push_forcepush_content", p.ForcePushContent, maxPushContent),
	)
}

type antispamConfig struct {
	Enabled              bool   `json:"antispam_enabled"`
	BusinessID           string `json:"antispam_business_id"`
	Extension            string `json:"antispam_extension"`
	Cheating             string `json:"antispam_cheating"`
	CustomMessageEnabled bool   `json:"antispam_custom_message_enabled"`
	CustomMessage        string `json:"antispam_custom_message"`
}

func (a *antispamConfig) check() *refusal {
	if a == nil {
		return nil
	}
	return cmp.Or(
		checkLength("antispam_extension", a.Extension, maxAntispam),
		checkLength("antispam_cheating", a.Cheating, maxAntispam),
		checkLength("antispam_custom_message", a.CustomMessage, maxText),
	)
}

type p2pOption struct {
	CheckFriend bool `json:"check_friend"`
}

// teamOption is team_option and superteam_option; only the former has
// mark_as_read.
type teamOption struct {
	MarkAsRead             bool  `json:"mark_as_read"`
	IgnoreChatBanned       bool  `json:"ignore_chat_banned"`
	IgnoreMemberChatBanned bool  `json:"ignore_member_chat_banned"`
	CheckTeamMemberValid   *bool `json:"check_team_member_valid"`
}

// check looks at everything that can be judged without the state.
func (d *delivery) check() *refusal {
	if bad := cmp.Or(d.PushConfig.check(), d.AntispamConfig.check()); bad != nil {
		return bad
	}
	return checkLength("extension", value(d.Extension), maxExtension)
}

// value is what p points to, or zero.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// mayPost decides whether an account may send to, or edit in, a conversation.
func (c *call) mayPost(id conversationID, d *delivery) *refusal {
	sender, bad := c.account(id.owner)
	if bad != nil {
		return bad
	}
	switch {
	case sender.banned:
		return refuse(codeAccountBanned)
	case sender.muted:
		return refuse(codeAccountMuted)
	}
	_, t, bad := c.ends(id)
	switch {
	case bad != nil:
		return bad
	case id.kind == kindP2P:
		return c.mayWrite(sender, c.accounts[accountID(id.id)], d.P2POption)
	case id.kind == kindTeam:
		return t.mayPost(sender.id, d.TeamOption)
	default:
		return t.mayPost(sender.id, d.SuperTeamOption)
	}
}

func (c *call) mayWrite(sender, receiver *account, o p2pOption) *refusal {
	switch {
	case receiver.blocked[sender.id]:
		return refuse(codeAccountBlockListed)
	case o.CheckFriend && !sender.friends[receiver.id]:
		return refuse(codeNotFriends)
	}
	return nil
}

func (t *team) mayPost(sender accountID, o teamOption) *refusal {
	checkMember := o.CheckTeamMemberValid == nil || *o.CheckTeamMemberValid
	switch {
	case checkMember && !t.members[sender]:
		return refuse(codeNotTeamMember)
	case !o.IgnoreChatBanned && t.mute == muteAll:
		return refuse(codeTeamMuted)
	case !o.IgnoreChatBanned && t.mute == muteMembers && !t.leads(sender):
		return refuse(codeMembersMuted)
	case !o.IgnoreMemberChatBanned && t.muted[sender]:
		return refuse(codeMemberMuted)
	}
	return nil
}

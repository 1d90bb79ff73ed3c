package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
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
func (b *messageBody) content() (content, *engine.Refusal) {
	made := content{MessageType: *b.MessageType, SubType: b.SubType, Text: b.Text}
	if !slices.Contains(sendableTypes, made.MessageType) {
		return content{}, engine.BadParameter("message_type %d can not be sent", made.MessageType)
	}
	if b.SubType < 0 {
		return content{}, engine.BadParameter("sub_type must be positive")
	}
	if b.Attachment != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, b.Attachment); err != nil {
			return content{}, engine.BadParameter("attachment: %v", err)
		}
		made.Attachment = compact.Bytes()
		if made.Attachment[0] != '{' {
			return content{}, engine.BadParameter("attachment must be an object")
		}
	}
	longest := maxDescription
	if made.MessageType == typeText || made.MessageType == typeTip {
		longest = maxText
		if b.Text == "" {
			return content{}, engine.BadParameter("text is required for message_type %d", made.MessageType)
		}
	} else if made.Attachment == nil {
		return content{}, engine.BadParameter("attachment is required for message_type %d", made.MessageType)
	}
	return made, cmp.Or(
		engine.CheckLength("text", b.Text, longest),
		engine.CheckLength("attachment", string(made.Attachment), maxAttachment),
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
	Extension       *string         `json:"extension" max:"1024"`
}

type routeConfig struct {
	RouteEnabled     bool   `json:"route_enabled"`
	RouteEnvironment string `json:"route_environment"`
}

type pushConfig struct {
	PushEnabled      bool        `json:"push_enabled"`
	PushNickEnabled  bool        `json:"push_nick_enabled"`
	PushContent      string      `json:"push_content" max:"500"`
	PushPayload      string      `json:"push_payload" max:"2048"`
	ForcePushEnable  bool        `json:"push_forcepush_enable"`
	ForcePushAll     bool        `json:"push_forcepush_all"`
	ForcePushIDs     []accountID `json:"push_forcepush_ids"`
	ForcePushContent string      `json:"push_forcepush_content" max:"500"`
}

func (p *pushConfig) check() *engine.Refusal {
	if p == nil {
		return nil
	}
	if len(p.ForcePushIDs) > maxForcePush {
		return codeForcePushLimit.Refuse()
	}
	return nil
}

type antispamConfig struct {
	Enabled              bool   `json:"antispam_enabled"`
	BusinessID           string `json:"antispam_business_id"`
	Extension            string `json:"antispam_extension" max:"1024"`
	Cheating             string `json:"antispam_cheating" max:"1024"`
	CustomMessageEnabled bool   `json:"antispam_custom_message_enabled"`
	CustomMessage        string `json:"antispam_custom_message" max:"5000"`
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

// Check looks at everything that can be judged without the state.
func (d *delivery) Check() *engine.Refusal {
	return d.PushConfig.check()
}

// value is what p points to, or zero.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// mayPost decides whether an account may send to, or edit in, a conversation.
func (c *call) mayPost(id conversationID, d *delivery) *engine.Refusal {
	sender, bad := c.account(id.owner)
	if bad != nil {
		return bad
	}
	switch {
	case sender.banned:
		return codeAccountBanned.Refuse()
	case sender.muted:
		return codeAccountMuted.Refuse()
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

func (c *call) mayWrite(sender, receiver *account, o p2pOption) *engine.Refusal {
	switch {
	case receiver.blocked[sender.id]:
		return codeAccountBlockListed.Refuse()
	case o.CheckFriend && !sender.friends[receiver.id]:
		return codeNotFriends.Refuse()
	}
	return nil
}

func (t *team) mayPost(sender accountID, o teamOption) *engine.Refusal {
	checkMember := o.CheckTeamMemberValid == nil || *o.CheckTeamMemberValid
	switch {
	case checkMember && !t.members[sender]:
		return codeNotTeamMember.Refuse()
	case !o.IgnoreChatBanned && t.mute == muteAll:
		return codeTeamMuted.Refuse()
	case !o.IgnoreChatBanned && t.mute == muteMembers && !t.leads(sender):
		return codeMembersMuted.Refuse()
	case !o.IgnoreMemberChatBanned && t.muted[sender]:
		return codeMemberMuted.Refuse()
	}
	return nil
}

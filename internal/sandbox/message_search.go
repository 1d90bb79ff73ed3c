package sandbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var messageSearchOperations = []operation{
	engine.Read("GET", "messages/actions/search_messages", searchMessages).WithV21(),
}

type searchRequest struct {
	OperatorID     accountID       `query:"operator_id" required:"true"`
	ConversationID *conversationID `query:"conversation_id"`
	Senders        []accountID     `query:"sender_account_ids" max:"5"`
	Types          []int           `query:"message_types"`
	SubTypes       []int           `query:"message_sub_types"`
	StartTime      *int64          `query:"start_time"`
	TimePeriod     *int64          `query:"time_period"`
	KeywordList    keywords        `query:"keyword_list"`
	MatchType      int             `query:"keyword_match_type"`
	Direction      *int            `query:"direction"`
	Diretion       *int            `query:"diretion"` // the spelling of the upstream's change log
	PageToken      string          `query:"page_token"`
	Limit          *int            `query:"limit"`
}

// keywords are a JSON array inside one query value, in lower case.
type keywords struct{ words []string }

// UnmarshalText parses the array.
func (k *keywords) UnmarshalText(text []byte) error {
	if json.Unmarshal([]byte(strings.ToLower(string(text))), &k.words) != nil {
		return errors.New("must be a JSON array of strings")
	}
	return nil
}

// match reports whether a text contains any of the words, or all of them.
func (k keywords) match(text string, all bool) bool {
	if len(k.words) == 0 {
		return true
	}
	text = strings.ToLower(text)
	missing := func(word string) bool { return !strings.Contains(text, word) }
	present := func(word string) bool { return !missing(word) }
	if all {
		return !slices.ContainsFunc(k.words, missing)
	}
	return slices.ContainsFunc(k.words, present)
}

func (r *searchRequest) Check() *engine.Refusal {
	switch {
	case len(r.Senders) == 0 && len(r.Types) == 0 && len(r.KeywordList.words) == 0:
		return engine.BadParameter("one of sender_account_ids, message_types, keyword_list is required")
	case len(r.KeywordList.words) > maxSearchKeywords:
		return engine.BadParameter("keyword_list has more than %d items", maxSearchKeywords)
	case r.MatchType != 0 && r.MatchType != 1:
		return engine.BadParameter("keyword_match_type must be 0 or 1")
	case r.TimePeriod != nil && *r.TimePeriod < 0:
		return engine.BadParameter("time_period must not be negative")
	case r.ConversationID != nil && r.ConversationID.owner != r.OperatorID:
		return engine.BadParameter("conversation_id is not the operator's")
	case r.Direction != nil && r.Diretion != nil && *r.Direction != *r.Diretion:
		return engine.BadParameter("direction and diretion differ")
	}
	for _, direction := range []*int{r.Direction, r.Diretion} {
		if d := value(direction); d != 0 && d != 1 {
			return engine.BadParameter("direction must be 0 or 1")
		}
	}
	return checkTypes(r.Types)
}

// window looks back from the start time (now, if there is none), or forward
// from it (from the beginning), as far as the period goes.
func (r *searchRequest) window(now int64) (engine.Window, *engine.Refusal) {
	limit, bad := engine.PageSize(r.Limit, defaultSearchLimit)
	w := engine.Window{Limit: limit, Token: r.PageToken}
	if value(r.Direction) == 1 || value(r.Diretion) == 1 {
		w.Oldest, w.Begin, w.End = true, value(r.StartTime), forever
		if r.TimePeriod != nil && *r.TimePeriod < forever-max(0, w.Begin) {
			w.End = w.Begin + *r.TimePeriod
		}
		return w, bad
	}
	w.End = now
	if r.StartTime != nil {
		w.End = *r.StartTime
	}
	w.Begin = min(0, w.End)
	if r.TimePeriod != nil && w.End > *r.TimePeriod {
		w.Begin = w.End - *r.TimePeriod
	}
	return w, bad
}

type searchPage struct {
	Count     int             `json:"count"`
	HasMore   bool            `json:"has_more"`
	NextToken string          `json:"next_token"` // empty text on the last page
	Items     []storedMessage `json:"items"`
}

func searchMessages(c *call, r *searchRequest) (any, *engine.Refusal) {
	w, bad := r.window(c.Millis())
	if bad != nil {
		return nil, bad
	}
	operator, bad := c.account(r.OperatorID)
	if bad != nil {
		return nil, bad
	}
	var matches []*message
	for ch, log := range c.logs {
		if !c.takesPart(operator, ch) || r.ConversationID != nil && r.ConversationID.channel() != ch {
			continue
		}
		for _, m := range log.messages {
			if w.Begin <= m.createTime && m.createTime <= w.End && r.matches(m) && c.readable(m, operator, false) {
				matches = append(matches, m)
			}
		}
	}
	slices.SortFunc(matches, func(a, b *message) int { return cmp.Compare(a.serverID, b.serverID) })
	page, next, bad := engine.Pick(w, matches)
	if bad != nil {
		return nil, bad
	}
	return searchPage{len(matches), next != "", next, engine.Apply(page, c.stored)}, nil
}

func (c *call) takesPart(a *account, ch channel) bool {
	if ch.kind == kindP2P {
		return ch.a == string(a.id) || ch.b == string(a.id)
	}
	return c.teams[peer{ch.kind, ch.a}].members[a.id]
}

// matches looks at everything but time and visibility. Only the text of a
// message is searched, never its attachment.
func (r *searchRequest) matches(m *message) bool {
	return oneOf(r.Senders, m.sender) &&
		oneOf(r.Types, m.MessageType) &&
		oneOf(r.SubTypes, m.SubType) &&
		r.KeywordList.match(m.Text, r.MatchType == 1)
}

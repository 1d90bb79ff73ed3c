package sandbox

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// stream is what makes a message one that comes in pieces. The message stands
// in its log from the first piece on, but history shows it only once the stream
// is over.
type stream struct {
	pieces   map[int]string
	length   int // characters of all pieces
	last     time.Time
	complete bool // the last piece came
	broken   bool // too many characters came
}

// open tells whether more pieces are taken. Silence ends a stream without
// anything happening, so there is nothing to be done at that moment.
func (s *stream) open(now time.Time) bool {
	return !s.complete && !s.broken && now.Sub(s.last) <= streamSilence
}

// text joins the pieces that came, by index.
func (s *stream) text() string {
	var b strings.Builder
	for _, i := range slices.Sorted(maps.Keys(s.pieces)) {
		b.WriteString(s.pieces[i])
	}
	return b.String()
}

type streamPiece struct {
	Text   *string `json:"text" required:"true"`
	Index  int     `json:"index"`
	Finish int     `json:"finish"`
}

type streamRequest struct {
	ID      conversationID `path:"conversation_id"`
	Message struct {
		ClientID    string      `json:"message_client_id"`
		ServerID    int64       `json:"message_server_id"`
		MessageType int         `json:"message_type"`
		Attachment  streamPiece `json:"attachment" required:"true"`
	} `json:"message" required:"true"`
	sendOptions
	TargetOption *targetOption `json:"target_option"`
	ThreadConfig *threadConfig `json:"thread_config"`
	RAGInfoList  []struct {
		Name        string `json:"name"`
		Icon        string `json:"icon"`
		Title       string `json:"title"`
		Time        int64  `json:"time"`
		URL         string `json:"url"`
		Description string `json:"description"`
	} `json:"rag_info_list"`
}

type pieceTaken struct {
	MessageServerID  int64       `json:"message_server_id"`
	MessageClientID  string      `json:"message_client_id"`
	SenderID         accountID   `json:"sender_id"`
	ConversationType int         `json:"conversation_type"`
	ReceiverID       string      `json:"receiver_id"`
	CreateTime       int64       `json:"create_time"`
	MessageType      int         `json:"message_type"`
	Attachment       streamPiece `json:"attachment"`
}

func (r *streamRequest) check() *refusal {
	piece := r.Message.Attachment
	switch {
	case r.ID.kind == kindSuperTeam:
		return badParameter("streams are not for super teams")
	case r.Message.MessageType != typeText:
		return badParameter("message_type of a stream must be 0")
	case piece.Index < 0 || piece.Index > maxStreamIndex:
		return badParameter("attachment.index must be 0 to %d", maxStreamIndex)
	case piece.Finish != 0 && piece.Finish != 1:
		return badParameter("attachment.finish must be 0 or 1")
	case r.Message.ServerID == 0 && r.Message.ClientID == "":
		return badParameter("message_client_id is required in the first piece, message_server_id in later ones")
	}
	return r.sendOptions.check()
}

// sendStreamPiece takes one piece. The flags of the first count for all.
func sendStreamPiece(c *call, r *streamRequest) (any, *refusal) {
	if bad := r.check(); bad != nil {
		return nil, bad
	}
	take := c.startStream
	if r.Message.ServerID != 0 {
		take = c.continueStream
	}
	m, bad := take(r)
	if bad != nil {
		return nil, bad
	}
	return pieceTaken{
		MessageServerID: m.serverID, MessageClientID: m.clientID, SenderID: m.sender,
		ConversationType: m.to.kind, ReceiverID: m.to.id, CreateTime: m.createTime,
		MessageType: m.messageType, Attachment: r.Message.Attachment,
	}, nil
}

func (c *call) startStream(r *streamRequest) (*message, *refusal) {
	piece := r.Message.Attachment
	if bad := checkLength("attachment.text", *piece.Text, maxText); bad != nil {
		return nil, bad
	}
	m, bad := c.compose(r.ID, &draft{
		content:  content{messageType: typeText},
		clientID: r.Message.ClientID, options: &r.sendOptions,
		target: r.TargetOption, thread: r.ThreadConfig,
	})
	if bad != nil {
		return nil, bad
	}
	m.stream = &stream{pieces: map[int]string{}}
	c.addPiece(m, piece)
	c.deliver(m, enabled(r.MessageConfig.ConversationUpdateEnabled))
	return m, nil
}

func (c *call) continueStream(r *streamRequest) (*message, *refusal) {
	m := c.messages[r.Message.ServerID]
	if m == nil || m.channel() != r.ID.channel() || m.sender != r.ID.owner {
		return nil, refusef(codeMessageMissing, "%d", r.Message.ServerID)
	}
	switch {
	case m.stream == nil:
		return nil, refuse(codeNotStream)
	case m.fate != kept:
		return nil, refuse(codeStreamStopped)
	case m.stream.complete:
		return nil, refuse(codeStreamComplete)
	case !m.stream.open(c.now):
		return nil, refuse(codeStreamBroken)
	}
	piece := r.Message.Attachment
	if have, again := m.stream.pieces[piece.Index]; again {
		if have != *piece.Text {
			return nil, badParameter("attachment.index %d came before with another text", piece.Index)
		}
	} else if m.stream.length+utf8.RuneCountInString(*piece.Text) > maxText {
		m.stream.broken = true
		return nil, refusef(codeStreamBroken, "text is longer than %d characters", maxText)
	}
	c.addPiece(m, piece)
	c.refresh(m)
	return m, nil
}

// addPiece adds a piece to the message's text; one that came before only keeps
// the stream alive or ends it.
func (c *call) addPiece(m *message, piece streamPiece) {
	s := m.stream
	if _, again := s.pieces[piece.Index]; !again {
		s.pieces[piece.Index] = *piece.Text
		s.length += utf8.RuneCountInString(*piece.Text)
	}
	s.last, s.complete = c.now, piece.Finish == 1
	m.text = s.text()
	if s.complete {
		s.pieces = nil
	}
}

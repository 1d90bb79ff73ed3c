package sandbox

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/yunxin-facade/yunxin-facade/internal/sandbox/engine"
)

var messageStreamOperations = []operation{
	engine.Write("POST", "conversations/{conversation_id}/messages/actions/stream_message", sendStreamPiece),
}

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

// open reports whether more pieces are taken. Silence ends a stream without
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
		ClientID    string      `json:"message_client_id" max:"128"`
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

func (r *streamRequest) Check() *engine.Refusal {
	piece := r.Message.Attachment
	switch {
	case r.ID.kind == kindSuperTeam:
		return engine.BadParameter("streams are not for super teams")
	case r.Message.MessageType != typeText:
		return engine.BadParameter("message_type of a stream must be 0")
	case piece.Index < 0 || piece.Index > maxStreamIndex:
		return engine.BadParameter("attachment.index must be 0 to %d", maxStreamIndex)
	case piece.Finish != 0 && piece.Finish != 1:
		return engine.BadParameter("attachment.finish must be 0 or 1")
	case r.Message.ServerID == 0 && r.Message.ClientID == "":
		return engine.BadParameter("message_client_id is required in the first piece, message_server_id in later ones")
	}
	return r.sendOptions.Check()
}

// sendStreamPiece takes one piece. The flags of the first count for all.
func sendStreamPiece(c *call, r *streamRequest) (any, *engine.Refusal) {
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
		MessageType: m.MessageType, Attachment: r.Message.Attachment,
	}, nil
}

func (c *call) startStream(r *streamRequest) (*message, *engine.Refusal) {
	piece := r.Message.Attachment
	if bad := engine.CheckLength("attachment.text", *piece.Text, maxText); bad != nil {
		return nil, bad
	}
	m, bad := c.compose(r.ID, &draft{
		content:  content{MessageType: typeText},
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

func (c *call) continueStream(r *streamRequest) (*message, *engine.Refusal) {
	m := c.messages[r.Message.ServerID]
	if m == nil || m.channel() != r.ID.channel() || m.sender != r.ID.owner {
		return nil, codeMessageMissing.Refusef("%d", r.Message.ServerID)
	}
	switch {
	case m.stream == nil:
		return nil, codeNotStream.Refuse()
	case m.fate != kept:
		return nil, codeStreamStopped.Refuse()
	case m.stream.complete:
		return nil, codeStreamComplete.Refuse()
	case !m.stream.open(c.Now):
		return nil, codeStreamBroken.Refuse()
	}
	piece := r.Message.Attachment
	if have, again := m.stream.pieces[piece.Index]; again {
		if have != *piece.Text {
			return nil, engine.BadParameter("attachment.index %d came before with another text", piece.Index)
		}
	} else if m.stream.length+utf8.RuneCountInString(*piece.Text) > maxText {
		m.stream.broken = true
		return nil, codeStreamBroken.Refusef("text is longer than %d characters", maxText)
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
	s.last, s.complete = c.Now, piece.Finish == 1
	m.Text = s.text()
	if s.complete {
		s.pieces = nil
	}
}

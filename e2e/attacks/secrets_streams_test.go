package attacks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// pace is the time between two pages, or two pieces of a text: longer than the
// server takes to merge pieces.
const pace = 250 * time.Millisecond

// talks are streams that are open over all swaps. At each door there is one that
// reads a history and one that sends a text in pieces. Both go on as what they were
// begun with, whatever becomes of that.
type talks struct {
	received [2]atomic.Int64 // pages and acknowledged pieces
	end      func()          // ends them as they should end
}

// A talk is an open stream.
type talk struct {
	receive func() (characters int32, err error)       // io.EOF at the proper end
	send    func(*imv1.SendStreamMessageRequest) error // nil if it only reads
	close   func() error                               // that there is no more to send
}

// talk begins the streams, and waits until all have.
func (v *vault) talk(tb testing.TB) *talks {
	tb.Helper()
	c := &talks{}
	done := make(chan struct{})
	var begun, all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for _, d := range v.doors {
		for kind, open := range []func(context.Context, ...string) (talk, error){d.read, d.write} {
			begun.Add(1)
			all.Go(func() {
				first := sync.OnceFunc(begun.Done)
				defer first()
				pairs, leave := d.show()
				defer leave()
				t, err := open(ctx, pairs...)
				if err == nil {
					err = t.run(v.marker, done, func() {
						leave()
						first()
						c.received[kind].Add(1)
					})
				}
				if err != nil {
					tb.Errorf("a stream with %q, over REST %t: %v", d.header, d.isREST, err)
				}
			})
		}
	}
	c.end = sync.OnceFunc(func() {
		v.upstream.ending.Store(true)
		close(done)
		tired := time.AfterFunc(patience, cancel)
		defer tired.Stop()
		all.Wait()
		cancel()
	})
	begun.Wait()
	return c
}

func (c *talks) judge(t *testing.T) {
	t.Helper()
	t.Logf("streams over all swaps: %d pages read, %d pieces acknowledged", c.received[0].Load(), c.received[1].Load())
}

// run keeps a stream going until all is done, and wants it to end then, and whole.
func (t talk) run(text string, done <-chan struct{}, received func()) error {
	var sending sync.WaitGroup
	var sent int
	var failed error
	if t.send != nil {
		sending.Go(func() { sent, failed = t.speak(text, done) })
	}
	acknowledged := 0
	for {
		characters, err := t.receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err // which ends speak too
		}
		acknowledged = int(characters)
		received()
	}
	select {
	case <-done:
	default:
		return errors.New("it ended by itself")
	}
	sending.Wait()
	if failed == nil && acknowledged != sent {
		failed = fmt.Errorf("%d characters were sent, and %d acknowledged", sent, acknowledged)
	}
	return failed
}

// speak sends a text, and then more of it, piece by piece.
func (t talk) speak(text string, done <-chan struct{}) (characters int, err error) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	request := &imv1.SendStreamMessageRequest{Start: &imv1.StreamMessageStart{ConversationId: "alice|1|bob"}, Text: text}
	for {
		if err := t.send(request); err != nil {
			return characters, err
		}
		characters += len(request.GetText())
		request = &imv1.SendStreamMessageRequest{Text: "."}
		select {
		case <-tick.C:
		case <-done:
			return characters, t.close()
		}
	}
}

// read opens a stream of a history that goes on until the upstream ends it.
func (d *door) read(ctx context.Context, pairs ...string) (talk, error) {
	if d.isREST {
		return talk{receive: d.lines(ctx, http.MethodGet, messages+":stream?begin_time=2024-01-01T00:00:00Z&end_time=2025-01-01T00:00:00Z", http.NoBody, pairs...)}, nil
	}
	conn, leave := d.conn.take()
	stream, err := imv1.NewMessageServiceClient(conn).StreamMessages(metadata.AppendToOutgoingContext(ctx, pairs...), &imv1.ListMessagesRequest{
		ConversationId: "alice|1|bob", BeginTime: timestamppb.New(time.Unix(1, 0)), EndTime: timestamppb.New(time.Unix(2, 0)),
	})
	if err != nil {
		leave()
		return talk{}, err
	}
	context.AfterFunc(stream.Context(), leave) //nolint:contextcheck // ends with the stream
	return talk{receive: func() (int32, error) {
		_, err := stream.Recv()
		return 0, err
	}}, nil
}

// write opens a stream of a text in pieces.
func (d *door) write(ctx context.Context, pairs ...string) (talk, error) {
	if d.isREST {
		body, pieces := io.Pipe()
		send := func(request *imv1.SendStreamMessageRequest) error {
			line, err := protojson.Marshal(request)
			if err == nil {
				_, err = pieces.Write(append(line, '\n'))
			}
			return err
		}
		return talk{d.lines(ctx, http.MethodPost, streamOfOne, body, pairs...), send, pieces.Close}, nil
	}
	conn, leave := d.conn.take()
	stream, err := imv1.NewMessageServiceClient(conn).SendStreamMessage(metadata.AppendToOutgoingContext(ctx, pairs...))
	if err != nil {
		leave()
		return talk{}, err
	}
	context.AfterFunc(stream.Context(), leave) //nolint:contextcheck // ends with the stream
	receive := func() (int32, error) {
		reply, err := stream.Recv()
		return reply.GetCharacters(), err
	}
	return talk{receive, stream.Send, stream.CloseSend}, nil
}

// lines makes a call over a connection of its own when the first line of the answer
// is asked for. Without a last line that says so the end is none.
func (d *door) lines(ctx context.Context, verb, target string, body io.Reader, pairs ...string) func() (int32, error) {
	var answer *json.Decoder
	open := func() error {
		request, err := http.NewRequestWithContext(ctx, verb, "https://"+d.facade.rest+target, body)
		if err != nil {
			return err
		}
		setPairs(request.Header, pairs)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: d.settings.Clone()}}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() {
			_ = response.Body.Close()
			client.CloseIdleConnections()
		})
		answer = json.NewDecoder(response.Body)
		return nil
	}
	return func() (int32, error) {
		if answer == nil {
			if err := open(); err != nil {
				return 0, err
			}
		}
		var line struct {
			Result *struct {
				Characters int32 `json:"characters"`
			} `json:"result"`
			Status *struct{}       `json:"status"`
			Error  json.RawMessage `json:"error"`
		}
		switch err := answer.Decode(&line); {
		case errors.Is(err, io.EOF):
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case line.Status != nil:
			return 0, io.EOF
		case line.Result == nil:
			return 0, fmt.Errorf("a line with the error %s", line.Error)
		}
		return line.Result.Characters, nil
	}
}

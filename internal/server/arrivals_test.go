package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// flooder is the far end of a session.
type flooder struct {
	*http2.Framer

	t       *testing.T
	session *session
	ends    map[uint32]chan error // how waits for messages ended, by stream
}

// newFlooder makes a session from whose near end everything is read.
func newFlooder(t *testing.T, a *arrivals, from *source) *flooder {
	t.Helper()
	far, near := net.Pipe()
	s := newSession(near, from, a)
	go func() { _, _ = io.Copy(io.Discard, readerOnly{s}) }()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	if _, err := io.WriteString(far, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = far.Close()
		_ = near.Close()
		s.forget()
	})
	return &flooder{http2.NewFramer(far, nil), t, s, map[uint32]chan error{}}
}

type readerOnly struct{ io.Reader }

// begin sends a part of a message, for which the server waits as long as the context
// lasts.
func (f *flooder) begin(ctx context.Context, id, length uint32, sent int) {
	f.t.Helper()
	f.ends[id] = f.receive(ctx)
	synctest.Wait() // calls are as old as they begin
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true}); err != nil {
		f.t.Fatal(err)
	}
	f.more(id, append(binary.BigEndian.AppendUint32([]byte{0}, length), make([]byte, sent)...))
}

func (f *flooder) more(id uint32, data []byte) {
	f.t.Helper()
	for len(data) > 0 {
		n := min(len(data), 16<<10)
		if err := f.WriteData(id, false, data[:n]); err != nil {
			f.t.Fatal(err)
		}
		data = data[n:]
	}
}

// receive waits for a message as the server does.
func (f *flooder) receive(ctx context.Context) chan error {
	end := make(chan error, 1)
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: f.session.RemoteAddr()})
	go func() { end <- f.session.arrivals.receive(ctx, func() error { <-ctx.Done(); return ctx.Err() }) }()
	return end
}

// When messages that are not complete hold too much, the address that holds the most
// has to let go of a call, of one only: the oldest one of its largest connection. A
// connection that holds more, but whose address holds less, is not touched. All that
// was counted is given back.
func TestArrivals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals(1 << 20)
		a.most = 4 << 20
		ctx, cancel := context.WithCancel(t.Context())
		greedy := new(source)
		honest, largest, last := newFlooder(t, a, new(source)), newFlooder(t, a, greedy), newFlooder(t, a, greedy)
		refused := func() (all []string) {
			synctest.Wait()
			for _, f := range []*flooder{honest, largest, last} {
				for id, end := range f.ends {
					if len(end) > 0 {
						reason, _ := reasonOf(t, <-end)
						all = append(all, fmt.Sprintf("call %d of the largest: %t, %s", id, f == largest, reason))
					}
				}
			}
			return all
		}
		honest.begin(ctx, 1, 1700<<10, 1600<<10)
		largest.begin(ctx, 1, 2<<20, 500<<10)
		largest.begin(ctx, 3, 2<<20, 800<<10)
		last.begin(ctx, 1, 2<<20, 1000<<10)
		if held := a.held.Load(); refused() != nil || held < 3900<<10 || held > 4<<20 {
			t.Fatalf("%d bytes are held", held)
		}
		var got []string
		for i := 0; i < 250 && got == nil; i++ { // whoever sends more has to pause
			last.more(1, make([]byte, 1<<10))
			got = refused()
		}
		if want := []string{"call 1 of the largest: true, OVERLOADED"}; !slices.Equal(got, want) {
			t.Fatalf("refused %v", got)
		}
		// The server ends the call, and makes room for the others.
		if err := http2.NewFramer(largest.session, nil).WriteRSTStream(1, http2.ErrCodeNo); err != nil {
			t.Fatal(err)
		}
		before := a.held.Load()
		honest.more(1, make([]byte, 100<<10)) // complete
		if freed := before - a.held.Load(); refused() != nil || freed < 1600<<10 {
			t.Errorf("a complete message gives back %d bytes", freed)
		}
		cancel()
		for _, f := range []*flooder{honest, largest, last} {
			f.session.forget()
			f.session.closed = make(chan struct{}) // it is closed once more when the test ends
		}
		if a.held.Load() != 0 || greedy.held.Load() != 0 || len(a.sessions) != 0 {
			t.Errorf("%d bytes are held after all, by %d connections", a.held.Load(), len(a.sessions))
		}
	})
}

// Who is told to let go, and does not, loses its connection.
func TestStubborn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals(1 << 20)
		a.most = 1 << 20
		f := newFlooder(t, a, new(source))
		f.begin(t.Context(), 1, 2<<20, 0)
		begin := time.Now()
		var err error
		for err == nil && time.Since(begin) < time.Minute {
			err = f.WriteData(1, false, make([]byte, 16<<10))
		}
		if took := time.Since(begin); err == nil || took < letGoTime || len(f.ends[1]) != 1 {
			t.Errorf("after %v: %v; told %d times", took, err, len(f.ends[1]))
		}
	})
}

// Small frames hold more than their data.
func TestSmallFrames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals(1 << 20)
		f := newFlooder(t, a, new(source))
		f.begin(t.Context(), 1, 1<<20, 0)
		for range 100 {
			f.more(1, []byte{0})
		}
		synctest.Wait()
		if held := a.held.Load(); held < 100*frameCost {
			t.Errorf("%d bytes are held by 100 frames", held)
		}
	})
}

// Large messages of calls in progress have a limit together, and theirs is free again
// when a call lets go. Small ones have none, and what comes from the gateway has
// another.
func TestInProgress(t *testing.T) {
	t.Parallel()
	a := newArrivals(64 << 10) // 1 MiB in all
	ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: newFlooder(t, a, new(source)).session.RemoteAddr()})
	const large = smallBody + 500<<10
	first, err := a.keep(ctx, large)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.keep(ctx, large); err != nil {
		t.Fatal(err)
	}
	_, err = a.keep(ctx, large)
	if reason, _ := reasonOf(t, err); reason != "OVERLOADED" {
		t.Errorf("a third one: %v", err)
	}
	if _, err := a.keep(ctx, smallBody-10); err != nil {
		t.Errorf("a small one: %v", err)
	}
	if _, err := a.keep(t.Context(), large); err != nil {
		t.Errorf("one of the gateway: %v", err)
	}
	first()
	if _, err := a.keep(ctx, large); err != nil {
		t.Errorf("when another one has gone: %v", err)
	}
}

// Calls that are reset in haste are read at a pace, as are frames that carry
// nothing; calls that lasted are not, however many are reset, and other connections
// of the address go on.
func TestPace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write       func(f *flooder)
		least, most time.Duration
	}{
		"hasty resets": {func(f *flooder) { f.resets(1500, 0, false) }, 5 * time.Second, 15 * time.Second},
		"late resets":  {func(f *flooder) { f.resets(1500, hasty, false) }, 0, hasty},
		"streams left": {func(f *flooder) { f.resets(1500, 0, true) }, 0, 0},
		"pings": {func(f *flooder) {
			for range framesAtOnce + framesPerSecond {
				if err := f.WritePing(false, [8]byte{}); err != nil {
					f.t.Fatal(err)
				}
			}
		}, 900 * time.Millisecond, 1100 * time.Millisecond},
		"data": {func(f *flooder) {
			f.begin(f.t.Context(), 1, 1<<30, 0)
			for range framesAtOnce + framesPerSecond {
				f.more(1, []byte{0})
			}
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newArrivals(64 << 20)
				from := new(source)
				f, other := newFlooder(t, a, from), newFlooder(t, a, from)
				begin := time.Now()
				c.write(f)
				if took := time.Since(begin); took < c.least || took > c.most {
					t.Errorf("it took %v, not %v to %v", took, c.least, c.most)
				}
				begin = time.Now()
				other.begin(t.Context(), 1, 100, 100)
				if took := time.Since(begin); c.least == 5*time.Second && took > 0 {
					t.Errorf("another connection of the address waited for %v", took)
				}
			})
		})
	}
}

// resets makes calls, and resets each after a while, answered in part or not.
func (f *flooder) resets(calls int, after time.Duration, answered bool) {
	f.t.Helper()
	server := http2.NewFramer(f.session, nil)
	each := func(write func(id uint32) error) {
		for i := range calls {
			if err := write(uint32(2*i + 1)); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	reset := func(id uint32) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) }
	each(func(id uint32) error {
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true})
		if answered {
			synctest.Wait()
			err = errors.Join(err, server.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true}))
		}
		if after == 0 {
			err = errors.Join(err, reset(id))
		}
		return err
	})
	if after > 0 {
		<-time.After(after)
		each(reset)
	}
}

// Who shows no credential is refused before the message has come.
func TestRefusedBeforeTheMessage(t *testing.T) {
	_, entry := newKey(t)
	file := write(t, t.TempDir()+"/callers", "callers:\n- {name: all, scopes: ['*'], keys: ["+entry+"]}\n")
	r := start(t, (&handlers{get: echo}).api(), "--callers-file="+file)
	stream, err := r.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/yunxin.im.v1.ConversationService/GetConversation")
	if err != nil {
		t.Fatal(err)
	}
	err = stream.RecvMsg(nil) // nothing is sent
	if reason, _ := reasonOf(t, err); reason != "CREDENTIAL_MISSING" || status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v", err)
	}
}

package attacks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An h2 is a connection of HTTP/2 whose owner writes frames as it likes. It is
// for one writer.
type h2 struct {
	*http2.Framer

	conn    net.Conn
	buffer  bytes.Buffer
	encoder *hpack.Encoder
	largest int           // bytes of a data frame
	done    chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	change  *sync.Cond
	windows map[uint32]int64 // 0 is the connection's
	first   int64            // of each stream
	ends    map[uint32]string
	gone    error // why the connection ended
	frames  int   // that came
}

// dialH2 connects and says what HTTP/2 begins with.
func dialH2(ctx context.Context, addr string) (*h2, error) {
	return dialH2From(ctx, &net.Dialer{Timeout: patience}, addr)
}

func dialH2From(ctx context.Context, dialer *net.Dialer, addr string) (*h2, error) {
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	h := &h2{
		Framer: http2.NewFramer(conn, conn), conn: conn, largest: 16 << 10, done: make(chan struct{}),
		windows: map[uint32]int64{0: 65535}, first: 65535, ends: make(map[uint32]string),
	}
	h.AllowIllegalWrites = true
	h.change = sync.NewCond(&h.mu)
	h.encoder = hpack.NewEncoder(&h.buffer)
	go h.receive()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		h.close()
		return nil, err
	}
	if err := h.WriteSettings(); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *h2) close() {
	_ = h.conn.Close()
	<-h.done
}

// receive reads what comes until the connection ends. It acknowledges nothing:
// a server must do without.
func (h *h2) receive() {
	defer close(h.done)
	h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := h.ReadFrame()
		if streamErr, ok := errors.AsType[http2.StreamError](err); ok {
			h.end(streamErr.StreamID, streamErr.Error())
			continue
		}
		h.mu.Lock()
		if err != nil {
			h.gone = errors.Join(h.gone, err)
			h.change.Broadcast()
			h.mu.Unlock()
			return
		}
		h.frames++
		h.note(frame)
		h.change.Broadcast()
		h.mu.Unlock()
	}
}

// note keeps what a frame says; h.mu is held.
func (h *h2) note(frame http2.Frame) {
	switch frame := frame.(type) {
	case *http2.MetaHeadersFrame:
		for _, field := range frame.Fields {
			if field.Name == ":status" && field.Value != "200" || field.Name == "grpc-status" {
				h.ends[frame.StreamID] = field.Name + " " + field.Value
			}
		}
	case *http2.RSTStreamFrame:
		if h.ends[frame.StreamID] == "" {
			h.ends[frame.StreamID] = "reset " + frame.ErrCode.String()
		}
	case *http2.GoAwayFrame:
		h.gone = fmt.Errorf("go away: %v %s", frame.ErrCode, frame.DebugData())
	case *http2.WindowUpdateFrame:
		h.grow(frame.StreamID, int64(frame.Increment))
	case *http2.SettingsFrame:
		if value, ok := frame.Value(http2.SettingInitialWindowSize); ok {
			h.first = int64(value)
		}
	}
}

func (h *h2) grow(id uint32, by int64) {
	if _, ok := h.windows[id]; !ok {
		h.windows[id] = h.first
	}
	h.windows[id] += by
}

func (h *h2) end(id uint32, how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends[id] = how
	h.change.Broadcast()
}

// call opens a stream of gRPC.
func (h *h2) call(id uint32, path string, end bool, more ...hpack.HeaderField) error {
	return h.headers(id, end, append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: path}, {Name: ":authority", Value: "facade"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...)...)
}

// headers writes a block of headers, in as many frames as it takes.
func (h *h2) headers(id uint32, end bool, fields ...hpack.HeaderField) error {
	h.buffer.Reset()
	for _, field := range fields {
		if err := h.encoder.WriteField(field); err != nil {
			return err
		}
	}
	const most = 16 << 10
	block := h.buffer.Bytes()
	part := block[:min(len(block), most)]
	block = block[len(part):]
	err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndStream: end, EndHeaders: len(block) == 0})
	for err == nil && len(block) > 0 {
		part = block[:min(len(block), most)]
		block = block[len(part):]
		err = h.WriteContinuation(id, len(block) == 0, part)
	}
	return err
}

// send writes data as fast as the server takes it, until the stream ends.
func (h *h2) send(id uint32, data []byte, end bool) error {
	for len(data) > 0 {
		h.mu.Lock()
		h.grow(id, 0)
		for h.gone == nil && h.ends[id] == "" && min(h.windows[0], h.windows[id]) <= 0 {
			h.change.Wait()
		}
		if h.gone != nil || h.ends[id] != "" {
			h.mu.Unlock()
			return errors.New("refused on the way")
		}
		part := data[:min(int64(len(data)), h.windows[0], h.windows[id], int64(h.largest))]
		h.windows[0] -= int64(len(part))
		h.windows[id] -= int64(len(part))
		h.mu.Unlock()
		data = data[len(part):]
		if err := h.WriteData(id, end && len(data) == 0, part); err != nil {
			return err
		}
	}
	return nil
}

// wait returns how a stream ended, or the connection with it.
func (h *h2) wait(id uint32) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.gone == nil && h.ends[id] == "" {
		h.change.Wait()
	}
	if end := h.ends[id]; end != "" {
		return end
	}
	return h.gone.Error()
}

// prefixed is a message of gRPC as its length says it, true or not.
func prefixed(flag byte, length int, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(length)), data...)
}

package server

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// Frames are told apart, whatever the pieces are that they come in, and padding is
// no data.
func TestFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	for _, err := range []error{
		f.WriteSettings(),
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("headers"), EndHeaders: true}),
		f.WriteData(1, false, nil),
		f.WriteDataPadded(1, false, []byte("pad"), make([]byte, 3)),
		f.WriteDataPadded(1, false, nil, make([]byte, 200)),
		f.WriteData(1, true, []byte("ded")),
		f.WritePing(false, [8]byte{}),
		f.WriteData(3, false, []byte("!")),
		f.WriteRSTStream(3, http2.ErrCodeCancel),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const want = "SETTINGS 0, HEADERS 1, DATA 1, DATA 1, DATA 1, DATA 1 ends, PING 0, DATA 3, RST_STREAM 3, "
	for size := 1; size <= b.Len(); size++ {
		in := frames{skip: len(http2.ClientPreface)}
		var got, data strings.Builder
		for rest := b.Bytes(); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			in.feed(rest[:min(size, len(rest))], func() {
				fmt.Fprint(&got, in.kind(), " ", in.stream())
				if in.ends() {
					got.WriteString(" ends")
				}
				got.WriteString(", ")
			}, func(p []byte) { data.Write(p) })
		}
		if got.String() != want || data.String() != "padded!" {
			t.Fatalf("in pieces of %d: %s, data %q", size, &got, &data)
		}
	}
}

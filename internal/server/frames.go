package server

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// frames follows the frames of one direction of an HTTP/2 connection, in whatever
// pieces they come. It changes nothing and keeps nothing of them but a header.
type frames struct {
	skip    int // bytes before the first frame
	head    [frameHead]byte
	got     int  // bytes of the header that are there
	left    int  // bytes of the payload to come
	padding int  // of these, at the end
	padded  bool // the length of the padding is the next byte
}

const frameHead = 9 // bytes of a frame's header

func (f *frames) kind() http2.FrameType { return http2.FrameType(f.head[3]) }

func (f *frames) stream() uint32 { return binary.BigEndian.Uint32(f.head[5:]) &^ (1 << 31) }

// ends reports whether the frame is the last one of its stream in this direction.
func (f *frames) ends() bool {
	return (f.kind() == http2.FrameData || f.kind() == http2.FrameHeaders) && http2.Flags(f.head[4]).Has(http2.FlagDataEndStream)
}

// feed calls begin for the header of each frame, and data for what data frames
// hold, piece by piece.
func (f *frames) feed(p []byte, begin func(), data func([]byte)) {
	n := min(f.skip, len(p))
	f.skip, p = f.skip-n, p[n:]
	for len(p) > 0 {
		if f.left == 0 {
			n := copy(f.head[f.got:], p)
			f.got, p = f.got+n, p[n:]
			if f.got == frameHead {
				f.open()
				begin()
			}
			continue
		}
		n := min(f.left, len(p))
		if f.kind() == http2.FrameData {
			data(f.inside(p[:n]))
		}
		f.left, p = f.left-n, p[n:]
	}
}

func (f *frames) open() {
	f.got, f.padding = 0, 0
	f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	f.padded = f.kind() == http2.FrameData && http2.Flags(f.head[4]).Has(http2.FlagDataPadded)
}

// inside leaves out the padding of a piece of a data frame.
func (f *frames) inside(p []byte) []byte {
	rest := f.left - len(p) // after this piece
	if f.padded {
		f.padded, f.padding, p = false, int(p[0]), p[1:]
	}
	return p[:max(0, len(p)-max(0, f.padding-rest))]
}

package attacks

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// A search finds texts that should be nowhere, all of them in one pass.
type search struct {
	mu      sync.Mutex
	needles map[uint64][]needle // by their first bytes
	longest int
}

type needle struct{ what, text string }

const firstBytes = 8

// add looks for a text as it is.
func (s *search) add(what, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.needles == nil {
		s.needles = map[uint64][]needle{}
	}
	first := binary.LittleEndian.Uint64([]byte(text[:firstBytes]))
	s.needles[first] = append(s.needles[first], needle{what, text})
	s.longest = max(s.longest, len(text))
}

// addForms looks for bytes as they are, in hex, and in base64 wherever they stand
// in what was encoded.
func (s *search) addForms(what string, b []byte) {
	s.add(what, string(b))
	s.add(what+" in hex", hex.EncodeToString(b))
	s.add(what+" in hex", strings.ToUpper(hex.EncodeToString(b)))
	for before := range 3 {
		padded := append(make([]byte, before), b...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			if len(padded)%3 != 0 {
				text = text[:len(text)-1] // shared with what follows
			}
			s.add(what+" in base64", text[[]int{0, 2, 3}[before]:])
		}
	}
}

// addPEM looks for parts of a private key, because a line could be cut. The first
// bytes are the same for all keys.
func (s *search) addPEM(what, text string) {
	const same, part = 48, 20
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines[1] = lines[1][same:]
	for _, line := range lines[1 : len(lines)-1] {
		for chunk := range slices.Chunk([]byte(line), part) {
			if len(chunk) >= firstBytes {
				s.add(what, string(chunk))
			}
		}
	}
}

// scan returns what is found, and how many bytes it has looked at.
func (s *search) scan(r io.Reader) (found []string, size int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buffer := make([]byte, 0, 1<<20+s.longest)
	for {
		n, err := r.Read(buffer[len(buffer):cap(buffer)])
		buffer, size = buffer[:len(buffer)+n], size+int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return found, size, err
		}
		stop := len(buffer) - s.longest // what begins behind it may not have ended
		if err != nil {
			stop = len(buffer) - firstBytes
		}
		for at := 0; at <= stop; at++ {
			for _, n := range s.needles[binary.LittleEndian.Uint64(buffer[at:])] {
				if strings.HasPrefix(string(buffer[at:min(len(buffer), at+len(n.text))]), n.text) {
					found = append(found, fmt.Sprintf("%s at byte %d: ...%q", n.what, size-int64(len(buffer)-at), buffer[max(0, at-60):at]))
				}
			}
		}
		if err != nil {
			return found, size, nil
		}
		if stop >= 0 {
			buffer = buffer[:copy(buffer, buffer[stop+1:])]
		}
	}
}

package attacks

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// patience is how long an answer may take: far more than any does, so that only
// a call that is never answered is missed.
const patience = 30 * time.Second

// A wire is a connection on which bytes are written as they are.
type wire struct {
	net.Conn

	reader *bufio.Reader
}

func dialWire(ctx context.Context, addr string) (*wire, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{conn, bufio.NewReader(conn)}, conn.SetDeadline(time.Now().Add(patience))
}

// An answer is what came back over REST.
type answer struct {
	status  int
	traceID string
	body    string
}

// ask writes a request byte by byte as given and reads the answer.
func (w *wire) ask(verb, text string) (answer, error) {
	if _, err := io.WriteString(w, text); err != nil {
		return answer{}, err
	}
	return w.read(verb)
}

// read reads an answer.
func (w *wire) read(verb string) (answer, error) {
	response, err := http.ReadResponse(w.reader, &http.Request{Method: verb})
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header.Get("X-Trace-Id"), string(body)}, err
}

// text writes out a request in full. Lines are headers as they stand on the wire.
func (f form) text(lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", f.verb, f.target)
	if f.body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(f.body))
	}
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n" + f.body
}

// chunked writes out a request whose body has a trailer after it.
func (f form) chunked(trailer string, lines ...string) string {
	bare := form{f.verb, f.target, ""}
	head := bare.text(append(lines, "Content-Type: application/json", "Transfer-Encoding: chunked")...)
	return fmt.Sprintf("%s%x\r\n%s\r\n0\r\n%s\r\n\r\n", head, len(f.body), f.body, trailer)
}

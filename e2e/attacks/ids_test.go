package attacks

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"
)

// Pieces of ids that something on the way could take for something else.
var pieces = []string{
	"a", "Z", "0", "7", "_", "-", "bob", "alice", "/", "//", "/messages", "\\", "?", "?x=1", "#", "&a=b", "=", "+", ";v=1", ":modify", ":pin", "*", "{x}", "$",
	"%", "%%", "%2F", "%2f", "%252F", "%7C", "%00", "%0d%0a", "%2e%2e", "%zz", "%u002f", ".", "..", "../", "...", "~", "@", "|", "||", "|1|", ",", " ", "\t",
	"\r\n", "\n", "\r", "\x00", "\x01", "\x1b[0m", "\x7f", "\u0080", "\u0085", "\u00a0", "\u200b", "\u200d", "\u202e", "\u2028", "\ufeff", "\ufffd", "\u2044", "\uff0f", "\uff5c", "\u0301",
	"é", "中", "😀", "ß", "İ", "\"", "'", "`", "<b>", "\\u0000", "\\\"", "null", "true", "[]", "{}", "[\"a\"]", "HTTP/1.1", "\xff", "\xc3\x28", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf",
}

// Numbers as callers might write them, and as they should not.
var spellings = []string{
	"1", "7", "0", "-1", "-0", "+1", "01", "010", "08", "0x10", "0X1F", "0b11", "0o17", "1_000", "1e3", "1E3", "1e-1", "10e-1", "1.0", "1.5", "1.", ".5", " 1", "1 ", "1\n", "\t1",
	"", "null", "true", "NaN", "Infinity", "1,2", "1;2", "1/2", "1%2F2", "../1", "..", "1\x00", "1\r\n2", "\uff11", "١", "1?x=2", "1#2", "1:pin", "9007199254740993", "1232001762022391810",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551617", "1e18", "1e19", "1e400", strings.Repeat("9", 400), "0000000000000000000000000001",
}

// drawID draws an id for a place, over a door. Most have the form that the place
// takes. Protobuf has one way to write a number.
func drawID(t *rapid.T, p place, door string) string {
	text := func(most int) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, most).Draw(t, "pieces"), "")
	}
	switch {
	case !p.isText() && door == "rest" && rapid.Bool().Draw(t, "odd number"):
		return rapid.SampledFrom(spellings).Draw(t, "spelling")
	case !p.isText():
		return strconv.FormatInt(rapid.Int64().Draw(t, "number"), 10)
	case strings.Contains(string(p.field().Name()), "conversation_id") && rapid.IntRange(0, 3).Draw(t, "form") > 0:
		owner := text(3)
		if rapid.IntRange(0, 3).Draw(t, "owner") == 0 {
			owner = p.operator()
		}
		return owner + "|" + rapid.SampledFrom([]string{"1", "1", "1", "2", "3", "4", "01", "%31"}).Draw(t, "type") + "|" + text(3)
	default:
		return text(5)
	}
}

// marker is an id that every place of its kind takes, and that occurs nowhere
// otherwise in a request.
func (p place) marker() string {
	switch {
	case !p.isText():
		return "7171717171717171717"
	case strings.Contains(string(p.field().Name()), "conversation_id"):
		return p.operator() + "|1|marker"
	default:
		return "marked-marker"
	}
}

// A probe knows what a request with an id in a place becomes.
type probe struct {
	place
	form  form     // of REST; hole stands where the id belongs
	marks []string // where the id arrives
	plain flat     // the request to the upstream with the marker
}

const hole = "@@hole@@"

// A prober tries ids on a rig of its own, one call at a time.
type prober struct {
	*rig
	conn   *grpc.ClientConn
	client *http.Client
}

func newProber(tb testing.TB) *prober {
	tb.Helper()
	r := newRig(tb, "--stream-interval=1ms")
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: patience}
	tb.Cleanup(client.CloseIdleConnections)
	return &prober{r, r.dialGRPC(tb), client}
}

// learn finds out where the id of a place arrives.
func (p *prober) learn(tb testing.TB, at place) probe {
	tb.Helper()
	f, err := at.call.rest(at.request(hole))
	if err != nil {
		tb.Fatal(err)
	}
	learnt := probe{place: at, form: f}
	for _, door := range []string{"rest", "grpc"} {
		refusal, sent, err := p.send(tb.Context(), learnt, door, at.marker())
		if err != nil || len(sent) == 0 {
			tb.Fatalf("%s over %s: not even the marker passes: %s, %v", at, door, refusal, err)
		}
		plain, err := flatten(sent[0])
		if err != nil {
			tb.Fatal(err)
		}
		var marks []string
		for name, value := range plain {
			if value == at.marker() {
				marks = append(marks, name)
			}
		}
		slices.Sort(marks)
		if len(marks) == 0 || door == "grpc" && !slices.Equal(marks, learnt.marks) {
			tb.Fatalf("%s over %s: the marker arrives at %v: %v", at, door, marks, plain)
		}
		learnt.marks, learnt.plain = marks, plain
	}
	return learnt
}

// send makes the call with an id through a door. It returns why it was refused,
// or "", and what the upstream got.
func (p *prober) send(ctx context.Context, at probe, door, id string) (refusal string, all []sent, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p.answer(at.call.answer)
	if door == "grpc" {
		refusal, err = p.sendGRPC(ctx, at, id)
	} else {
		refusal, err = p.sendREST(ctx, at, id)
	}
	return refusal, p.take(), err
}

func (p *prober) sendREST(ctx context.Context, at probe, id string) (refusal string, err error) {
	target := strings.ReplaceAll(at.form.target, escape(hole), escape(id))
	body := strings.ReplaceAll(at.form.body, `"`+hole+`"`, quote(id))
	request, err := http.NewRequestWithContext(ctx, at.form.verb, "http://"+p.rest, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if body == "" {
		request.Body = http.NoBody
	}
	request.URL.Opaque = target // goes out as it is
	response, err := p.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		return "", err
	}
	if code := response.StatusCode; code >= 400 {
		return fmt.Sprintf("HTTP %d %s", code, text.String()), nil
	}
	return "", nil
}

// quote makes a JSON string of any bytes, valid or not.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20:
			fmt.Fprintf(&b, "\\u%04x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

// bytesCodec sends bytes as they are: messages need not be valid.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	data, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T are no bytes", v)
	}
	return *data, nil
}

func (bytesCodec) Unmarshal(data []byte, v any) error {
	to, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T are no bytes", v)
	}
	*to = slices.Clone(data)
	return nil
}

func (p *prober) sendGRPC(ctx context.Context, at probe, id string) (refusal string, err error) {
	data, err := at.encode(id)
	if err != nil {
		return "", err
	}
	stream, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, at.call.path(), grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		return "", err
	}
	_ = stream.SendMsg(&data) // if it fails, receiving tells why
	_ = stream.CloseSend()
	for {
		var reply []byte
		if err := stream.RecvMsg(&reply); err != nil {
			if s, ok := status.FromError(err); ok {
				return fmt.Sprintf("%s: %s", s.Code(), s.Message()), nil
			}
			return "", nil // the end
		}
	}
}

// encode writes the request as protobuf, with an id that need not be UTF-8.
func (at probe) encode(id string) ([]byte, error) {
	m := message(at.call.method.Input())
	if err := protojson.Unmarshal(at.request(at.marker()), m); err != nil {
		return nil, err
	}
	holder := m.ProtoReflect()
	for _, fd := range at.path[:len(at.path)-1] {
		if fd.IsList() {
			holder = holder.Mutable(fd).List().Get(0).Message()
		} else {
			holder = holder.Mutable(fd).Message()
		}
	}
	fd, valid := at.field(), id
	if !utf8.ValidString(id) {
		valid = strings.Repeat("~", len(id))
	}
	value := protoreflect.ValueOfString(valid)
	if !at.isText() {
		number, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return nil, err
		}
		value = protoreflect.ValueOfInt64(number)
	}
	if fd.IsList() {
		holder.Mutable(fd).List().Set(0, value)
	} else {
		holder.Set(fd, value)
	}
	data, err := proto.Marshal(m)
	if valid != id {
		data = bytes.Replace(data, []byte(valid), []byte(id), 1)
	}
	return data, err
}

// try sends an id and judges: the upstream got exactly one request, which is the
// marker's with that id in its place, or the caller was refused and the upstream
// got nothing.
func (p *prober) try(ctx context.Context, at probe, door, id string) (accepted bool, err error) {
	refusal, all, err := p.send(ctx, at, door, id)
	if err != nil {
		return false, fmt.Errorf("no answer: %w", err)
	}
	if len(all) == 0 {
		return false, isRefusal(refusal)
	}
	for _, more := range all[1:] {
		if !at.call.method.IsStreamingClient() || more.path != all[0].path { // a stream may end with a piece of its own
			return true, fmt.Errorf("the upstream got %d requests, also %s %s", len(all), more.method, more.path)
		}
	}
	have, err := flatten(all[0])
	if err != nil {
		return true, err
	}
	return true, at.compare(have, id)
}

// isRefusal reports whether an answer says that the request is at fault.
func isRefusal(answer string) error {
	// What is no protobuf is refused by the gRPC library, in its own words.
	for _, begin := range []string{"HTTP 4", codes.InvalidArgument.String(), "Internal: grpc: failed to unmarshal the received message"} {
		if strings.HasPrefix(answer, begin) {
			return nil
		}
	}
	return fmt.Errorf("nothing was sent, and the answer is %q", answer)
}

// compare reports whether a request is the marker's but for the id.
func (at probe) compare(have flat, id string) error {
	want := maps.Clone(at.plain)
	for _, mark := range at.marks {
		if want[mark] = id; strings.HasPrefix(mark, "query.") && at.field().IsList() && strings.Contains(id, ",") {
			return fmt.Errorf("two ids for the upstream, which splits at commas: %q", have[mark])
		}
		if at.isText() {
			continue
		}
		number, ok := new(big.Rat).SetString(id)
		if !ok || !decimal(id) || !number.IsInt() {
			return fmt.Errorf("arrived as %s, but is no number", have[mark])
		}
		want[mark] = number.Num().String()
	}
	absent := id == "" || want[at.marks[0]] == "0" // the zero value is not there, in protobuf
	nested := func(name string) bool {             // an id that is JSON by itself was flattened too
		return slices.ContainsFunc(at.marks, func(mark string) bool { return strings.HasPrefix(name, mark+"!") })
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; !ok && !nested(name) {
			return fmt.Errorf("%s is new: %q", name, have[name])
		}
	}
	for name, value := range want {
		got, there := have[name]
		isMark := slices.Contains(at.marks, name)
		switch {
		case isMark && (absent || strings.HasPrefix(value, "[") || strings.HasPrefix(value, "{")):
		case strings.HasSuffix(name, ".finish"), strings.HasSuffix(name, ".index"): // differ by chance, in pieces
		case !there || got != value:
			return fmt.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	return nil
}

// decimal reports whether a text is a number as JSON writes them.
func decimal(s string) bool {
	return strings.Trim(s, "0123456789eE+-.") == "" && strings.Trim(s, "eE+-.") != ""
}

// TestIDs puts ids that want to be something else into every field that holds
// one, over both doors: each arrives as itself, in one request, or not at all.
func TestIDs(t *testing.T) {
	t.Parallel()
	var runs, arrived atomic.Int64
	begin := time.Now()
	t.Cleanup(func() {
		t.Logf("%d runs in %v: %d ids arrived as themselves, %d were refused", runs.Load(), time.Since(begin).Round(time.Millisecond), arrived.Load(), runs.Load()-arrived.Load())
		if least := int64(scale(100, 1_000_000)); runs.Load() < least && !t.Failed() {
			t.Errorf("%d runs are too few", runs.Load())
		}
	})
	for worker := range scale(2, 4) {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			p := newProber(t)
			var probes []probe
			taken := map[string]int{} // ids, by field and door
			for _, at := range places(t) {
				taken[at.String()+" over grpc"], taken[at.String()+" over rest"] = 0, 0
				probes = append(probes, p.learn(t, at))
			}
			rapid.Check(t, func(rt *rapid.T) {
				at := rapid.SampledFrom(probes).Draw(rt, "place")
				door := rapid.SampledFrom([]string{"grpc", "rest"}).Draw(rt, "door")
				id := drawID(rt, at.place, door)
				runs.Add(1)
				ok, err := p.try(t.Context(), at, door, id)
				if err != nil {
					rt.Fatalf("%s over %s, id %q: %v", at, door, id, err)
				}
				if ok {
					arrived.Add(1)
					taken[at.String()+" over "+door]++
				}
			})
			if arrived.Load() < runs.Load()/10 {
				t.Error("the test has lost its point")
			}
			for name, n := range taken {
				if full() && n == 0 {
					t.Errorf("%s: no id arrived", name)
				}
			}
		})
	}
}

// String keeps failures short.
func (at probe) String() string { return at.place.String() }

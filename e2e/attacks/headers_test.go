package attacks

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Headers that claim to be from somebody else, or to mean something inside. None
// of them is part of the API.
var claims = map[string][]string{
	"metadata by prefix": {
		"Grpc-Metadata-X-Trace-Id: 6666", "Grpc-Metadata-X-Rest-Timeout: 1ns", "Grpc-Metadata-X-Rest-Caller: 6.6.6.6",
		"Grpc-Metadata-Idempotency-Key: mine", "Grpc-Metadata-Grpc-Timeout: 1n", "Grpc-Metadata-X-Yunxin-App: other",
		"Grpc-Metadata-Authorization: Bearer x", "Grpc-Metadata-X-Forwarded-For: 6.6.6.6", "Grpc-Metadata-:path: /x/y",
		"Grpc-Metadata-Content-Type: text/plain", "Grpc-Metadata-Odd-Bin: !!!", "Grpc-Metadata-: x", "Grpc-Metadata--Bin: AA==",
		"grpcgateway-X-Trace-Id: 6666", "Grpcgateway-Authorization: Bearer x", "Grpcgateway-Idempotency-Key: mine",
	},
	"headers of gRPC": {
		"Grpc-Encoding: gzip", "Grpc-Accept-Encoding: gzip", "Grpc-Status: 0", "Grpc-Message: fine", "Grpc-Status-Details-Bin: AA==",
		"Grpc-Trace-Bin: AA==", "Grpc-Tags-Bin: AA==", "Grpc-Previous-Rpc-Attempts: 9", "Grpc-Retry-Pushback-Ms: 1", "Grpc-Internal-Encoding-Request: gzip",
	},
	"where it came from": {
		"X-Forwarded-For: 6.6.6.6, 127.0.0.1", "X-Forwarded-For: 7.7.7.7", "Forwarded: for=6.6.6.6;host=x;proto=https", "X-Real-IP: 6.6.6.6",
		"X-Forwarded-Host: x", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /x", "X-Original-URL: /v1/conversations",
		"X-Rewrite-URL: /v1/conversations", "True-Client-IP: 6.6.6.6", "CF-Connecting-IP: 6.6.6.6", "Via: 1.1 x", "X-Original-Host: x",
	},
	"other methods": {
		"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: PUT", "X-HTTP-Method-Override: GET", "_method: DELETE",
	},
	"headers from inside": {
		"X-Trace-Id: 66666666666666666666666666666666", "X-Rest-Timeout: 1ns", "X-Rest-Caller: 6.6.6.6", "X-Rest-Anything: x",
		"X-Custom-Traceid: 66666666666666666666666666666666", "AppKey: other", "Nonce: 6", "CurTime: 6", "CheckSum: 6",
		"X-Request-Id: 6", "Traceparent: 00-66666666666666666666666666666666-6666666666666666-01", "User-Agent: x", "Cookie: a=b",
	},
	"twice, in other letters": {
		"x-trace-id: 1", "X-TRACE-ID: 2", "x-Trace-id: 3", "x-rest-caller: 6.6.6.6", "X-REST-CALLER: 7.7.7.7", "x-rest-timeout: 1ns",
		"X-Rest-Timeout: 1ns", "X_Trace_Id: 4", "X_Rest_Timeout: 1ns", "Idempotency_Key: mine",
	},
	"odd bytes": {
		"X-Trace-Id: \xff\xfe\x80", "X-Rest-Caller: \t6.6.6.6\t", "X-Rest-Timeout: \xc2\xa01ns", "X-Forwarded-For: ,,,;\"'`",
		"!#$%&'*+-.^_`|~: x", "X-Trace-Id:", "X-Rest-Timeout:",
	},
	"hop by hop": {
		"Connection: x-trace-id, content-type, idempotency-key", "TE: trailers", "Trailer: X-Trace-Id", "Keep-Alive: timeout=1", "Proxy-Connection: close",
		"Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Proxy-Authorization: Basic eDp4", "Max-Forwards: 0",
	},
	"many": slices.Repeat([]string{"X-Forwarded-For: 6.6.6.6", "X-Rest-Caller: 6.6.6.6", "Grpc-Metadata-X: y"}, 150),
}

// volatile headers differ with every request to the upstream; they are signed or
// made by the facade.
var volatile = []string{"Nonce", "Curtime", "Checksum", "X-Custom-Traceid"}

var traceID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// fingerprint is what the upstream got, but for what differs every time. Ids that the
// facade makes are made from the trace id.
func fingerprint(all []sent) string {
	var b strings.Builder
	for _, s := range all {
		// The end of a text in pieces comes with the last of them or by itself, as it happens.
		if bytes.Contains(s.body, []byte(`"attachment":{"text":"",`)) {
			continue
		}
		s.body = bytes.ReplaceAll(s.body, []byte(`"finish":1`), []byte(`"finish":0`))
		id := s.header.Get("X-Custom-Traceid")
		if base, _, _ := strings.Cut(id, "-"); !traceID.MatchString(base) || base == strings.Repeat("6", 32) {
			fmt.Fprintf(&b, "a trace id that is not the facade's: %q\n", id)
		} else {
			s.body = bytes.ReplaceAll(s.body, []byte(base), []byte("TRACE"))
		}
		fmt.Fprintf(&b, "%s %s?%s\n", s.method, s.path, s.query)
		for _, name := range slices.Sorted(maps.Keys(s.header)) {
			if values := s.header[name]; slices.Contains(volatile, name) {
				fmt.Fprintf(&b, "%s: %d\n", name, len(values))
			} else {
				fmt.Fprintf(&b, "%s: %q\n", name, values)
			}
		}
		fmt.Fprintf(&b, "%s\n", s.body)
	}
	return b.String()
}

// ask makes a REST call on a connection of its own and returns the answer and
// what the upstream got.
func (r *rig) ask(tb testing.TB, c rpc, verb, text string) (answer, []sent) {
	tb.Helper()
	r.answer(c.answer)
	w, err := dialWire(tb.Context(), r.rest)
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Close() //nolint:errcheck // what was asked was answered, or not
	a, err := w.ask(verb, text)
	if err != nil {
		tb.Fatalf("%s: no answer: %v", c, err)
	}
	return a, r.take()
}

// TestClaimsChangeNothing makes every call over REST with and without headers
// that claim things. The upstream must get the same request, under a trace id of
// the facade's own that is new each time, and the audit file the same line: nothing
// that a header says becomes identity, app, address, trace id, idempotency, deadline
// or route.
func TestClaimsChangeNothing(t *testing.T) {
	t.Parallel()
	calls, records := 0, folder(t.TempDir()).path("audit")
	t.Cleanup(func() { judgeAudit(t, records, calls) }) // when the server has stopped
	const key = "yxf_00000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	callers := folder(t.TempDir())
	callers.put(t, map[string]string{"callers.yaml": fmt.Sprintf(`callers: [{name: honest, scopes: ["*"], keys: [{id: "00000000", sha256: %x}]}]`, sha256.Sum256([]byte(key)))})
	r := newRig(t, "--callers-file="+callers.path("callers.yaml"), "--audit-file="+records)
	for _, c := range rpcs(t) {
		f, err := c.rest(c.request)
		if err != nil {
			t.Fatal(err)
		}
		const credential = "X-Api-Key: " + key
		calls++
		a, plain := r.ask(t, c, f.verb, f.text(credential))
		if a.status != 200 || len(plain) == 0 {
			t.Fatalf("%s: HTTP %d, %d requests: %s", c, a.status, len(plain), a.body)
		}
		want, seen := fingerprint(plain), map[string]bool{a.traceID: true}
		for name, lines := range claims {
			texts := map[string]string{name: f.text(append(lines, credential)...)}
			if f.body != "" && name != "many" { // net/http takes short trailers only
				texts[name+", chunked"] = f.chunked(strings.Join(lines, "\r\n"), "Trailer: X-Trace-Id, X-Rest-Timeout, Idempotency-Key", credential)
			}
			for name, text := range texts {
				calls++
				a, have := r.ask(t, c, f.verb, text)
				if a.status != 200 || fingerprint(have) != want {
					t.Errorf("%s, %s: HTTP %d %s\nthe upstream got\n%s\nand not\n%s", c, name, a.status, a.body, fingerprint(have), want)
				}
				if !traceID.MatchString(a.traceID) || seen[a.traceID] {
					t.Errorf("%s, %s: the trace id is %q", c, name, a.traceID)
				}
				seen[a.traceID] = true
			}
		}
	}
	t.Logf("%d calls with claims reached the upstream as those without", calls)
}

// judgeAudit wants all calls of a method to be told in the same words, but for what
// differs with every call.
func judgeAudit(t *testing.T, path string, calls int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	accounts, lines := map[any]string{}, 0
	for line := range bytes.Lines(text) {
		var have map[string]any
		if err := json.Unmarshal(line, &have); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines++
		method, now := have["method"], fmt.Sprint(have["accounts"])
		if before, known := accounts[method]; known && before != now {
			t.Errorf("%s for %s, and without claims for %s", method, now, before)
		}
		accounts[method] = now
		for name, want := range map[string]any{"caller": "honest", "app": "default", "door": "rest", "address": "127.0.0.1", "code": "OK"} {
			if have[name] != want {
				t.Errorf("the audit has the %s %v: %s", name, have[name], line)
			}
		}
	}
	if lines != calls || len(accounts) != len(rpcs(t)) {
		t.Errorf("%d lines about %d methods, want %d about %d", lines, len(accounts), calls, len(rpcs(t)))
	}
}

// TestClaimsInMetadata is TestClaimsChangeNothing for gRPC: what the gateway
// tells the server means nothing from anybody else.
func TestClaimsInMetadata(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conn := r.dialGRPC(t)
	forged := metadata.Pairs(
		"x-trace-id", "66666666666666666666666666666666", "x-rest-timeout", "1ns", "x-rest-caller", "6.6.6.6",
		"x-forwarded-for", "6.6.6.6", "forwarded", "for=6.6.6.6", "x-real-ip", "6.6.6.6", "x-http-method-override", "DELETE",
		"grpcgateway-x-trace-id", "6", "grpc-metadata-idempotency-key", "mine", "x-custom-traceid", "6", "appkey", "other", "nonce", "6",
		"x-trace-id", "again", "odd-bin", "\xff\x00", "x-rest-timeout-bin", "1ns",
	)
	for _, c := range rpcs(t) {
		if c.streaming() {
			continue // the chain is the same, and a stream of REST passes above
		}
		var prints []string
		for _, md := range []metadata.MD{nil, forged} {
			r.answer(c.answer)
			var header metadata.MD
			err := conn.Invoke(metadata.NewOutgoingContext(t.Context(), md), c.path(), c.proto(t), message(c.method.Output()), grpc.Header(&header))
			if err != nil {
				t.Fatalf("%s with %v: %v", c, md, err)
			}
			prints = append(prints, fingerprint(r.take()))
			if id := header.Get("x-trace-id"); len(id) != 1 || !traceID.MatchString(id[0]) || id[0] == strings.Repeat("6", 32) {
				t.Errorf("%s: the trace id is %q", c, id)
			}
		}
		if prints[0] != prints[1] {
			t.Errorf("%s: the upstream got\n%s\nand with claims\n%s", c, prints[0], prints[1])
		}
	}
}

// TestOtherApps asks for apps that are not this service's, also in ways that
// should mean nothing. Whatever is answered, the upstream gets either nothing or
// what it gets without: the request of the one app there is.
func TestOtherApps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range rpcs(t) {
		f, err := c.rest(c.request)
		if err != nil {
			t.Fatal(err)
		}
		_, plain := r.ask(t, c, f.verb, f.text())
		want := fingerprint(plain)
		for _, lines := range [][]string{
			{"X-Yunxin-App: other"}, {"X-Yunxin-App: \xe4\xb8\xad"}, {"X-Yunxin-App: ../x"}, {"X-Yunxin-App: a", "X-Yunxin-App: b"}, {"X-Yunxin-App:"},
			{"X-Yunxin-App: other", "Connection: x-yunxin-app"}, {"X-YUNXIN-APP: e2e-key"}, {"X_Yunxin_App: other"}, {"Grpc-Metadata-X-Yunxin-App: other"},
		} {
			a, have := r.ask(t, c, f.verb, f.text(lines...))
			if a.status == 200 && fingerprint(have) != want || a.status != 200 && len(have) != 0 || a.status >= 500 {
				t.Errorf("%s, %q: HTTP %d %s\nthe upstream got\n%s\nand not\n%s", c, lines, a.status, a.body, fingerprint(have), want)
			}
		}
	}
}

// TestMethodsStay asks by header, query and form for another method than that of
// the request line. What the path does not take is refused, and the upstream gets
// nothing: there is no way to a route but its own method.
func TestMethodsStay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	refused := 0
	for _, c := range rpcs(t) {
		f, err := c.rest(c.request)
		if err != nil {
			t.Fatal(err)
		}
		path, query, _ := strings.Cut(f.target, "?")
		and := "?"
		if query != "" {
			and = "?" + query + "&"
		}
		for name, text := range map[string]string{
			"in the query":             form{f.verb, path + and + "_method=" + f.verb, f.body}.text(),
			"in the query, as header":  form{f.verb, path + and + "X-HTTP-Method-Override=" + f.verb, f.body}.text(),
			"another verb, header":     form{"PUT", f.target, f.body}.text("X-HTTP-Method-Override: " + f.verb),
			"another verb, the prefix": form{"PUT", f.target, f.body}.text("Grpc-Metadata-X-HTTP-Method-Override: " + f.verb),
			"an odd verb":              form{"GET/POST", f.target, f.body}.text("X-HTTP-Method-Override: " + f.verb),
			"a verb in small letters":  form{strings.ToLower(f.verb), f.target, f.body}.text(),
		} {
			a, sent := r.ask(t, c, f.verb, text)
			if a.status < 400 || a.status >= 502 || len(sent) != 0 {
				t.Errorf("%s, %s: HTTP %d, %d requests: %s", c, name, a.status, len(sent), a.body)
			}
			refused++
		}
		// A form sent to a route that takes GET: the gateway's library would make it one.
		if f.verb != "GET" {
			continue
		}
		lines := []string{"Content-Type: application/x-www-form-urlencoded", fmt.Sprintf("Content-Length: %d", len(query)), "X-HTTP-Method-Override: GET"}
		a, sent := r.ask(t, c, "POST", form{"POST", path, ""}.text(lines...)+query)
		if a.status < 400 || len(sent) != 0 {
			t.Errorf("%s, as a form: HTTP %d, %d requests: %s", c, a.status, len(sent), a.body)
		}
	}
	t.Logf("%d calls refused", refused)
}

// TestBrokenHeads sends heads that servers in a row could read in two ways. They
// are refused, and what follows on the connection is not taken for a request.
func TestBrokenHeads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := rpcNamed(t, "MessageService/SendMessage")
	f, err := c.rest(c.request)
	if err != nil {
		t.Fatal(err)
	}
	bare, inner := form{f.verb, f.target, ""}, "GET /v1/conversations/a%7C1%7Cb HTTP/1.1\r\nHost: localhost\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d", len(f.body))
	for name, text := range map[string]string{
		"two lengths":           bare.text(length, "Content-Length: 0") + f.body + inner,
		"a length with a sign":  bare.text(fmt.Sprintf("Content-Length: +%d", len(f.body))) + f.body + inner,
		"a list of lengths":     bare.text("Content-Length: 0, 5") + inner,
		"a space before colon":  bare.text("Transfer-Encoding : chunked", length) + f.body + inner,
		"a space before colon2": bare.text("Content-Length : 0") + inner,
		"an unknown coding":     bare.text("Transfer-Encoding: xchunked") + inner,
		"two codings":           bare.text("Transfer-Encoding: chunked, chunked") + "0\r\n\r\n" + inner,
		"identity":              bare.text("Transfer-Encoding: identity", length) + f.body + inner,
		"a bare CR":             bare.text("X-A: b\rTransfer-Encoding: chunked") + inner,
		"a NUL":                 bare.text("X-A: b\x00c") + inner,
		"no host":               strings.Replace(bare.text(), "Host: localhost\r\n", "", 1) + inner,
		"two hosts":             bare.text("Host: 127.0.0.1") + inner,
		"a chunk too long":      bare.text("Transfer-Encoding: chunked") + "fffffffffffffffff\r\n" + inner,
		"a chunk with a sign":   bare.text("Transfer-Encoding: chunked") + "-5\r\n" + inner,
		"HTTP/2 preface":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"HTTP/0.9":              "GET /v1/conversations/a%7C1%7Cb\r\n\r\n",
		"HTTP/3.0":              strings.Replace(bare.text(), "HTTP/1.1", "HTTP/3.0", 1) + inner,
	} {
		a, rest, err := r.exhaust(t, f.verb, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if sent := r.take(); a.status < 400 || a.status > 505 || len(rest) != 0 || len(sent) != 0 {
			t.Errorf("%s: HTTP %d, %d requests, then %q: %s", name, a.status, len(sent), rest, a.body)
		}
	}
}

// exhaust asks and reads on until the server closes the connection.
func (r *rig) exhaust(tb testing.TB, verb, text string) (answer, []byte, error) {
	tb.Helper()
	w, err := dialWire(tb.Context(), r.rest)
	if err != nil {
		return answer{}, nil, err
	}
	defer w.Close() //nolint:errcheck // what was asked was answered, or not
	a, err := w.ask(verb, text)
	if err != nil {
		return a, nil, err
	}
	rest, err := io.ReadAll(w.reader)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil // closed before all was read
	}
	return a, rest, err
}

package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/upstream"
)

// callerHeader once named the caller of the REST door.
const callerHeader = "x-rest-caller"

// callers returns the caller that the upstream's client gets to know.
func callers(ctx context.Context) string { return upstream.CallInfoOf(ctx).Caller }

// Neither door lets anybody say who they are.
func TestCaller(t *testing.T) {
	var seen string
	h := &handlers{get: func(ctx context.Context, req *imv1.GetConversationRequest) (*imv1.GetConversationResponse, error) {
		seen = callers(ctx)
		return echo(ctx, req)
	}}
	r := start(t, h.api())
	hostile := []string{callerHeader, "x-forwarded-for", "forwarded", "x-real-ip", "grpc-metadata-" + callerHeader, "grpcgateway-" + callerHeader}
	md, headers := metadata.MD{}, []string{}
	for _, name := range hostile {
		md.Append(name, "192.0.2.66")
		headers = append(headers, name, "192.0.2.66")
	}
	for name, ctx := range map[string]context.Context{"plain": t.Context(), "hostile": metadata.NewOutgoingContext(t.Context(), md)} {
		if _, err := r.get(ctx, "a|1|b"); err != nil || seen != "127.0.0.1" {
			t.Errorf("gRPC, %s: %s, %v", name, seen, err)
		}
	}
	for name, headers := range map[string][]string{"plain": nil, "hostile": headers} {
		seen = ""
		r.do(t, http.MethodGet, aliceBob, http.NoBody, headers...)
		if seen != "127.0.0.1" {
			t.Errorf("REST, %s: %s", name, seen)
		}
	}
}

// address is a net.Addr as the listeners make them.
type address struct{ network, text string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.text }

func TestCallerOfStreams(t *testing.T) {
	chain := newTestChain(t, slog.New(slog.DiscardHandler))
	for name, c := range map[string]struct {
		addr net.Addr
		want string
	}{
		"IPv4":         {&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1}, "192.0.2.7"},
		"IPv4 in IPv6": {&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.7"), Port: 1}, "192.0.2.7"},
		"IPv6":         {&net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 1}, "2001:db8::7"},
		"no address":   {address{"unix", "@"}, ""},
	} {
		md := metadata.Pairs(callerHeader, "192.0.2.1")
		ctx := peer.NewContext(metadata.NewIncomingContext(t.Context(), md), &peer.Peer{Addr: c.addr})
		err := chain.stream("/yunxin.im.v1.X/Y", func(_ any, s grpc.ServerStream) error {
			if got := callers(s.Context()); got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
			return nil
		})(nil, &stream{ctx: ctx})
		if err != nil {
			t.Error(err)
		}
	}
}

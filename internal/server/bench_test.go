package server

import (
	"net/http"
	"strings"
	"testing"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// BenchmarkCall measures what a call costs between its caller and its handler: a
// small one over either door, and one with a large message.
func BenchmarkCall(b *testing.B) {
	r := start(b, (&handlers{get: echo}).api(), "--max-request-bytes=8MiB", "--log-level=error")
	b.Run("grpc", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := r.get(b.Context(), "alice|1|bob"); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("rest", func(b *testing.B) {
		for b.Loop() {
			if a := r.do(b, http.MethodGet, aliceBob, http.NoBody); a.StatusCode != http.StatusOK {
				b.Error(a.body)
			}
		}
	})
	text := strings.Repeat("x", 1<<20)
	large := &imv1.SendMessageRequest{ConversationId: "alice|1|bob", Message: &imv1.NewMessage{
		Content: &imv1.MessageContent{Kind: &imv1.MessageContent_Text{Text: text}},
	}}
	b.Run("grpc, 1 MiB", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			// Refused by a rule, after it has arrived.
			if _, err := imv1.NewMessageServiceClient(r.conn).SendMessage(b.Context(), large); err == nil {
				b.Error("taken")
			}
		}
	})
}

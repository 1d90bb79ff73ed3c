package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// MessageClientID makes the client id of a message to a conversation: always the same
// under one idempotency key, and a new one without.
func MessageClientID(ctx context.Context, conversationID string) string {
	key := infoOf(ctx).IdempotencyKey
	if key == "" {
		return NewTraceID()
	}
	return digest(fmt.Appendf(nil, "%q %q", key, conversationID))
}

// keyedID derives a trace id. The request is part of it because one key covers all
// parts of a batch.
func keyedID(appKey, key, method string, request proto.Message) string {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return NewTraceID() // no message of ours; Encode says why
	}
	return digest(fmt.Appendf(nil, "%q %q %q %s", appKey, key, method, body))
}

// digest has the form of a trace id.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

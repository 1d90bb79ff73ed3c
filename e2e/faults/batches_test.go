package faults

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

var batches = scenario{
	name:  "batches",
	fault: "the same, and half of the batches run out of time",
	load:  "1,000 messages to 250 receivers each, without a key, in three calls of the upstream each",
	must:  "no receiver gets a message twice; who is said to have it has it; who is said not to have it has not",
}

func TestBatches(t *testing.T) {
	r := batches.begin(t)
	b := unreliable
	b.service, b.spread = 10*time.Millisecond, 60*time.Millisecond
	up := startFake(t, b)
	// The facade's deadline, and not the callers' own, so that it answers.
	callers := startFacade(t, []string{up.url}, "--default-timeout=50ms").callers(t, 4)
	messages := form(40, 1000)
	receivers := make([]string, 250)
	for n := range receivers {
		receivers[n] = fmt.Sprintf("peer%d", n)
	}
	outcomes := make([][]outcome, messages)
	each(t, messages, 20, func(i int) {
		reply, err := callers[i%4].messages.BatchSendMessages(t.Context(), &imv1.BatchSendMessagesRequest{
			SenderId: "alice", ReceiverIds: receivers, Message: &imv1.BatchMessage{
				Content: &imv1.MessageContent{Kind: &imv1.MessageContent_Text{Text: batchText(i)}},
			},
		})
		for n := range receivers {
			o := outcomeOf(err)
			if err == nil {
				o = outcomeOf(status.ErrorProto(reply.GetResults()[n].GetError()))
			}
			outcomes[i] = append(outcomes[i], o)
		}
	})
	var wrong untruths
	kinds := map[string]int{}
	for i := range outcomes {
		for n, o := range outcomes[i] {
			e := up.ledger.entry(toReceiver(batchText(i), receivers[n]))
			kinds[o.reason]++
			wrong.judge(t, o, e)
		}
	}
	wrong.report(r)
	all := len(receivers) * messages
	r.sayf("of %d receivers %d acknowledged, of %d the outcome unknown, to %d not sent", all, kinds[""], kinds["OUTCOME_UNKNOWN"], all-kinds[""]-kinds["OUTCOME_UNKNOWN"])
	r.write()
}

func batchText(i int) string { return fmt.Sprintf("batch %d", i) }

// toReceiver is what the ledger knows a message to one of many receivers by.
func toReceiver(text, receiver string) string { return text + " to " + receiver }

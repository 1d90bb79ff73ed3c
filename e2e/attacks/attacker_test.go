package attacks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An attacker has machines of its own. Here it has a process of its own, which
// gets what processor time the server and its honest callers leave.
const attackerEnv = "YUNXIN_E2E_ATTACKER" // what the process is to do: the name of a flood, and an address

// attack floods an address from such a process until the context ends. In the short
// form, which judges no times, it does so from this one.
func attack(ctx context.Context, tb testing.TB, name, addr string) (frames, connections int64) {
	tb.Helper()
	if !full() {
		return floods[name].run(ctx, addr)
	}
	process := exec.CommandContext(ctx, "nice", "-n", "19", os.Args[0])
	process.Env = append(os.Environ(), attackerEnv+"="+name+"@"+addr)
	process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
	process.WaitDelay = 2 * patience
	process.Stderr = os.Stderr
	out, err := process.Output()
	if _, broken := errors.AsType[*exec.ExitError](err); broken || errors.Is(err, exec.ErrNotFound) {
		tb.Errorf("the attacker: %v", err)
	}
	if _, err := fmt.Sscan(string(out), &frames, &connections); err != nil {
		tb.Errorf("the attacker said %q: %v", out, err)
	}
	return frames, connections
}

// beAttacker is the attacker's side. It ends when its parent does, too.
func beAttacker(order string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	name, addr, _ := strings.Cut(order, "@")
	frames, connections := floods[name].run(ctx, addr)
	_, _ = fmt.Fprintln(os.Stdout, frames, connections)
}

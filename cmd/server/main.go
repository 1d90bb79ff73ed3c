// Command server serves the IM API of NetEase Yunxin over gRPC and REST.
// Try it with `server --sandbox`; `server --help` lists its settings.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc/grpclog"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
	"github.com/yunxin-facade/yunxin-facade/internal/server"
)

func main() {
	// The libraries write to standard error what callers sent; the log of this
	// service does not.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := config.Parse(args, stdout)
	if errors.Is(err, config.ErrDone) {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := server.New(cfg, cfg.Logger(stderr)) //nolint:contextcheck // binding an address does not wait
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, s.Banner()); err != nil {
		return err
	}
	return s.Run(ctx)
}

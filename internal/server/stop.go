package server

import "context"

// stop ends the service from the outside in: load balancers learn that it is going, and
// get time to act on it; then REST ends, then gRPC, and last the upstream, which the calls
// of both need.
func (s *Server) stop(ctx context.Context) {
	s.log.InfoContext(ctx, "stopping: calls in progress may finish",
		"shutdown_delay", s.cfg.ShutdownDelay, "drain_timeout", s.cfg.DrainTimeout)
	s.health.Shutdown()
	close(s.leaving)
	<-s.after(s.cfg.ShutdownDelay)
	close(s.draining)

	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	// An error here is the end of ctx, of which the caller hears below.
	_ = s.rest.Shutdown(ctx)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.grpc.GracefulStop()
	}()
	select {
	case <-drained:
		s.log.InfoContext(ctx, "stopped")
	case <-ctx.Done():
		s.log.WarnContext(ctx, "stopped: calls were cut off, the drain time-out is over")
		s.cutOff()
		s.grpc.Stop()
		<-drained
	}
	s.close()
}

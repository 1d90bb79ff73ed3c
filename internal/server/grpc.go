package server

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Limits of the gRPC server that nobody has needed to change.
const (
	maxReplyBytes      = 256 << 20 // a refused reply would hide what was done
	maxMetadataBytes   = 16 << 10
	streamWindow       = 64 << 10 // a larger message gets more as soon as it is waited for
	connectionWindow   = 1 << 20
	readBuffer         = 8 << 10 // an idle connection need not have 32 KiB
	handshakeTimeout   = 10 * time.Second
	minPingInterval    = 20 * time.Second
	connectionIdle     = 15 * time.Minute
	connectionAge      = 30 * time.Minute // lets load balancers spread callers anew
	connectionAgeGrace = 5 * time.Second  // beyond the longest call
	pingInterval       = 2 * time.Minute
	pingTimeout        = 20 * time.Second
	streamWorkers      = 64 // goroutines that keep their stacks; more calls than that get new ones
)

func (s *Server) buildGRPC(api api) error {
	c := s.chain
	s.grpc = grpc.NewServer(append(s.limits(c.arrivals), grpc.UnknownServiceHandler(c.unknown))...)
	s.closers = append(s.closers, s.grpc.Stop)
	if err := api.register(registrar{s.grpc, c, s.door}, s.apps); err != nil {
		return err
	}
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	if s.cfg.Health {
		grpc_health_v1.RegisterHealthServer(registrar{s.grpc, c, nil}, s.health)
	}
	if s.cfg.Reflection {
		reflection.Register(registrar{s.grpc, c, nil})
	}
	return nil
}

// limits are the options of the gRPC server that do not look at calls.
func (s *Server) limits(arrivals *arrivals) []grpc.ServerOption {
	creds := insecure.NewCredentials()
	if s.identity != nil {
		creds = credentials.NewTLS(s.identity.config(func(t *trust) *tls.Config { return t.grpc }))
	}
	return []grpc.ServerOption{
		grpc.NumStreamWorkers(streamWorkers),
		grpc.Creds(attentive{creds, arrivals}),
		grpc.InTapHandle(patience(s.methods, s.cfg.MaxTimeout, s.cfg.MaxStreamTime)),
		grpc.MaxConcurrentStreams(uint32(room(s.cfg.MaxInFlight))), //nolint:gosec // the settings keep it far below
		// The library refuses what is larger without a reason. Usual mistakes are refused
		// by the chain.
		grpc.MaxRecvMsgSize(2 * int(s.cfg.MaxRequestBytes)),
		grpc.ReadBufferSize(readBuffer),
		// Otherwise the library lets the windows of all streams grow to 16 MiB.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.MaxSendMsgSize(maxReplyBytes),
		grpc.MaxHeaderListSize(maxMetadataBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     connectionIdle,
			MaxConnectionAge:      connectionAge,
			MaxConnectionAgeGrace: max(s.cfg.MaxTimeout, s.cfg.MaxStreamTime) + connectionAgeGrace,
			Time:                  pingInterval,
			Timeout:               pingTimeout,
		}),
	}
}

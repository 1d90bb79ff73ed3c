package server

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
	"github.com/yunxin-facade/yunxin-facade/service"
	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// Limits of the gRPC server that nobody has needed to change.
const (
	maxReplyBytes      = 256 << 20 // a refused reply would hide what was done
	maxMetadataBytes   = 16 << 10
	streamWindow       = 64 << 10 // a larger message gets more as soon as it is waited for
	connectionWindow   = 1 << 20
	readBuffer         = 8 << 10
	handshakeTimeout   = 10 * time.Second
	minPingInterval    = 20 * time.Second
	connectionIdle     = 15 * time.Minute
	connectionAge      = 30 * time.Minute // lets load balancers spread callers anew
	connectionAgeGrace = 5 * time.Second  // beyond the longest call
	pingInterval       = 2 * time.Minute
	pingTimeout        = 20 * time.Second
)

func (s *Server) buildGRPC(draining <-chan struct{}, refusals *refusals, api api) error {
	validate, err := newValidation(service.Descriptors())
	if err != nil {
		return fmt.Errorf("the validation rules: %w", err)
	}
	arrivals := newArrivals(int64(s.cfg.MaxRequestBytes))
	// Both doors and both kinds of call pass the same chain, outermost first.
	// The trace id comes first, for even a panic has one. The outer recovery
	// guards the chain itself. Telemetry stands outside of all that may refuse a
	// call, so that it sees every refusal, and a look at the calls in progress right
	// after it, so that a refusal costs little. Then it must be clear who calls, and
	// only then is the first message waited for.
	first := []interceptor{
		trace(),
		recoverChain(refusals),
		observe(refusals, s.telemetry),
		s.admission.early(),
	}
	if s.access != nil {
		first = append(first, s.access.authentication())
	}
	// A call counts as one in progress once it has arrived. That this caller may make
	// it must be clear before anything is made of what was sent. The size is checked
	// before any rule is, and the inner recovery turns a handler's panic into an error
	// like any other.
	rest := []interceptor{
		arrivals.interceptor(),
		s.admission.interceptor(),
		caller(),
	}
	if s.access != nil {
		rest = append(rest, s.access.authorization())
	}
	rest = append(rest,
		s.apps.selectApp(),
		idempotency(),
		deadline(draining, s.cfg.DefaultTimeout, s.cfg.MaxTimeout, s.cfg.MaxStreamTime),
		limitSize(int(s.cfg.MaxRequestBytes)),
		validate.interceptor(),
		recoverHandler(),
	)
	firstUnary, firstStream := forms(first)
	restUnary, restStream := forms(rest)
	s.grpc = grpc.NewServer(append(s.limits(arrivals),
		grpc.ChainUnaryInterceptor(restUnary...),
		grpc.ChainStreamInterceptor(append(firstStream, restStream...)...),
		grpc.UnknownServiceHandler(unknownMethod()),
	)...)
	registrar := registrar{s.grpc, arrivals, chained(firstUnary)}
	if err := api.register(registrar, s.apps); err != nil {
		return err
	}
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	if s.cfg.Health {
		grpc_health_v1.RegisterHealthServer(registrar, s.health)
	}
	if s.cfg.Reflection {
		reflection.Register(s.grpc)
	}
	return nil
}

// limits are the options of the gRPC server that do not look at calls.
func (s *Server) limits(arrivals *arrivals) []grpc.ServerOption {
	creds := insecure.NewCredentials()
	if s.identity != nil {
		creds = newDoorCredentials(s.identity)
	}
	return []grpc.ServerOption{
		grpc.Creds(attentive{creds, arrivals}),
		grpc.InTapHandle(patience(s.cfg.MaxTimeout, s.cfg.MaxStreamTime)),
		grpc.MaxConcurrentStreams(uint32(room(s.cfg.MaxInFlight))), //nolint:gosec // the settings keep it far below
		// What is beyond this is refused by the library, and thus without a reason:
		// limitSize should get to see the usual mistake.
		grpc.MaxRecvMsgSize(2 * int(s.cfg.MaxRequestBytes)),
		// An idle connection need not have 32 KiB.
		grpc.ReadBufferSize(readBuffer),
		// Left to itself, the library lets the windows of all streams grow to 16 MiB.
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

// unknownMethod answers calls of methods that do not exist.
func unknownMethod() grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		return apierror.New(imv1.ErrorReason_ERROR_REASON_METHOD_UNIMPLEMENTED, "there is no method %q", method)
	}
}

// isInfrastructure tells health checks and reflection from the API. They have
// clients with expectations of their own: their errors are not the API's, and
// their streams stay open for as long as the server runs.
func isInfrastructure(method string) bool {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case grpc_health_v1.Health_ServiceDesc.ServiceName, reflectionv1.ServerReflection_ServiceDesc.ServiceName,
		reflectionv1alpha.ServerReflection_ServiceDesc.ServiceName:
		return true
	}
	return false
}

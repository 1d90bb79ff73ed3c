package e2e

import (
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/yunxin-facade/yunxin-facade/e2e/harness"
)

// A facade is a running service, as its callers see it.
type facade struct {
	grpcAddr string
	restURL  string
	conn     *grpc.ClientConn
	client   *http.Client
}

// startFacade starts the server with the given arguments, on ports of its own,
// and stops it when the test ends.
func startFacade(tb testing.TB, args ...string) *facade {
	tb.Helper()
	doors := harness.Start(tb, args...)
	f := connect(tb, doors.GRPC, doors.REST)
	tb.Cleanup(f.close)
	return f
}

// connect makes the clients of a service that runs already.
func connect(tb testing.TB, grpcAddr, restURL string) *facade {
	tb.Helper()
	conn, err := grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	return &facade{grpcAddr: grpcAddr, restURL: restURL, conn: conn, client: client}
}

func (f *facade) close() {
	_ = f.conn.Close()
	f.client.CloseIdleConnections()
}

// door returns one of the ways in, by its name.
func (f *facade) door(name string) door {
	if name == "grpc" {
		return grpcDoor{f.conn}
	}
	return restDoor{f.restURL, f.client}
}

package server

import (
	"fmt"
	"io"
	"net/http"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
)

// adminHandler answers load balancers and monitoring. The server is ready from the first
// answer on until it is about to stop.
func adminHandler(leaving <-chan struct{}, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-leaving:
			http.Error(w, "stopping", http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, "ok\n")
		}
	})
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, config.Version())
	})
	return mux
}

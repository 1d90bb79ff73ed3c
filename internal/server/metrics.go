package server

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	"github.com/yunxin-facade/yunxin-facade/internal/audit"
	"github.com/yunxin-facade/yunxin-facade/internal/callinfo"
)

// newRegistry makes the registry of one server. There may be more of them in a process.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

const namespace = "yunxin_facade"

// metrics measure the calls of the API. All labels have few values, whatever is called.
type metrics struct {
	calls     *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "calls_total",
			Help: "Calls that ended, by gRPC code; refused ones too.",
		}, []string{"method", "code", "door"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "call_duration_seconds",
			Help:    "Time from the arrival of a call to its end, of a stream also.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method", "door"}),
	}
	r.MustRegister(m.calls, m.durations)
	return m
}

// count notes the end of a call.
func (m *metrics) count(info *callinfo.Info, code codes.Code, took time.Duration) {
	method := "other"
	if info.Method != nil && info.IsAPI() {
		method = strings.TrimPrefix(info.Method.Name, "/")
	}
	m.calls.WithLabelValues(method, code.String(), info.Door).Inc()
	m.durations.WithLabelValues(method, info.Door).Observe(took.Seconds())
}

// measure shows the calls in progress.
func (a *admission) measure(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "calls_in_flight",
		Help: "Calls in progress, streams included.",
	}, func() float64 { return float64(a.calls.Load()) }))
}

// measureAudit shows whether all calls were written down.
func measureAudit(r prometheus.Registerer, records *audit.Log) {
	for outcome, count := range map[string]func() uint64{
		"written": func() uint64 { return records.Stats().Written },
		"lost":    func() uint64 { return records.Stats().Lost },
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "audit_records_total", ConstLabels: prometheus.Labels{"outcome": outcome},
			Help: "Records of the audit file, by what became of them.",
		}, func() float64 { return float64(count()) }))
	}
}

// metricsHandler shows all that can be measured, also if a part of it cannot.
func metricsHandler(registry *prometheus.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError,
	})
}

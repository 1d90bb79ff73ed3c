package upstream

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
)

// metrics are those of a Conn. All labels have few values: methods of the API,
// endpoints of the app, and the outcomes below.
type metrics struct {
	attempts  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	refusals  *prometheus.CounterVec
	waits     prometheus.Histogram
	switches  prometheus.Counter
	shared    prometheus.Counter
}

// Outcomes of an attempt.
const (
	outcomeOK      = "ok"
	outcomeRefused = "refused" // by the upstream's application
	outcomeLimited = "rate_limited"
	outcomeFailed  = "failed"
	outcomeCut     = "abandoned"
)

func newMetrics() *metrics {
	const namespace, subsystem = "yunxin_facade", "upstream"
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "attempts_total",
			Help: "HTTP exchanges with the upstream: ok, refused by its application, rate_limited, failed without its answer, or abandoned by the caller.",
		}, []string{"method", "endpoint", "outcome"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "attempt_duration_seconds",
			Help:    "Time of one HTTP exchange with the upstream.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"method"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "refusals_total",
			Help: "Attempts that were not made, by reason: no quota, too many in progress, no endpoint in service.",
		}, []string{"method", "reason"}),
		waits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "quota_wait_seconds",
			Help:    "Time that attempts waited for the quota of their operation.",
			Buckets: []float64{.001, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		switches: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "endpoint_switches_total",
			Help: "How often the calls moved to another endpoint.",
		}),
		shared: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "shared_reads_total",
			Help: "Reads answered by the upstream call of an identical one.",
		}),
	}
}

func (m *metrics) attempt(made call, a attempt, outcome string) {
	m.attempts.WithLabelValues(made.Name, a.endpoint().Name, outcome).Inc()
	m.durations.WithLabelValues(made.Name).Observe(a.took.Seconds())
}

// forget drops what is told of an endpoint that is no longer called.
func (m *metrics) forget(e *failover.Endpoint) {
	m.attempts.DeletePartialMatch(prometheus.Labels{"endpoint": e.Name})
}

// outcomeOf names how an attempt ended.
func outcomeOf(r failover.Result, e *apierror.Error) string {
	switch {
	case e == nil:
		return outcomeOK
	case r == failover.Abandoned:
		return outcomeCut
	case e.UpstreamCode == apierror.CodeRateLimit:
		return outcomeLimited
	case r == failover.Answered:
		return outcomeRefused
	default:
		return outcomeFailed
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.durations, m.refusals, m.waits, m.switches, m.shared}
}

// Describe implements prometheus.Collector.
func (c *Conn) Describe(to chan<- *prometheus.Desc) {
	for _, collector := range c.metrics.all() {
		collector.Describe(to)
	}
	for _, desc := range []*prometheus.Desc{descSkew, descUp, descCurrent, descLimit, descInFlight, descWaiting} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *Conn) Collect(to chan<- prometheus.Metric) {
	for _, collector := range c.metrics.all() {
		collector.Collect(to)
	}
	to <- prometheus.MustNewConstMetric(descSkew, prometheus.GaugeValue, c.clock.Skew().Seconds())
	for _, state := range c.endpoints.States() {
		limit, inProgress, waiting := c.limiterOf(state.Endpoint).State()
		for desc, value := range map[*prometheus.Desc]float64{
			descUp: truth(state.Up), descCurrent: truth(state.Current),
			descLimit: float64(limit), descInFlight: float64(inProgress), descWaiting: float64(waiting),
		} {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, state.Endpoint.Name)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// What is read when it is asked for.
var (
	descSkew     = describe("clock_skew_seconds", "How far the upstream's clock is ahead of ours; signatures are refused beyond 300.")
	descUp       = describe("endpoint_up", "Whether the endpoint is in service.", "endpoint")
	descCurrent  = describe("endpoint_current", "Whether calls go to the endpoint.", "endpoint")
	descLimit    = describe("concurrency_limit", "Attempts that may be in progress at the endpoint; it adapts to the latency.", "endpoint")
	descInFlight = describe("attempts_in_flight", "Attempts in progress at the endpoint.", "endpoint")
	descWaiting  = describe("attempts_waiting", "Attempts that wait for others at the endpoint to end.", "endpoint")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("yunxin_facade", "upstream", name), help, labels, nil)
}

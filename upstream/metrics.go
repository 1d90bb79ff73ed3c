package upstream

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/yunxin-facade/yunxin-facade/upstream/apierror"
)

// The metrics of a Conn. All labels have few values: methods of the API, hosts of
// the app, and the outcomes below.
type metrics struct {
	attempts  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	refusals  *prometheus.CounterVec
	waits     prometheus.Histogram
	switches  prometheus.Counter
	shared    prometheus.Counter
}

// Outcomes of an attempt beyond those of its host.
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

func (m *metrics) attempt(op operation, a attempt, outcome string) {
	m.attempts.WithLabelValues(op.name, a.host.name, outcome).Inc()
	m.durations.WithLabelValues(op.name).Observe(a.took.Seconds())
}

// forget drops what is told of a host that is no longer called.
func (m *metrics) forget(h *host) {
	m.attempts.DeletePartialMatch(prometheus.Labels{"endpoint": h.name})
}

// outcomeOf names how an attempt ended.
func outcomeOf(r result, e *apierror.Error) string {
	switch {
	case e == nil:
		return outcomeOK
	case r == abandoned:
		return outcomeCut
	case e.UpstreamCode == apierror.CodeRateLimit:
		return outcomeLimited
	case r == answered:
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
	to <- prometheus.MustNewConstMetric(descSkew, prometheus.GaugeValue, time.Duration(c.clock.skew.Load()).Seconds())
	for _, h := range c.pool.states() {
		gauge := func(desc *prometheus.Desc, value float64) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, h.name)
		}
		gauge(descUp, truth(h.up))
		gauge(descCurrent, truth(h.current))
		gauge(descLimit, float64(h.limit))
		gauge(descInFlight, float64(h.inFlight))
		gauge(descWaiting, float64(h.waiting))
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

// A hostState is what metrics tell of a host.
type hostState struct {
	name                     string
	up, current              bool
	limit, inFlight, waiting int
}

func (p *pool) states() []hostState {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]hostState, len(p.hosts))
	for i, h := range p.hosts {
		all[i] = hostState{name: h.name, up: h.up, current: h == p.current}
		all[i].limit, all[i].inFlight, all[i].waiting = h.slots.state()
	}
	return all
}

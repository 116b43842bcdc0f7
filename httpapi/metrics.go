package httpapi

import (
	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/wire"
)

const (
	// An address may request the metrics so often per second, and so often at once. They take the longer the more files
	// the process has open.
	scrapes      = 50
	scrapesBurst = 500
)

// NewScrapeLimit returns the limit of requests for metrics.
func NewScrapeLimit(log hclog.Logger) *RateLimit {
	return NewRateLimit("requests for metrics", scrapes, scrapesBurst, log)
}

// Metrics adds /metrics, which takes no token: the metrics of Go, of the process, and those of own. guard refuses what
// a page gets by DNS rebinding: metrics show the load, and to a page that cannot reach the node otherwise.
func (e *Engine) Metrics(limit *RateLimit, guard *Guard, own ...prometheus.Collector) {
	registry := prometheus.NewRegistry()
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	registry.MustRegister(append(own, collectors.NewGoCollector(), process)...)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	e.GetAndHead("/metrics", e.Do(func(c *gin.Context) error {
		if err := guard.CheckOpen(c.Request); err != nil {
			return err
		}
		if err := limit.Take(c.Request); err != nil {
			return err
		}
		handler.ServeHTTP(c.Writer, c.Request)
		return nil
	}))
}

// CertificateMetrics are the metrics of a node's certificate. Report is nil without TLS.
type CertificateMetrics struct{ Report func() certs.Report }

// Describe implements [prometheus.Collector]. It describes no metric: the registry checks them when they are collected.
func (m CertificateMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (m CertificateMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.Report == nil {
		return
	}
	r, wrong := m.Report(), 0.0
	if r.Err != nil {
		wrong = 1
	}
	for _, row := range []struct {
		name, help string
		value      float64
	}{
		{"expires_timestamp_seconds", "unix time at which the first of this node's certificates ends",
			float64(r.NotAfter.Unix())},
		{"files_wrong", "1 while this node's files of certificates are not used, because they are wrong; the ones " +
			"before them still are", wrong},
		{"graces", "other nodes whose certificates are out of their time, as this node has seen them",
			float64(len(r.Grace))},
	} {
		desc := prometheus.NewDesc("chainstore_certificate_"+row.name, row.help, nil, nil)
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, row.value)
	}
}

// SecretMetrics are the metrics of a node's secrets. Report is nil where they are not known.
type SecretMetrics struct{ Report func() []wire.SecretUse }

// Describe implements [prometheus.Collector]. It describes no metric: the registry checks them when they are collected.
func (m SecretMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (m SecretMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.Report == nil {
		return
	}
	set := func(secret, name, help string, on bool) {
		value := 0.0
		if on {
			value = 1
		}
		desc := prometheus.NewDesc("chainstore_secret_"+name, help, []string{"secret"}, nil)
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, secret)
	}
	for _, u := range m.Report() {
		set(u.Secret, "file_wrong", "1 while the file of this node's secret is not used, because it is wrong; the "+
			"values before it still are", u.Error != "")
		set(u.Secret, "rotating", "1 while this node accepts a second value of the secret", u.Next != "" || u.Old != "")
	}
}

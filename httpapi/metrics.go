package httpapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chainstore/chainstore/masternode"
)

// gauge is a metric that is read from the master's state when it is asked for: counting costs the record's path nothing.
type gauge struct {
	desc  *prometheus.Desc
	value func(masternode.Figures) float64
}

// metrics collects the gauges of one master.
type metrics struct {
	node   *masternode.Node
	gauges []gauge
}

// newMetrics is the handler of /metrics, with a registry of its own.
func newMetrics(node *masternode.Node) http.Handler {
	m := &metrics{node: node}
	add := func(name, help string, value func(masternode.Figures) float64) {
		m.gauges = append(m.gauges, gauge{prometheus.NewDesc("chainstore_"+name, help, nil, nil), value})
	}
	add("leader", "1 where this master leads", func(f masternode.Figures) float64 {
		if f.Leading {
			return 1
		}
		return 0
	})
	add("term", "term of the newest leader", func(f masternode.Figures) float64 { return float64(f.Term) })
	add("height_blocks", "mined blocks", func(f masternode.Figures) float64 { return float64(f.Height) })
	add("stored_blocks", "blocks that enough storage nodes have", func(f masternode.Figures) float64 { return float64(f.Stored) })
	add("leaves", "leaves of the tree: records and seals that have a position", func(f masternode.Figures) float64 { return float64(f.NextIndex) })
	add("buffer_records", "records in the open block", func(f masternode.Figures) float64 { return float64(f.BufferRecords) })
	add("pending_blocks", "blocks that are cut and not stored", func(f masternode.Figures) float64 { return float64(f.PendingBlocks) })
	add("pending_bytes", "bytes that are committed and not stored", func(f masternode.Figures) float64 { return float64(f.PendingBytes) })
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for i := range m.gauges {
		ch <- m.gauges[i].desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	figures := m.node.Figures()
	for i := range m.gauges {
		ch <- prometheus.MustNewConstMetric(m.gauges[i].desc, prometheus.GaugeValue, m.gauges[i].value(figures))
	}
}

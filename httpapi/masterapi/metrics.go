package masterapi

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
	kind  prometheus.ValueType
	value func(masternode.Figures) float64
}

// metrics collects the gauges of one master.
type metrics struct {
	node   *masternode.Node
	gauges []gauge
	// Of each witness, by its name.
	witnessOK, witnessLeaves, witnessFailures *prometheus.Desc
}

// newMetrics is the handler of /metrics, with a registry of its own.
func newMetrics(node *masternode.Node) http.Handler {
	ofWitness := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("chainstore_witness_"+name, help+"; told by the leader", []string{"witness"}, nil)
	}
	m := &metrics{
		node:            node,
		witnessOK:       ofWitness("ok", "1 where the witness cosigns, 0 where it does not"),
		witnessLeaves:   ofWitness("leaves", "leaves of the newest checkpoint that the witness has cosigned"),
		witnessFailures: ofWitness("failures_total", "submissions to the witness that failed since this leader began"),
	}
	add := func(name, help string, value func(masternode.Figures) float64) {
		m.gauges = append(m.gauges, gauge{prometheus.NewDesc("chainstore_"+name, help, nil, nil), prometheus.GaugeValue, value})
	}
	count := func(name, help string, value func(masternode.Figures) uint64) {
		m.gauges = append(m.gauges, gauge{
			prometheus.NewDesc("chainstore_"+name+"_total", help, nil, nil), prometheus.CounterValue,
			func(f masternode.Figures) float64 { return float64(value(f)) },
		})
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
	add("whole_storages", "storage nodes that count as a copy", func(f masternode.Figures) float64 { return float64(f.WholeStorages) })
	add("lost_blocks", "blocks that no storage node has a good copy of", func(f masternode.Figures) float64 { return float64(f.LostBlocks) })
	add("checkpoint_leaves", "leaves of the tree up to the newest block that enough storage nodes have", func(f masternode.Figures) float64 { return float64(f.Checkpoint) })
	add("cosigned_leaves", "leaves of the newest checkpoint that a witness has cosigned", func(f masternode.Figures) float64 { return float64(f.Cosigned) })
	add("published_leaves", "leaves of the tree whose checkpoint is shown: fewer where witnesses are waited for", func(f masternode.Figures) float64 { return float64(f.Published) })
	// Counted in the replicated table, so all masters tell the same, whoever leads.
	count("checks", "checks of storage nodes that ended", func(f masternode.Figures) uint64 { return f.Integrity.Checks })
	count("checked_bytes", "bytes of segments that checks read and hashed", func(f masternode.Figures) uint64 { return f.Integrity.CheckedBytes })
	count("bad_blocks", "bad blocks that were found", func(f masternode.Figures) uint64 { return f.Integrity.BadBlocks })
	count("bad_tile_hashes", "wrong hashes of the tree that were written again", func(f masternode.Figures) uint64 { return f.Integrity.BadTiles })
	count("repairs", "repairs that ended good", func(f masternode.Figures) uint64 { return f.Integrity.Repairs })
	count("failed_repairs", "repairs that ended early", func(f masternode.Figures) uint64 { return f.Integrity.FailedRepairs })
	count("repaired_blocks", "blocks that were sent for repairs", func(f masternode.Figures) uint64 { return f.Integrity.RepairedBlocks })
	count("repaired_bytes", "bytes that were sent for repairs", func(f masternode.Figures) uint64 { return f.Integrity.RepairedBytes })
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for i := range m.gauges {
		ch <- m.gauges[i].desc
	}
	for _, desc := range []*prometheus.Desc{m.witnessOK, m.witnessLeaves, m.witnessFailures} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	figures := m.node.Figures()
	for i := range m.gauges {
		ch <- prometheus.MustNewConstMetric(m.gauges[i].desc, m.gauges[i].kind, m.gauges[i].value(figures))
	}
	for _, w := range figures.Witnesses {
		ok := 1.0
		if w.Error != "" {
			ok = 0
		}
		ch <- prometheus.MustNewConstMetric(m.witnessOK, prometheus.GaugeValue, ok, w.Name)
		ch <- prometheus.MustNewConstMetric(m.witnessLeaves, prometheus.GaugeValue, float64(w.Size), w.Name)
		ch <- prometheus.MustNewConstMetric(m.witnessFailures, prometheus.CounterValue, float64(w.Failures), w.Name)
	}
}

package masterapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chainstore/chainstore/masternode"
)

type figures = masternode.Figures

// metric is read from the master's state when it is collected, so that it costs appends and reads nothing.
type metric struct {
	name, help string
	value      func(f *figures) uint64
}

var gauges = []metric{
	{"leader", "1 where this master leads", leads},
	{"term", "term of the newest leader", func(f *figures) uint64 { return f.Term }},
	{"height_blocks", "mined blocks", func(f *figures) uint64 { return f.Height }},
	{"stored_blocks", "blocks that enough storage nodes have", func(f *figures) uint64 { return f.Stored }},
	{"leaves", "leaves of the tree: records and seals that have a position",
		func(f *figures) uint64 { return f.NextIndex }},
	{"buffer_records", "records in the open block", func(f *figures) uint64 { return uint64(f.BufferRecords) }},
	{"pending_blocks", "blocks that are cut and not stored",
		func(f *figures) uint64 { return uint64(f.PendingBlocks) }},
	{"pending_bytes", "bytes that are committed and not stored", func(f *figures) uint64 { return f.PendingBytes }},
	{"whole_storages", "storage nodes that count as a copy",
		func(f *figures) uint64 { return uint64(f.WholeStorages) }},
	{"lost_blocks", "blocks that no storage node has a good copy of", func(f *figures) uint64 { return f.LostBlocks }},
	{"checkpoint_leaves", "leaves of the tree up to the newest block that enough storage nodes have",
		func(f *figures) uint64 { return f.Checkpoint }},
	{"cosigned_leaves", "leaves of the newest checkpoint that a witness has cosigned",
		func(f *figures) uint64 { return f.Cosigned }},
	{"published_leaves", "leaves of the tree whose checkpoint is published: fewer while witnesses have not cosigned",
		func(f *figures) uint64 { return f.Published }},
}

// counters are part of the replicated state, so all masters report the same.
var counters = []metric{
	{"checks", "checks of storage nodes that ended", func(f *figures) uint64 { return f.Integrity.Checks }},
	{"checked_bytes", "bytes of segments that checks read and hashed",
		func(f *figures) uint64 { return f.Integrity.CheckedBytes }},
	{"bad_blocks", "bad blocks that were found", func(f *figures) uint64 { return f.Integrity.BadBlocks }},
	{"bad_tile_hashes", "wrong hashes of the tree that were written again",
		func(f *figures) uint64 { return f.Integrity.BadTiles }},
	{"repairs", "repairs that succeeded", func(f *figures) uint64 { return f.Integrity.Repairs }},
	{"failed_repairs", "repairs that ended early", func(f *figures) uint64 { return f.Integrity.FailedRepairs }},
	{"repaired_blocks", "blocks that were sent for repairs",
		func(f *figures) uint64 { return f.Integrity.RepairedBlocks }},
	{"repaired_bytes", "bytes that were sent for repairs",
		func(f *figures) uint64 { return f.Integrity.RepairedBytes }},
}

func leads(f *figures) uint64 {
	if f.Leading {
		return 1
	}
	return 0
}

// described is a metric as Prometheus knows it.
type described struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(f *figures) uint64
}

// metrics collects the metrics of one master.
type metrics struct {
	node *masternode.Node
	all  []described
	// Of each witness, with its name as label.
	witnessOK, witnessLeaves, witnessFailures *prometheus.Desc
}

// newMetrics is the handler of /metrics, with a registry of its own.
func newMetrics(node *masternode.Node) http.Handler {
	ofWitness := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("chainstore_witness_"+name, help+"; reported by the leader", []string{"witness"}, nil)
	}
	m := &metrics{
		node:            node,
		witnessOK:       ofWitness("ok", "1 where the witness cosigns, 0 where it does not"),
		witnessLeaves:   ofWitness("leaves", "leaves of the newest checkpoint that the witness has cosigned"),
		witnessFailures: ofWitness("failures_total", "submissions to the witness that failed since this leader began"),
	}
	for _, g := range gauges {
		desc := prometheus.NewDesc("chainstore_"+g.name, g.help, nil, nil)
		m.all = append(m.all, described{desc, prometheus.GaugeValue, g.value})
	}
	for _, c := range counters {
		desc := prometheus.NewDesc("chainstore_"+c.name+"_total", c.help, nil, nil)
		m.all = append(m.all, described{desc, prometheus.CounterValue, c.value})
	}
	registry := prometheus.NewRegistry()
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	registry.MustRegister(m, collectors.NewGoCollector(), process)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for i := range m.all {
		ch <- m.all[i].desc
	}
	for _, desc := range []*prometheus.Desc{m.witnessOK, m.witnessLeaves, m.witnessFailures} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	f := m.node.Figures()
	for i := range m.all {
		ch <- prometheus.MustNewConstMetric(m.all[i].desc, m.all[i].kind, float64(m.all[i].value(&f)))
	}
	for _, w := range f.Witnesses {
		ok := 1.0
		if w.Error != "" {
			ok = 0
		}
		ch <- prometheus.MustNewConstMetric(m.witnessOK, prometheus.GaugeValue, ok, w.Name)
		ch <- prometheus.MustNewConstMetric(m.witnessLeaves, prometheus.GaugeValue, float64(w.Size), w.Name)
		ch <- prometheus.MustNewConstMetric(m.witnessFailures, prometheus.CounterValue, float64(w.Failures), w.Name)
	}
}

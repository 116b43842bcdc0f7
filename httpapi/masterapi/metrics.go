package masterapi

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/masternode"
)

// addMetrics adds the route of the metrics.
func (m *master) addMetrics(cfg *Config) {
	own := metrics{
		node: cfg.Node, connections: cfg.Connections, raftCut: cfg.RaftCut,
		open: m.open, unknown: m.unknown, scrapes: m.scrapes, issuer: m.issuer, refusals: &m.refusals,
	}
	m.Metrics(m.scrapes, &m.guard, own, httpapi.CertificateMetrics{Report: cfg.Certificate},
		httpapi.SecretMetrics{Report: cfg.Reported})
}

// metrics collects the metrics of one master. It reads all but the histograms from the master's state, so these cost
// appends and reads nothing.
type metrics struct {
	node        *masternode.Node
	connections func() httpapi.Connections
	raftCut     func() uint64

	open, unknown, scrapes *httpapi.RateLimit
	issuer                 *oidc.Issuer
	refusals               *refusals
}

// Describe implements [prometheus.Collector]. It describes no metric: the registry checks them when they are collected.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	var labels prometheus.Labels
	collect := func(kind prometheus.ValueType, name, help string, value float64) {
		desc := prometheus.NewDesc("chainstore_"+name, help, nil, labels)
		ch <- prometheus.MustNewConstMetric(desc, kind, value)
	}
	gauge := func(name, help string, value uint64) { collect(prometheus.GaugeValue, name, help, float64(value)) }
	counter := func(name, help string, value uint64) {
		collect(prometheus.CounterValue, name+"_total", help, float64(value))
	}

	m.node.Histograms().Collect(ch)
	f := m.node.Figures()
	gauge("leader", "1 where this master leads", flag(f.Leading))
	gauge("term", "term of the newest leader", f.Term)
	gauge("height_blocks", "mined blocks", f.Height)
	gauge("stored_blocks", "blocks that enough storage nodes have", f.Stored)
	gauge("leaves", "leaves of the tree: records and seals that have a position", f.NextIndex)
	gauge("buffer_records", "records in the open block", uint64(f.BufferRecords))
	gauge("pending_blocks", "blocks that are cut and not stored", uint64(f.PendingBlocks))
	gauge("pending_bytes", "bytes that are committed and not stored", f.PendingBytes)
	gauge("queued_appends", "appends of this master's clients that wait for a submission", uint64(f.Appends))
	gauge("queued_append_bytes", "bytes of the appends that wait for a submission", uint64(f.AppendBytes))
	gauge("queued_submissions", "submissions that wait at this master, as the leader, for a commit",
		uint64(f.Submissions))
	gauge("queued_submission_bytes", "bytes of the submissions that wait for a commit", uint64(f.SubmissionBytes))
	gauge("queued_confirmations", "requests of this master's clients that wait for the leader to confirm an answer",
		uint64(f.Confirmations))
	gauge("raft_applied_index", "newest entry of raft's log that is in the state", f.Applied)
	gauge("raft_commit_index", "newest entry of raft's log that this master knows to be committed", f.Committed)
	contact := f.LastContact.Seconds()
	if f.LastContact == math.MaxInt64 {
		contact = math.Inf(1)
	}
	collect(prometheus.GaugeValue, "raft_last_contact_seconds",
		"time since this master heard from a leader or, on the leader, was certain to lead; +Inf if it never did",
		contact)
	gauge("whole_storages", "storage nodes that count as a copy", uint64(f.WholeStorages))
	if f.Leading {
		gauge("live_storages", "storage nodes that answer; reported by the leader", uint64(f.LiveStorages))
		gauge("live_miners", "miners that answer; reported by the leader", uint64(f.LiveMiners))
		gauge("unchecked_storages",
			"storage nodes whose last three checks or more ended early; reported by the leader", uint64(f.Unchecked))
		gauge("wrong_clocks", "masters whose clock is wrong; reported by the leader", uint64(f.WrongClocks))
		gauge("stale_folders", "nodes that are refused because their data folder is a copy; reported by the leader",
			uint64(f.StaleFolders))
		gauge("wrong_urls", "nodes at whose URL another node answers; reported by the leader", uint64(f.WrongURLs))
		gauge("clocks_disagree", "1 where no majority of the masters' clocks agrees; reported by the leader",
			flag(f.Disagree))
		gauge("time_ahead_seconds", "how far the time that records get is ahead of the clock of the leader",
			uint64(f.Ahead/time.Second))
		gauge("time_behind_seconds", "how far the time that records get is behind the clock of the leader",
			uint64(f.Behind/time.Second))
	}
	gauge("lost_blocks", "blocks that no storage node has a good copy of", f.LostBlocks)
	gauge("checkpoint_leaves", "leaves of the tree up to the newest block that enough storage nodes have", f.Checkpoint)
	gauge("cosigned_leaves", "leaves of the newest checkpoint that a witness has cosigned", f.Cosigned)
	gauge("published_leaves",
		"leaves of the tree whose checkpoint is published: fewer while witnesses have not cosigned", f.Published)

	gauge("read_cache_bytes", "bytes of proven records that this master keeps in memory", f.ReadCache.Bytes)
	counter("read_cache_hits", "reads of stored records that this master answered from memory", f.ReadCache.Hits)
	counter("read_cache_misses", "reads of stored records for which it asked a storage node", f.ReadCache.Misses)

	// These counters are part of the replicated state, so all masters report the same.
	counter("checks", "checks of storage nodes that ended", f.Integrity.Checks)
	counter("checked_bytes", "bytes of segments that checks read and hashed", f.Integrity.CheckedBytes)
	counter("bad_blocks", "bad blocks that were found", f.Integrity.BadBlocks)
	counter("bad_tile_hashes", "wrong hashes of the tree that were written again", f.Integrity.BadTiles)
	counter("repairs", "repairs that succeeded", f.Integrity.Repairs)
	counter("failed_repairs", "repairs that ended early", f.Integrity.FailedRepairs)
	counter("repaired_blocks", "blocks that were sent for repairs", f.Integrity.RepairedBlocks)
	counter("repaired_bytes", "bytes that were sent for repairs", f.Integrity.RepairedBytes)

	counter("open_requests_refused", "requests without a token that were refused: too many from an address",
		m.open.Refused()+m.scrapes.Refused())
	counter("unknown_tokens_refused",
		"requests with unknown tokens that were refused without a question to the leader: too many from an address",
		m.unknown.Refused())
	if m.connections != nil {
		c := m.connections()
		gauge("http_connections", "open connections to HTTP", uint64(c.Open))
		counter("http_connections_closed",
			"connections to HTTP without a valid token that were closed for newer ones", c.Closed)
		counter("http_connections_refused",
			"connections to HTTP that were refused, because all others carry valid tokens", c.Refused)
		counter("raft_connections_closed",
			"connections to the raft port that had not proven the cluster token and were closed for newer ones",
			m.raftCut())
	}

	if m.issuer != nil {
		s := m.issuer.Status()
		age := math.Inf(1)
		if !s.Fetched.IsZero() {
			age = time.Since(s.Fetched).Seconds()
		}
		gauge("oidc_keys", "keys of the OIDC issuer that this master knows", uint64(s.Keys))
		collect(prometheus.GaugeValue, "oidc_keys_age_seconds",
			"time since the keys of the OIDC issuer were fetched; +Inf if they never were", age)
		counter("oidc_fetch_failures", "fetches of the keys of the OIDC issuer that failed", s.Failures)
		counter("oidc_tokens_refused", "tokens with the form of a JWT that were refused", s.Refused)
	}
	for kind, count := range m.refusals.all() {
		labels = prometheus.Labels{"route": kind.route, "reason": kind.reason}
		counter("requests_refused", "requests refused for want of a valid token or its rights, or by a limit", count)
	}
	labels = nil
	if f.Disk.State != "" {
		gauge("disk_free_bytes", "bytes free on the disk of this master's data folder", f.Disk.Free)
		gauge("disk_total_bytes", "bytes of the disk of this master's data folder", f.Disk.Total)
		gauge("disk_full", "1 where this master has less free than --min-free", flag(f.Disk.IsFull()))
	}
	for _, id := range slices.Sorted(maps.Keys(f.Disks)) {
		labels = prometheus.Labels{"storage": id}
		gauge("storage_disk_free_bytes",
			"bytes free on the disk of the storage node's data folder; reported by the leader", f.Disks[id].Free)
		gauge("storage_disk_total_bytes",
			"bytes of the disk of the storage node's data folder; reported by the leader", f.Disks[id].Total)
		gauge("storage_disk_full",
			"1 where the storage node takes no blocks for want of room; reported by the leader",
			flag(f.Disks[id].IsFull()))
	}
	for _, w := range f.Witnesses {
		labels = prometheus.Labels{"witness": w.Name}
		gauge("witness_ok", "1 where the witness cosigns, 0 where it does not; reported by the leader",
			flag(w.Error == ""))
		gauge("witness_leaves",
			"leaves of the newest checkpoint that the witness has cosigned; reported by the leader", w.Size)
		counter("witness_failures",
			"submissions to the witness that failed since this leader began; reported by the leader", w.Failures)
	}
}

// flag is a condition as a metric.
func flag(condition bool) uint64 {
	if condition {
		return 1
	}
	return 0
}

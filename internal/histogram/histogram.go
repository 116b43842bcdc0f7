package histogram

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// seconds are the upper bounds of the buckets of durations: 0.1 ms to 10 s, about three in a power of ten.
var seconds = []float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
}

// counts are the upper bounds of the buckets of records in a commit: the powers of two up to 16,384.
var counts = prometheus.ExponentialBuckets(1, 2, 15)

// Histogram is a histogram of durations or counts. Its methods may be called by many goroutines. The zero Histogram
// observes nothing, and is not collected.
type Histogram struct{ observed prometheus.Histogram }

// ofDurations returns the histogram chainstore_NAME_seconds.
func ofDurations(name, help string) Histogram { return newHistogram(name+"_seconds", help, seconds) }

func newHistogram(name, help string, buckets []float64) Histogram {
	return Histogram{prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "chainstore_" + name, Help: help, Buckets: buckets,
	})}
}

// Observe adds a value.
func (h Histogram) Observe(v float64) {
	if h.observed != nil {
		h.observed.Observe(v)
	}
}

// Since adds the seconds since an operation began.
func (h Histogram) Since(began time.Time) { h.Observe(time.Since(began).Seconds()) }

// Done adds the seconds since an operation began, if the operation had no error. A function with a named result defers
// it.
func (h Histogram) Done(began time.Time, err *error) {
	if *err == nil {
		h.Since(began)
	}
}

// Master has the histograms of one master. It implements [prometheus.Collector]. The zero Master observes nothing.
type Master struct {
	Append  Histogram // acknowledged appends of this master's clients
	Commit  Histogram // commands with appends that this master committed as the leader
	Fsync   Histogram // writes of the log, each with its sync
	Apply   Histogram // batches of log entries that were applied
	Read    Histogram // records that were read
	Proof   Histogram // proofs and receipts
	Forward Histogram // submissions that the leader, another master, has answered

	RecordsPerCommit Histogram // one value for each of Commit
}

// NewMaster returns empty histograms.
func NewMaster() *Master {
	return &Master{
		Append: ofDurations("append", "time of an acknowledged append of this master's clients, without HTTP"),
		Commit: ofDurations("commit", "time from the proposal of a command with appends until it is applied; "+
			"reported by the leader"),
		Fsync:   ofDurations("fsync", "time of a write to the log with its sync"),
		Apply:   ofDurations("apply", "time to apply a batch of log entries to the state"),
		Read:    ofDurations("read", "time of a successful read of one record, without HTTP"),
		Proof:   ofDurations("proof", "time to make a proof or receipt of a record that was read"),
		Forward: ofDurations("forward", "time until the leader answered a submission of this master's appends"),
		RecordsPerCommit: newHistogram("records_per_commit",
			"records that a command with appends added; reported by the leader", counts),
	}
}

func (m *Master) all() []Histogram {
	return []Histogram{m.Append, m.Commit, m.Fsync, m.Apply, m.Read, m.Proof, m.Forward, m.RecordsPerCommit}
}

// Describe implements [prometheus.Collector].
func (m *Master) Describe(ch chan<- *prometheus.Desc) { describe(m.all(), ch) }

// Collect implements [prometheus.Collector].
func (m *Master) Collect(ch chan<- prometheus.Metric) { collect(m.all(), ch) }

func describe(all []Histogram, ch chan<- *prometheus.Desc) {
	for _, h := range all {
		if h.observed != nil {
			h.observed.Describe(ch)
		}
	}
}

func collect(all []Histogram, ch chan<- prometheus.Metric) {
	for _, h := range all {
		if h.observed != nil {
			h.observed.Collect(ch)
		}
	}
}

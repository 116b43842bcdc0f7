package suite

import (
	"fmt"
	"text/tabwriter"
)

// Target is a target of the project with what was measured. The floor is half of the way from the value before to the
// target. Without a value before, it is the target.
type Target struct {
	What   string  `json:"what"`
	Unit   string  `json:"unit,omitempty"` // "" for a ratio
	Before float64 `json:"before,omitempty"`
	Target float64 `json:"target"`
	Floor  float64 `json:"floor"`
	AtMost bool    `json:"at_most,omitempty"` // the value must not be larger; otherwise not smaller
	Value  float64 `json:"value,omitempty"`   // 0 if it was not measured
	// Reached is "target", "floor" or "no"; otherwise it states why there is no value.
	Reached string `json:"reached"`

	digits int // after the point
}

// Values of Target.Reached.
const (
	reachedTarget = "target"
	reachedFloor  = "floor"
	reachedNo     = "no"
	notMeasured   = "not measured"
)

// targetRow is a row of the table of targets.
type targetRow struct {
	Target
	of, to    string                             // scenarios; to is "" for the value itself; of is "" if measure is set
	by        string                             // what the value or the ratio is of
	scale     float64                            // of the value; 0 is 1
	measure   func(by map[string]Result) float64 // 0 if it was not measured
	elsewhere string                             // what measures it instead
}

// targetRows are the rows of the table in the project's issue "Performance", with its values of before, and the total
// memory that the issue requires. The value of before of appends next to gin-tick-64 is the ratio of two rates in the
// issue.
var targetRows = [...]targetRow{
	{Target: Target{What: "1 client at the leader: p50 / etcd's", Before: 1.5, Target: 0.6, digits: 2},
		of: "append-1-leader", to: "etcd-put-1-leader", by: whatP50},
	{Target: Target{What: "1 client at a follower: p50 / etcd's", Before: 1.5, Target: 0.8, digits: 2},
		of: "append-1-follower", to: "etcd-put-1-follower", by: whatP50},
	{Target: Target{What: "1 client at the leader: p99 / etcd's", Target: 1, digits: 2},
		of: "append-1-leader", to: "etcd-put-1-leader", by: whatP99},
	{Target: Target{What: "1 client at a follower: p99 / etcd's", Target: 1, digits: 2},
		of: "append-1-follower", to: "etcd-put-1-follower", by: whatP99},
	{Target: Target{What: "64 clients: appends / etcd puts", Before: 0.92, Target: 2.5, digits: 2},
		of: "append-64", to: "etcd-put-64", by: whatRate},
	{Target: Target{What: "64 clients: appends / gin with a tick", Before: 0.17, Target: 0.45, digits: 2},
		of: "append-64", to: "gin-tick-64", by: whatRate},
	{Target: Target{What: "256 clients: appends / etcd puts", Before: 1, Target: 2, digits: 2},
		of: "append-256", to: "etcd-put-256", by: whatRate},
	{Target: Target{What: "batches of 100 / etcd transactions", Before: 3.8, Target: 8, digits: 2},
		of: "batch-64", to: "etcd-txn-64", by: whatRate},
	{Target: Target{What: "batches of 100", Unit: "records/s", Before: 63_725, Target: 150_000},
		of: "batch-64", by: whatRate},
	{Target: Target{What: "batches of 100 / bare raft-wal", Target: 0.35, digits: 2},
		of: "batch-64", to: "raft-wal-64", by: whatRate},
	{Target: Target{What: "append streams: rate / batches'", Target: 0.8, digits: 2},
		of: "stream-3", to: "batch-64", by: whatRate},
	{Target: Target{What: "append streams: p50", Unit: "ms", Target: 20, AtMost: true, digits: 1},
		of: "stream-3", by: whatP50},
	{Target: Target{What: "reads of a long chain / etcd linearizable", Before: 0.8, Target: 1.2, digits: 2},
		of: "read-64", to: "etcd-read-64", by: whatRate},
	{Target: Target{What: "reads of a hot set / etcd linearizable", Before: 0.8, Target: 2.4, digits: 2},
		of: "read-hot-64", to: "etcd-read-64", by: whatRate},
	{Target: Target{What: "CPU per single append, all processes", Unit: "ms", Before: 0.33, Target: 0.09, digits: 3},
		of: "append-64", by: whatCPU, scale: 1e-3},
	{Target: Target{What: "leader killed: longest gap, p99", Unit: "s", Target: 1, AtMost: true, digits: 1},
		elsewhere: "make times"},
	{Target: Target{What: "1 to 50 million records: largest change", Unit: "%", Target: 20, AtMost: true}},
	{Target: Target{What: "memory of all processes, heaviest load", Unit: "GB", Before: 1.4, Target: 0.9,
		AtMost: true, digits: 2}, measure: heaviest},
}

// heaviest returns the largest sum of peaks of the cluster's processes in any scenario, in GB.
func heaviest(by map[string]Result) float64 {
	most := uint64(0)
	for _, r := range by {
		if r.System == systemChainStore {
			most = max(most, r.PeakRSS)
		}
	}
	return float64(most) / 1e9
}

// value returns what was measured, 0 for nothing.
func (t targetRow) value(by map[string]Result) float64 {
	if t.measure != nil {
		return t.measure(by)
	}
	value := medianOf(by[t.of], t.by)
	if t.scale != 0 {
		value *= t.scale
	}
	if t.to == "" {
		return value
	}
	to := medianOf(by[t.to], t.by)
	if to == 0 {
		return 0
	}
	return value / to
}

// targets compares what was measured with the targets. It returns nothing unless there is a value for one of them.
func targets(results []Result) []Target {
	by := map[string]Result{}
	for _, r := range results {
		by[r.Name] = r
	}
	all, some := []Target{}, false
	for _, row := range targetRows {
		t := row.Target
		t.AtMost = t.AtMost || row.by == whatP50 || row.by == whatP99 || row.by == whatCPU
		t.Floor = t.Target
		if t.Before != 0 {
			t.Floor = (t.Before + t.Target) / 2
		}
		t.Value = row.value(by)
		t.Reached = t.reached()
		if t.Value == 0 && row.elsewhere != "" {
			t.Reached = "see " + row.elsewhere
		}
		some = some || t.Value != 0
		all = append(all, t)
	}
	if !some {
		return []Target{}
	}
	return all
}

func (t Target) reached() string {
	meets := func(bound float64) bool { return t.AtMost && t.Value <= bound || !t.AtMost && t.Value >= bound }
	switch {
	case t.Value == 0:
		return notMeasured
	case meets(t.Target):
		return reachedTarget
	case meets(t.Floor):
		return reachedFloor
	}
	return reachedNo
}

// printTargets writes the table of targets after an empty line.
func printTargets(w *tabwriter.Writer, all []Target) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "TARGET\tUNIT\tBEFORE\tTARGET\tFLOOR\tVALUE\tREACHED")
	for _, t := range all {
		bound := "at least "
		if t.AtMost {
			bound = "at most "
		}
		unit := t.Unit
		if unit == "" {
			unit = "ratio"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.What, unit, t.text(t.Before), bound+t.text(t.Target),
			t.text(t.Floor), t.text(t.Value), t.Reached)
	}
}

// text writes a value of the target, "-" for none.
func (t Target) text(value float64) string {
	switch {
	case value == 0:
		return "-"
	case t.digits == 0:
		return thousands(value)
	}
	return fmt.Sprintf("%.*f", t.digits, value)
}

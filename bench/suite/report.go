package suite

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the result of a benchmark.
type Report struct {
	Time      time.Time `json:"time"`
	Machine   string    `json:"machine"` // system, processors, Go version
	Runs      int       `json:"runs"`
	Duration  float64   `json:"duration_seconds"` // of each run
	Warmup    float64   `json:"warmup_seconds"`   // before the runs of each scenario
	Results   []Result  `json:"results"`
	Ratios    []Ratio   `json:"ratios"`
	Targets   []Target  `json:"targets"`
	Memory    []Memory  `json:"memory"`    // of checks and repairs
	Processes []Process `json:"processes"` // of the cluster
	Chain     *Chain    `json:"chain,omitempty"`
	Notes     []string  `json:"notes"`
}

// Result is the result of a scenario.
type Result struct {
	Name    string  `json:"name"`
	Title   string  `json:"title"`
	System  string  `json:"system"`
	Clients int     `json:"clients"`
	Batch   int     `json:"batch"` // records a request
	Rate    Spread  `json:"records_per_second"`
	P50     *Spread `json:"p50_ms,omitempty"` // of requests; nil for raft
	P99     *Spread `json:"p99_ms,omitempty"`
	// Throughput is in MiB of payloads a second, of checks and repairs.
	Throughput *Spread `json:"mib_per_second,omitempty"`
	Completed  uint64  `json:"requests"` // of all runs together
	Errors     int     `json:"errors"`
	First      string  `json:"first_error,omitempty"`
	// Cores is how many cores each group of processes kept busy during the runs. "load" is the load generator, "other"
	// is what is not measured. If that is much, the machine was not free and the rate is too low.
	Cores map[string]float64 `json:"cores"`
	// CPU is the processor time, user and system, per acknowledged or read record, in microseconds: of all processes
	// under test together, without the load generator.
	CPU *Spread `json:"cpu_us_per_record,omitempty"`
	// PeakRSS is the sum of the peaks of the processes under test, in bytes; 0 without processes of their own.
	PeakRSS uint64 `json:"peak_rss_bytes,omitempty"`
	// Usage has each process under test, and then the load generator, "load".
	Usage []Usage `json:"usage,omitempty"`
	// Settled is the time from the last run until everything was stored on every node, in seconds.
	Settled *float64 `json:"settled_seconds,omitempty"`
}

// Usage is what a process used in the runs of a scenario.
type Usage struct {
	Name    string `json:"name"`
	Leads   bool   `json:"leads,omitempty"`
	CPU     Spread `json:"cpu_us_per_record"`
	PeakRSS uint64 `json:"peak_rss_bytes,omitempty"` // with the warm-up; 0 for the load generator
}

// Spread is a value over several runs.
type Spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Runs   []float64 `json:"runs"`
}

func newSpread(runs []float64) Spread {
	sorted := slices.Sorted(slices.Values(runs))
	n := len(sorted)
	if n == 0 {
		return Spread{}
	}
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1], Runs: runs}
}

// Ratio compares the medians of two scenarios.
type Ratio struct {
	Of    string  `json:"of"`
	To    string  `json:"to"`
	What  string  `json:"what"` // "rate", "p50", "p99" or "cpu"
	Value float64 `json:"value"`
	Goal  float64 `json:"goal,omitempty"` // of a rate at least, of others at most; 0 for none
}

// What a ratio compares.
const (
	whatRate = "rate"
	whatP50  = "p50"
	whatP99  = "p99"
	whatCPU  = "cpu"
)

func (q Ratio) reached() bool {
	if q.What == whatRate {
		return q.Value >= q.Goal
	}
	return q.Value <= q.Goal
}

// medianOf returns the median that a ratio compares, 0 if it was not measured.
func medianOf(r Result, what string) float64 {
	spread := &r.Rate
	switch what {
	case whatP50:
		spread = r.P50
	case whatP99:
		spread = r.P99
	case whatCPU:
		spread = r.CPU
	}
	if spread == nil {
		return 0
	}
	return spread.Median
}

// Memory is the memory of a storage node, idle and during a check or a repair.
type Memory struct {
	Name    string `json:"name"`           // "check", "receive" or "send"
	Chain   uint64 `json:"chain_bytes"`    // of payloads in the chain that was checked or repaired
	IdleRSS uint64 `json:"idle_rss_bytes"` // before
	PeakRSS uint64 `json:"peak_rss_bytes"` // meanwhile
	Limit   uint64 `json:"limit_bytes"`    // what it may take above idle
}

// memoryLimit is what a check or a repair may take above idle, whatever the chain's length.
const memoryLimit = 100 << 20

func (m Memory) above() uint64 { return max(m.PeakRSS, m.IdleRSS) - m.IdleRSS }

// Process is the resource usage of one process of the cluster.
type Process struct {
	Name     string  `json:"name"`
	IdleRSS  uint64  `json:"idle_rss_bytes"` // before any load
	IdleCPU  float64 `json:"idle_cpu"`       // cores
	RSS      uint64  `json:"rss_bytes"`      // after the last scenario
	PeakRSS  uint64  `json:"peak_rss_bytes"`
	CPU      float64 `json:"cpu_seconds"`
	DiskSize uint64  `json:"disk_bytes"`
}

// Chain is the chain at the end, with the verdict of the full verifier on each node.
type Chain struct {
	Blocks       uint64   `json:"blocks"`
	Records      uint64   `json:"records"`
	Acknowledged uint64   `json:"acknowledged"` // records that were acknowledged to the load generator
	Head         string   `json:"head"`
	Nodes        []Verify `json:"nodes"`
}

// Verify is the verdict of the verifier on one storage node.
type Verify struct {
	Name    string `json:"name"`
	Valid   bool   `json:"valid"`
	Problem string `json:"problem,omitempty"`
}

// comparisons are the ratios in the report. Those of the project's targets are in a table of their own as well.
var comparisons = [...]Ratio{
	{Of: "append-64", To: "gin-64", What: whatRate},
	{Of: "append-64", To: "gin-tick-64", What: whatRate},
	{Of: "read-64", To: "gin-64", What: whatRate},
	{Of: "batch-64", To: "raft-64", What: whatRate},
	{Of: "batch-64", To: "raft-wal-64", What: whatRate},
	{Of: "raft-segments-64", To: "raft-wal-64", What: whatRate},
	{Of: "raft-segments-64", To: "raft-wal-64", What: whatCPU},
	{Of: "append-64", To: "etcd-put-64", What: whatRate},
	{Of: "append-64", To: "etcd-put-64", What: whatCPU},
	{Of: "append-256", To: "etcd-put-256", What: whatRate},
	{Of: "append-256", To: "etcd-put-256", What: whatCPU},
	{Of: "batch-64", To: "etcd-txn-64", What: whatRate},
	{Of: "batch-64", To: "etcd-txn-64", What: whatCPU},
	{Of: "append-1-leader", To: "etcd-put-1-leader", What: whatP50},
	{Of: "append-1-leader", To: "etcd-put-1-leader", What: whatP99},
	{Of: "append-1-follower", To: "etcd-put-1-follower", What: whatP50},
	{Of: "append-1-follower", To: "etcd-put-1-follower", What: whatP99},
	{Of: "read-64", To: "etcd-read-64", What: whatRate},
	{Of: "read-64", To: "etcd-read-64", What: whatCPU},
	{Of: "read-64", To: "etcd-read-serializable-64", What: whatRate},
	{Of: "read-hot-64", To: "etcd-read-64", What: whatRate},
	{Of: "append-64", To: "immudb-set-64", What: whatRate},
	{Of: "append-64", To: "immudb-set-64", What: whatCPU},
	{Of: "batch-64", To: "immudb-setall-64", What: whatRate},
	{Of: "batch-64", To: "immudb-setall-64", What: whatCPU},
	{Of: "read-64", To: "immudb-get-64", What: whatRate},
	{Of: "read-64", To: "immudb-get-64", What: whatCPU},
	{Of: "read-hot-64", To: "read-64", What: whatRate},
	{Of: "check-1", To: "check-sha", What: whatRate, Goal: 0.5},
	{Of: "check-2", To: "check-1", What: whatRate},
	{Of: "repair-fill", To: "repair-copy", What: whatRate, Goal: 0.3},
	{Of: "append-checked-64", To: "append-unchecked-64", What: whatRate, Goal: 0.8},
	{Of: "read-checked-64", To: "read-64", What: whatRate, Goal: 0.8},
	{Of: "tls-append-64", To: "tls-append-64" + inPlain, What: whatRate, Goal: 0.85},
	{Of: "tls-append-64", To: "tls-append-64" + inPlain, What: whatCPU},
	{Of: "tls-read-64", To: "tls-read-64" + inPlain, What: whatRate, Goal: 0.85},
	{Of: "tls-read-64", To: "tls-read-64" + inPlain, What: whatCPU},
}

// ratios compares what was measured.
func ratios(results []Result) []Ratio {
	by := map[string]Result{}
	for _, r := range results {
		by[r.Name] = r
	}
	found := []Ratio{}
	for _, c := range comparisons {
		of, to := medianOf(by[c.Of], c.What), medianOf(by[c.To], c.What)
		if of > 0 && to > 0 {
			c.Value = of / to
			found = append(found, c)
		}
	}
	return found
}

// Print writes the report as text.
func (r *Report) Print(out io.Writer) error {
	fmt.Fprintf(out, "%s: %d runs of %v each after %v to warm up\n", r.Machine, r.Runs, seconds(r.Duration),
		seconds(r.Warmup))
	fmt.Fprint(out, "Rates are medians of the runs (lowest - highest); latencies are of requests, in milliseconds.\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	requests, err := printRequests(w, r.Results)
	if err != nil {
		return err
	}
	for _, s := range r.Results {
		if s.Settled != nil {
			fmt.Fprintf(out, "%s: everything was stored on every node %.1f s after the last run\n", s.Name, *s.Settled)
		}
	}
	if err := printChains(w, r.Results, requests); err != nil {
		return err
	}
	printUsage(w, r.Results)
	if err := w.Flush(); err != nil {
		return err
	}
	printRatios(w, r.Ratios)
	if err := w.Flush(); err != nil {
		return err
	}
	printTargets(w, r.Targets)
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Memory) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(w, "MEMORY\tCHAIN MIB\tIDLE MIB\tPEAK MIB\tABOVE IDLE\tLIMIT\tKEPT")
		for _, m := range r.Memory {
			kept := "yes"
			if m.above() >= m.Limit {
				kept = "no"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, mebibytes(m.Chain), mebibytes(m.IdleRSS),
				mebibytes(m.PeakRSS), mebibytes(m.above()), mebibytes(m.Limit), kept)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Processes) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(w, "PROCESS\tIDLE MIB\tIDLE CPU %\tMIB\tPEAK MIB\tCPU S\tDISK MIB")
		for _, p := range r.Processes {
			fmt.Fprintf(w, "%s\t%s\t%.1f\t%s\t%s\t%.1f\t%s\n", p.Name, mebibytes(p.IdleRSS), 100*p.IdleCPU,
				mebibytes(p.RSS), mebibytes(p.PeakRSS), p.CPU, mebibytes(p.DiskSize))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if c := r.Chain; c != nil {
		fmt.Fprintf(out, "\nChain: %s blocks, %s records (%s acknowledged), head %s\n",
			thousands(float64(c.Blocks)), thousands(float64(c.Records)), thousands(float64(c.Acknowledged)), c.Head)
		for _, n := range c.Nodes {
			verdict := "chain valid"
			if !n.Valid {
				verdict = n.Problem
			}
			fmt.Fprintf(out, "%s: %s\n", n.Name, verdict)
		}
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(out)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(out, n)
	}
	return nil
}

// printRequests writes the scenarios of requests and reports whether there are any.
func printRequests(w *tabwriter.Writer, results []Result) (some bool, err error) {
	for _, s := range results {
		if s.Throughput != nil {
			continue
		}
		if !some {
			some = true
			fmt.Fprintln(w, "SCENARIO\tWHAT\tCLIENTS\tRECORDS/S\t\tP50\tP99\tERRORS\tBUSY CORES")
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t(%s - %s)\t%s\t%s\t%d\t%s\n", s.Name, s.Title, s.Clients,
			thousands(s.Rate.Median), thousands(s.Rate.Min), thousands(s.Rate.Max), latency(s.P50), latency(s.P99),
			s.Errors, busy(s.Cores))
	}
	return some, w.Flush()
}

// printChains writes the scenarios of whole chains, after an empty line if something precedes them.
func printChains(w *tabwriter.Writer, results []Result, behind bool) error {
	some := false
	for _, s := range results {
		if s.Throughput == nil {
			continue
		}
		if !some {
			some = true
			if behind {
				fmt.Fprintln(w)
			}
			fmt.Fprintln(w, "SCENARIO\tWHAT\tRECORDS/S\tMIB/S\t\tBUSY CORES")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t(%.1f - %.1f)\t%s\n", s.Name, s.Title, thousands(s.Rate.Median),
			s.Throughput.Median, s.Throughput.Min, s.Throughput.Max, busy(s.Cores))
	}
	return w.Flush()
}

// printUsage writes the processor time and memory of the processes under test after an empty line.
func printUsage(w *tabwriter.Writer, results []Result) {
	some := false
	for _, s := range results {
		if s.CPU == nil {
			continue
		}
		if !some {
			some = true
			fmt.Fprintln(w)
			fmt.Fprintln(w, "SCENARIO\tCPU US/RECORD\t\tPEAK MIB\tBY PROCESS: CPU US/RECORD, PEAK MIB")
		}
		peak := "-"
		if s.PeakRSS > 0 {
			peak = mebibytes(s.PeakRSS)
		}
		fmt.Fprintf(w, "%s\t%.1f\t(%.1f - %.1f)\t%s\t%s\n", s.Name, s.CPU.Median, s.CPU.Min, s.CPU.Max, peak,
			byProcess(s.Usage))
	}
}

// byProcess lists what each process used.
func byProcess(all []Usage) string {
	var texts []string
	for _, u := range all {
		text := u.Name
		if u.Leads {
			text += " (leader)"
		}
		text += fmt.Sprintf(" %.1f", u.CPU.Median)
		if u.PeakRSS > 0 {
			text += ", " + mebibytes(u.PeakRSS)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// printRatios writes the ratios after an empty line.
func printRatios(w *tabwriter.Writer, all []Ratio) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "RATIO\tOF\tVALUE\tGOAL\tREACHED")
	for _, q := range all {
		goal, reached := "-", "-"
		if q.Goal > 0 {
			bound := "at least"
			if q.What != whatRate {
				bound = "at most"
			}
			goal, reached = fmt.Sprintf("%s %.2f", bound, q.Goal), "yes"
			if !q.reached() {
				reached = "no"
			}
		}
		fmt.Fprintf(w, "%s / %s\t%s\t%.3f\t%s\t%s\n", q.Of, q.To, q.What, q.Value, goal, reached)
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }

func latency(s *Spread) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", s.Median)
}

// thousands returns a number rounded, with commas.
func thousands(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// busy lists the groups with their cores, the busiest first.
func busy(groups map[string]float64) string {
	names := make([]string, 0, len(groups))
	for name := range groups {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(groups[b], groups[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.2f", name, groups[name])
	}
	return strings.Join(names, ", ")
}

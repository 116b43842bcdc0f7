package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/bench/raftceiling"
	"github.com/chainstore/chainstore/internal/durable"
)

// Config configures a benchmark.
type Config struct {
	Program     string        // the chainstore program whose roles are measured
	Immudb      string        // an immudb server, looked up like a command; left out if there is none
	Dir         string        // a folder for the data is made in it, and removed at the end
	Keep        bool          // keep that folder
	Port        int           // base port of the cluster
	Runs        int           // of each scenario
	Duration    time.Duration // of each run
	Warmup      time.Duration // before the first run of each scenario
	ReadRecords int           // number of records that are read, and minimum number in the chain when reads begin
	ChainMiB    int           // size of the chain that is checked and repaired, in records of 1 KiB
	Only        []string      // names of scenarios, or their prefixes up to a "-"; nil for all
	// Profiles is a folder for CPU profiles of the cluster's processes, "" for none. They are taken during the last
	// run of each scenario and slow it down a little.
	Profiles string
	// Progress receives the current step, and last at the end of a scenario. It may be nil.
	Progress func(line string, last bool)
}

// Names of systems.
const (
	systemGin        = "gin"
	systemRaft       = "raft"
	systemEtcd       = "etcd"
	systemImmudb     = "immudb"
	systemChainStore = "chainstore"
	systemTLS        = "tls"    // a cluster with TLS, and one without
	systemCheck      = "check"  // one storage node in this process
	systemRepair     = "repair" // storage nodes in processes of their own, without a cluster
)

// work is what the clients of a ChainStore scenario do.
type work int

const (
	workAppend work = iota
	workBatch
	workStream // of records, with streamWindow of each client without an answer
	workRead
	workHash   // bare SHA-256 of the records that a check reads
	workCheck  // on as many threads as there are clients
	workCopy   // of the files of a chain, by bare net/http
	workRepair // of an empty node, from another
	workMemory // of checks and repairs, for chains of two lengths
)

// place selects the members that clients connect to.
type place int

const (
	atAny      place = iota // all of them, one after the other
	atLeader                // every client to the one that leads when the scenario begins
	atFollower              // every client to one that does not
)

// among returns the members that clients at that place connect to, in order.
func (p place) among(members []string, leader string) []string {
	i := slices.Index(members, leader)
	switch {
	case p == atAny || i < 0:
		return members
	case p == atLeader:
		return members[i : i+1]
	}
	next := (i + 1) % len(members)
	return members[next : next+1]
}

// scenario is one kind of load.
type scenario struct {
	name    string
	title   string
	system  string
	clients int
	batch   int // records a request
	work    work
	at      place
	long    bool // make the chain as long as for reads first, so that checks take a while
	checked bool // check the storage nodes during the load, one after the other

	tick  time.Duration        // of the clock that all requests to gin share; 0 for none
	log   raftceiling.LogStore // of bare raft
	stale bool                 // etcd reads without asking its leader: serializable, not linearizable
	hot   bool                 // read few records again and again
}

// scenarios are in the order in which they are measured: the ceilings first, while no cluster runs.
var scenarios = [...]scenario{
	{name: "gin-64", title: "bare gin: body of 256 B, 201", system: systemGin, clients: 64, batch: 1},
	{name: "gin-tick-64", title: "bare gin, answers every 2 ms", system: systemGin, clients: 64, batch: 1,
		tick: 2 * time.Millisecond},
	{name: "raft-64", title: "bare raft: entries of 100 x 256 B", system: systemRaft, clients: 64, batch: batchSize},
	{name: "raft-wal-64", title: "bare raft on raft-wal, the same", system: systemRaft, clients: 64, batch: batchSize,
		log: raftceiling.WAL},
	{name: "raft-segments-64", title: "bare raft on package logstore, the same", system: systemRaft, clients: 64,
		batch: batchSize, log: raftceiling.Segments},
	{name: "etcd-put-64", title: "etcd: put of 256 B", system: systemEtcd, clients: 64, batch: 1},
	{name: "etcd-put-256", title: "etcd: put of 256 B", system: systemEtcd, clients: 256, batch: 1},
	{name: "etcd-put-1-leader", title: "etcd: put of 256 B, at the leader", system: systemEtcd, clients: 1, batch: 1,
		at: atLeader},
	{name: "etcd-put-1-follower", title: "etcd: put of 256 B, at a follower", system: systemEtcd, clients: 1, batch: 1,
		at: atFollower},
	{name: "etcd-txn-64", title: "etcd: transaction of 100 puts", system: systemEtcd, clients: 64, batch: batchSize},
	{name: "etcd-read-64", title: "etcd: linearizable read of 256 B", system: systemEtcd, clients: 64, batch: 1,
		work: workRead},
	{name: "etcd-read-serializable-64", title: "etcd: serializable read of 256 B", system: systemEtcd, clients: 64,
		batch: 1, work: workRead, stale: true},
	{name: "immudb-set-64", title: "immudb: set of 256 B", system: systemImmudb, clients: 64, batch: 1},
	{name: "immudb-setall-64", title: "immudb: transaction of 100 sets", system: systemImmudb, clients: 64,
		batch: batchSize},
	{name: "immudb-get-64", title: "immudb: verified get of 256 B", system: systemImmudb, clients: 64, batch: 1,
		work: workRead},
	{name: "check-sha", title: "bare SHA-256 of 1 KiB", system: systemCheck, clients: 1, batch: 1, work: workHash},
	{name: "check-1", title: "check of records of 1 KiB, 1 thread", system: systemCheck, clients: 1, batch: 1,
		work: workCheck},
	{name: "check-2", title: "check of records of 1 KiB, 2 threads", system: systemCheck, clients: 2, batch: 1,
		work: workCheck},
	{name: "repair-copy", title: "bare net/http: the chain's files, 1 fsync", system: systemRepair, clients: 1,
		batch: 1, work: workCopy},
	{name: "repair-fill", title: "an empty storage node from another", system: systemRepair, clients: 1, batch: 1,
		work: workRepair},
	{name: "repair-memory", title: "memory of checks and repairs", system: systemRepair, work: workMemory},
	{name: "append-1-leader", title: "append of 256 B, at the leader", system: systemChainStore, clients: 1, batch: 1,
		work: workAppend, at: atLeader},
	{
		name: "append-1-follower", title: "append of 256 B, at a follower", system: systemChainStore, clients: 1,
		batch: 1,
		work:  workAppend, at: atFollower,
	},
	{name: "append-64", title: "append of 256 B", system: systemChainStore, clients: 64, batch: 1, work: workAppend},
	{name: "append-256", title: "append of 256 B", system: systemChainStore, clients: 256, batch: 1, work: workAppend},
	{name: "batch-64", title: "append of 100 x 256 B", system: systemChainStore, clients: 64, batch: batchSize,
		work: workBatch},
	{name: "stream-3", title: "append stream, 1,000 x 256 B unanswered", system: systemChainStore, clients: 3, batch: 1,
		work: workStream},
	{name: "read-64", title: "read of 256 B, any of the chain", system: systemChainStore, clients: 64, batch: 1,
		work: workRead},
	{name: "read-hot-64", title: "read of 256 B, few records", system: systemChainStore, clients: 64, batch: 1,
		work: workRead, hot: true},
	{name: "read-checked-64", title: "read of 256 B, checks go on", system: systemChainStore, clients: 64, batch: 1,
		work: workRead, checked: true},
	{name: "append-unchecked-64", title: "append of 256 B to a long chain", system: systemChainStore, clients: 64,
		batch: 1, work: workAppend, long: true},
	{
		name: "append-checked-64", title: "append of 256 B to a long chain, checks go on", system: systemChainStore,
		clients: 64, batch: 1,
		work: workAppend, long: true, checked: true,
	},
	{name: "tls-append-64", title: "append of 256 B, TLS", system: systemTLS, clients: 64, batch: 1, work: workAppend},
	{name: "tls-read-64", title: "read of 256 B, any of the chain, TLS", system: systemTLS, clients: 64, batch: 1,
		work: workRead},
}

func (s scenario) result() Result {
	return Result{Name: s.name, Title: s.title, System: s.system, Clients: s.clients, Batch: s.batch}
}

// Names returns the names of the scenarios.
func Names() []string {
	var all []string
	for _, s := range scenarios {
		all = append(all, s.name)
	}
	return all
}

// choose returns the scenarios with these names or prefixes.
func choose(only []string) ([]scenario, error) {
	if len(only) == 0 {
		return scenarios[:], nil
	}
	var chosen []scenario
	for _, s := range scenarios {
		if slices.ContainsFunc(only, func(o string) bool { return s.name == o || strings.HasPrefix(s.name, o+"-") }) {
			chosen = append(chosen, s)
		}
	}
	for _, o := range only {
		if !slices.ContainsFunc(chosen,
			func(s scenario) bool { return s.name == o || strings.HasPrefix(s.name, o+"-") }) {
			return nil, fmt.Errorf("there is no scenario %q; there are %s", o, strings.Join(Names(), ", "))
		}
	}
	return chosen, nil
}

func (c *Config) validate() error {
	switch {
	case c.Runs < 1:
		return fmt.Errorf("--runs %d: at least 1 is needed", c.Runs)
	case c.Duration < 10*time.Millisecond:
		return fmt.Errorf("--duration %v: at least 10ms are needed", c.Duration)
	case c.Warmup < 0:
		return fmt.Errorf("--warmup %v must not be negative", c.Warmup)
	case c.ReadRecords < 1:
		return fmt.Errorf("--read-records %d: at least 1 is needed", c.ReadRecords)
	case c.ChainMiB < 1 || c.ChainMiB > maxChainMiB:
		return fmt.Errorf("--chain-mib %d is not within 1 and %d", c.ChainMiB, maxChainMiB)
	}
	return nil
}

// bench is the state of a benchmark. One goroutine uses it.
type bench struct {
	cfg      Config
	dir      string // of this bench, absolute
	report   *Report
	profiler *profiler
}

// Run measures and returns the report. With an error it returns what was measured before it. A chain that does not
// verify is an error.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	chosen, err := choose(cfg.Only)
	if err != nil {
		return nil, err
	}
	base, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(base); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(base, "run-*")
	if err != nil {
		return nil, err
	}
	b := &bench{cfg: cfg, dir: dir, report: newReport(cfg)}
	if !cfg.Keep {
		defer func() {
			if err != nil && ctx.Err() == nil {
				err = fmt.Errorf("%w (logs and data are kept in %s)", err, dir)
				return
			}
			err = errors.Join(err, os.RemoveAll(dir))
		}()
	} else {
		b.note("Data and logs are in %s.", dir)
	}
	err = b.run(ctx, chosen)
	b.report.Ratios, b.report.Targets = ratios(b.report.Results), targets(b.report.Results)
	return b.report, err
}

func newReport(cfg Config) *Report {
	return &Report{
		Time: time.Now(), Runs: cfg.Runs, Duration: cfg.Duration.Seconds(), Warmup: cfg.Warmup.Seconds(),
		Machine: fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(),
			runtime.Version()),
		Results: []Result{}, Ratios: []Ratio{}, Targets: []Target{}, Memory: []Memory{}, Processes: []Process{},
		Notes: []string{},
	}
}

// run measures the scenarios, grouped by system.
func (b *bench) run(ctx context.Context, chosen []scenario) error {
	by := map[string][]scenario{}
	for _, s := range chosen {
		by[s.system] = append(by[s.system], s)
	}
	for _, s := range by[systemGin] {
		if err := b.gin(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, s := range by[systemRaft] {
		if err := b.raft(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if len(by[systemEtcd]) > 0 {
		program, err := exec.LookPath("etcd")
		if errors.Is(err, exec.ErrNotFound) {
			b.note("etcd-*: left out, no etcd is installed here (Debian: apt-get install etcd-server).")
		} else if err != nil {
			return err
		} else if err := b.etcd(ctx, program, by[systemEtcd]); err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
	}
	if len(by[systemImmudb]) > 0 {
		program, err := exec.LookPath(b.cfg.Immudb)
		if errors.Is(err, exec.ErrNotFound) {
			b.note("immudb-*: left out, no immudb server is installed here (--immudb names one).")
		} else if err != nil {
			return fmt.Errorf("immudb: %w", err)
		} else if err := b.immudb(ctx, program, by[systemImmudb]); err != nil {
			return fmt.Errorf("immudb: %w", err)
		}
	}
	if len(by[systemCheck]) > 0 {
		if err := b.checks(ctx, by[systemCheck]); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	if len(by[systemRepair]) > 0 {
		if err := b.repairs(ctx, by[systemRepair]); err != nil {
			return fmt.Errorf("repair: %w", err)
		}
	}
	if len(by[systemChainStore]) > 0 {
		if err := b.chainstore(ctx, by[systemChainStore]); err != nil {
			return err
		}
	}
	if len(by[systemTLS]) > 0 {
		return b.tls(ctx, by[systemTLS])
	}
	return nil
}

// measure loads a system and enters the result in the report.
func (b *bench) measure(ctx context.Context, s scenario, f fleet, p processes) error {
	r, _, err := b.load(ctx, s, f, p)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	b.done(s, r)
	return nil
}

// load connects, warms up, runs without a pause in between, and closes the connections.
func (b *bench) load(ctx context.Context, s scenario, f fleet, p processes) (r Result, answered uint64, err error) {
	l, err := b.connect(ctx, s, f, p)
	if err != nil {
		return r, 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	for i := range b.cfg.Runs {
		if err := l.run(ctx, i); err != nil {
			return r, l.answered, err
		}
	}
	r, err = l.result()
	return r, l.answered, err
}

// loading is a scenario that is measured, run by run.
type loading struct {
	*bench
	s           scenario
	f           fleet
	m           *meter
	r           Result
	rates, p50s []float64
	p99s        []float64
	answered    uint64 // requests, those of the warm-up and those after the time of a run included
}

// connect connects the clients and warms up. The caller closes the fleet, unless there is an error.
func (b *bench) connect(ctx context.Context, s scenario, f fleet, p processes) (l *loading, err error) {
	b.progress(s, "connecting %d clients", len(f))
	if err := f.connect(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	l = &loading{bench: b, s: s, f: f, m: newMeter(p), r: s.result()}
	if err := l.m.reset(); err != nil {
		return nil, err
	}
	if b.cfg.Warmup > 0 {
		b.progress(s, "warming up")
		t, err := f.run(ctx, b.cfg.Warmup)
		l.answered += t.answered
		if err != nil {
			return nil, err
		}
		if t.answered == 0 && t.first != nil {
			return nil, fmt.Errorf("no request succeeded; the first error: %w", t.first)
		}
	}
	return l, nil
}

// run makes run i, from 0 on.
func (l *loading) run(ctx context.Context, i int) error {
	l.progress(l.s, "run %d of %d", i+1, l.cfg.Runs)
	profiled := func() error { return nil }
	if i == l.cfg.Runs-1 && l.s.system == systemChainStore {
		profiled = l.profiler.start(ctx, l.s.name, l.cfg.Duration)
	}
	if err := l.m.begin(); err != nil {
		return err
	}
	t, err := l.f.run(ctx, l.cfg.Duration)
	l.answered += t.answered
	if err := errors.Join(err, l.m.end(), profiled()); err != nil {
		return err
	}
	l.m.count(t.answered * uint64(l.s.batch))
	l.rates = append(l.rates, float64(len(t.latencies)*l.s.batch)/t.elapsed.Seconds())
	l.p50s = append(l.p50s, quantile(t.latencies, 0.50))
	l.p99s = append(l.p99s, quantile(t.latencies, 0.99))
	l.r.Completed += uint64(len(t.latencies))
	if l.r.Errors += t.errors; l.r.First == "" && t.first != nil {
		l.r.First = t.first.Error()
	}
	return nil
}

// result returns the figures of all runs.
func (l *loading) result() (Result, error) {
	l.r.Rate = newSpread(l.rates)
	p50, p99 := newSpread(l.p50s), newSpread(l.p99s)
	l.r.P50, l.r.P99 = &p50, &p99
	err := l.m.report(&l.r)
	return l.r, err
}

// done enters a result in the report.
func (b *bench) done(s scenario, r Result) {
	b.report.Results = append(b.report.Results, r)
	line := fmt.Sprintf("%s: %s records/s", s.name, thousands(r.Rate.Median))
	if r.Throughput != nil {
		line += fmt.Sprintf(", %.0f MiB/s", r.Throughput.Median)
	}
	if r.CPU != nil {
		line += fmt.Sprintf(", %.1f us of processor time per record", r.CPU.Median)
	}
	if r.Errors > 0 {
		line += fmt.Sprintf(", %d errors, the first: %s", r.Errors, r.First)
		b.note("%s: %d errors, the first: %s", s.name, r.Errors, r.First)
	}
	b.tell(line, true)
}

// progress reports the current step of a scenario.
func (b *bench) progress(s scenario, format string, args ...any) {
	b.tell(s.name+": "+fmt.Sprintf(format, args...), false)
}

func (b *bench) tell(line string, last bool) {
	if b.cfg.Progress != nil {
		b.cfg.Progress(line, last)
	}
}

func (b *bench) note(format string, args ...any) {
	b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
}

package suite

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

const (
	// idleTime is how long the cluster is watched without load, after calmTime for the work of its start.
	idleTime = 3 * time.Second
	calmTime = time.Second
	// settleTime bounds how long storing everything may take.
	settleTime = 3 * time.Minute
	// seedTime is the length of one step of making the chain for reads. After seedParts steps without an
	// acknowledgement it fails.
	seedTime  = 250 * time.Millisecond
	seedParts = 40
	// hotRecords is the number of records that are read in a hot set. They are in one or two blocks.
	hotRecords = 10_000
)

// system is the cluster that is measured.
type system struct {
	cluster *devcluster.Cluster
	client  *client.Client
	tested  processes         // its roles
	hosts   []string          // of the masters
	names   map[string]string // of the masters, by host
	token   string            // the project's
	data    map[string]string // folder of each role
	trust   *tls.Config       // of the clients of the masters; nil without TLS

	acknowledged uint64 // records that the cluster has acknowledged to the load generator
}

// chainstore measures a cluster of seven processes and verifies its chain at the end.
func (b *bench) chainstore(ctx context.Context, scenarios []scenario) (err error) {
	topology := devcluster.NewTopology(filepath.Join(b.dir, "cluster"), b.cfg.Port)
	topology.CheckInterval = 0 // checks run only if a scenario asks for them
	b.note(
		"The cluster's storage nodes are checked only during read-checked-* and append-checked-*, not on a schedule.")
	if b.cfg.Profiles != "" {
		if err := durable.MkdirAll(b.cfg.Profiles); err != nil {
			return err
		}
		topology.Adjust = func(index int, r *devcluster.Role) {
			r.Profiles = net.JoinHostPort("127.0.0.1", strconv.Itoa(b.cfg.Port+profileOffset+index))
		}
		b.profiler = &profiler{dir: b.cfg.Profiles, roles: topology.Roles()}
		b.note("The last run of each scenario was profiled, which slows it down a little; see %s.", b.cfg.Profiles)
	}
	cluster, err := devcluster.Start(ctx, topology, b.cfg.Program)
	if err != nil {
		return err
	}
	running := true
	defer func() {
		if running {
			err = errors.Join(err, cluster.Stop())
		}
	}()
	sys, err := newSystem(cluster)
	if err != nil {
		return err
	}
	defer sys.client.CloseIdle()
	if err := b.idle(ctx, sys); err != nil {
		return err
	}
	for _, s := range scenarios {
		if s.long {
			if _, err := b.readable(ctx, sys, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		measure := func() error { return b.scenario(ctx, sys, s) }
		if s.checked {
			unchecked := measure
			measure = func() error { return b.underChecks(ctx, sys, s, unchecked) }
		}
		if err := measure(); err != nil {
			return err
		}
	}
	status, err := sys.settle(ctx)
	if err != nil {
		return err
	}
	if err := b.processes(sys); err != nil {
		return err
	}
	running = false
	if err := cluster.Stop(); err != nil {
		return err
	}
	b.report.Chain, err = b.verify(ctx, sys, status.Head)
	return err
}

func newSystem(cluster *devcluster.Cluster) (*system, error) {
	file := cluster.File()
	trust, err := trusting(file.CA)
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{Masters: file.Masters, Token: file.Tokens.Project, TLS: trust})
	if err != nil {
		return nil, err
	}
	sys := &system{cluster: cluster, client: c, token: file.Tokens.Project, trust: trust,
		names: map[string]string{}, data: map[string]string{}}
	for _, url := range file.Masters {
		host, err := hostOf(url)
		if err != nil {
			return nil, err
		}
		sys.hosts = append(sys.hosts, host)
	}
	pids := cluster.PIDs()
	for _, role := range cluster.Topology().Roles() {
		sys.tested = append(sys.tested, process{group: string(role.Kind), name: role.Name, pid: pids[role.Name]})
		sys.data[role.Name] = role.Data
		if role.Kind == devcluster.KindMaster {
			host, err := hostOf(role.URL())
			if err != nil {
				return nil, err
			}
			sys.names[host] = role.Name
		}
	}
	return sys, nil
}

// idle measures the processes without load and begins their entries in the report.
func (b *bench) idle(ctx context.Context, sys *system) error {
	rest(ctx, calmTime)
	pids := sys.cluster.PIDs()
	var before []usage
	for _, role := range sys.cluster.Topology().Roles() {
		u, err := usageOf(pids[role.Name])
		if err != nil {
			return fmt.Errorf("%s: %w", role.Name, err)
		}
		before = append(before, u)
	}
	begin := time.Now()
	rest(ctx, idleTime)
	elapsed := time.Since(begin).Seconds()
	for i, role := range sys.cluster.Topology().Roles() {
		u, err := usageOf(pids[role.Name])
		if err != nil {
			return fmt.Errorf("%s: %w", role.Name, err)
		}
		b.report.Processes = append(b.report.Processes, Process{
			Name: role.Name, IdleRSS: u.rss, IdleCPU: (u.cpu - before[i].cpu) / elapsed,
		})
	}
	return ctx.Err()
}

// processes completes the entries that idle began.
func (b *bench) processes(sys *system) error {
	pids := sys.cluster.PIDs()
	for i := range b.report.Processes {
		p := &b.report.Processes[i]
		u, err := usageOf(pids[p.Name])
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		// Each scenario resets the peak and has the one of its own time.
		p.RSS, p.PeakRSS, p.CPU = u.rss, max(u.peak, peakOf(p.Name, b.report.Results)), u.cpu
		if p.DiskSize, err = sizeOf(sys.data[p.Name]); err != nil {
			return err
		}
	}
	return nil
}

// peakOf is the largest peak of a process in all scenarios.
func peakOf(name string, results []Result) (peak uint64) {
	for _, r := range results {
		for _, u := range r.Usage {
			if u.Name == name {
				peak = max(peak, u.PeakRSS)
			}
		}
	}
	return peak
}

// scenario measures one scenario of the cluster.
func (b *bench) scenario(ctx context.Context, sys *system, s scenario) error {
	if s.work == workRead {
		return b.reads(ctx, sys, s)
	}
	leader, err := sys.leader(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	hosts := s.at.among(sys.hosts, leader)
	r, answered, err := b.load(ctx, s, sys.appenders(s, hosts), sys.tested.leading(sys.names[leader]))
	sys.acknowledged += answered * uint64(s.batch)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	b.progress(s, "waiting until everything is stored")
	begin := time.Now()
	if _, err := sys.settle(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	settled := time.Since(begin).Seconds()
	r.Settled = &settled
	b.done(s, r)
	return nil
}

// reads measures a scenario of reads.
func (b *bench) reads(ctx context.Context, sys *system, s scenario) error {
	f, err := b.readers(ctx, sys, s)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	leader, err := sys.leader(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return b.measure(ctx, s, f, sys.tested.leading(sys.names[leader]))
}

// readers makes the chain long enough and returns the clients of a scenario of reads, spread over the masters.
func (b *bench) readers(ctx context.Context, sys *system, s scenario) (fleet, error) {
	p, err := b.readable(ctx, sys, s)
	if err != nil {
		return nil, err
	}
	records := uint64(b.cfg.ReadRecords)
	first := uint64(0)
	if s.hot {
		first = records - min(records, hotRecords)
		b.note("%s: any of %s records that follow one another, each as likely.", s.name,
			thousands(float64(records-first)))
	} else {
		b.note("%s: any of the first %s records of %s in %d blocks, each as likely; all of them are stored.", s.name,
			thousands(float64(records)), thousands(float64(p.records())), len(p.blocks))
	}
	var f fleet
	for i := range s.clients {
		host := sys.hosts[i%len(sys.hosts)]
		f = append(f, &httpClient{addr: host, trust: sys.trust, next: newRead(host, sys.token, p, first, records),
			want: http.StatusOK, check: isPayload})
	}
	return f, nil
}

// leader returns the host of the master that leads.
func (sys *system) leader(ctx context.Context) (string, error) {
	status, err := sys.client.Cluster(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range status.Masters {
		if m.ID == status.Leader && m.URL != "" {
			return hostOf(m.URL)
		}
	}
	return "", errors.New("the masters have no leader")
}

// appenders returns the clients of an append scenario, spread over the masters.
func (sys *system) appenders(s scenario, hosts []string) fleet {
	var f fleet
	for i := range s.clients {
		host := hosts[i%len(hosts)]
		if s.work == workStream {
			f = append(f, newStreamClient(host, sys.token, uint64(i)))
			continue
		}
		request := newAppend(host, sys.token, uint64(i))
		if s.work == workBatch {
			request = newBatch(host, sys.token, uint64(i), s.batch)
		}
		f = append(f, &httpClient{addr: host, trust: sys.trust, next: request.next, want: http.StatusCreated})
	}
	return f
}

// readable makes the chain long enough, waits until it is stored, and returns the places that can be read.
func (b *bench) readable(ctx context.Context, sys *system, s scenario) (*places, error) {
	f := sys.appenders(scenario{clients: 16, batch: batchSize, work: workBatch}, sys.hosts)
	if err := f.connect(ctx); err != nil {
		return nil, err
	}
	for empty := 0; sys.acknowledged < uint64(b.cfg.ReadRecords); {
		b.progress(s, "making the chain: %s of %s records",
			thousands(float64(sys.acknowledged)), thousands(float64(b.cfg.ReadRecords)))
		t, err := f.run(ctx, seedTime)
		sys.acknowledged += t.answered * batchSize
		if t.answered == 0 {
			empty++
		}
		if err == nil && empty == seedParts {
			err = fmt.Errorf("appending %d records took too long: %d are there; an error: %w",
				b.cfg.ReadRecords, sys.acknowledged, t.first)
		}
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	if err := f.close(); err != nil {
		return nil, err
	}
	b.progress(s, "waiting until everything is stored")
	if _, err := sys.settle(ctx); err != nil {
		return nil, err
	}
	p := &places{}
	for cursor := ""; ; {
		page, err := sys.client.Blocks(ctx, cursor, 0)
		if err != nil {
			return nil, err
		}
		for _, block := range page.Blocks {
			p.add(block.Block, block.Count)
		}
		if cursor = page.Next; cursor == "" {
			return p, nil
		}
	}
}

// settle waits until the buffer is empty, no block is pending, and every storage node has the whole chain.
func (sys *system) settle(ctx context.Context) (wire.Cluster, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime,
		fmt.Errorf("not everything was stored within %v", settleTime))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := sys.client.Cluster(ctx)
		if err == nil && allStored(status) {
			return status, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("head at %d blocks, %d stored, %d pending, %d records in the buffer; %v",
					status.Head.Height, status.Stored, status.Pending.Blocks, status.Buffer.Records, status.Notices)
			}
			return status, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func allStored(c wire.Cluster) bool {
	for _, n := range c.Storages {
		if n.Height != c.Head.Height {
			return false
		}
	}
	return c.Buffer.Records == 0 && c.Pending.Blocks == 0 && c.Stored == c.Head.Height
}

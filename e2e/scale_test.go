package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

const (
	scaleSize    = 256  // bytes of a payload
	scaleReads   = 2000 // in a stage
	scaleReaders = 8
	// fewScale is the number of records without CHAINSTORE_SCALE.
	fewScale = 40_000
	// mostIdleMaster is the memory of a master with an empty backlog: the goal of the project, without mapped files.
	mostIdleMaster = 150 << 20
)

// scaleStages are the lengths of the chain after which TestScale measures, up to the one that is asked for.
var scaleStages = []int{1e6, 4e6, 10e6, 20e6, 30e6, 40e6, 50e6}

// stagesTo returns the stages up to a number of records, which is the last one. There are at least two below the first
// usual stage.
func stagesTo(records int) []int {
	if records < scaleStages[0] {
		return []int{records / 4, records}
	}
	i, _ := slices.BinarySearch(scaleStages, records)
	return append(slices.Clone(scaleStages[:i]), records)
}

// scaleStage has the figures of one stage.
type scaleStage struct {
	records  int
	rate     float64 // of appends, records a second
	p50, p99 time.Duration
	restart  time.Duration
	memory   map[string]processMemory // of each process, before the restart
}

// TestScale measures whether memory, restarts, reads and appends depend on the length of the chain. It appends
// CHAINSTORE_SCALE records and logs the figures of each stage. After CHAINSTORE_SCALE_TIME it appends no more and
// measures a last stage, at the length that was reached. A master with an empty backlog has the same bound of memory at
// each stage.
func TestScale(t *testing.T) {
	if underRace {
		t.Skip("the race detector needs several times the memory")
	}
	c, o := startWith(t, func(topology *devcluster.Topology) {
		d := devcluster.NewTopology(topology.Dir, topology.Port) // blocks, segments and logs of default size
		topology.Settings, topology.LogLevel, topology.MaxAge = d.Settings, d.LogLevel, d.MaxAge
		topology.CheckInterval = 0 // a check reads the whole chain, and would be measured too
	}), newOracle()
	c.awaitComplete(3)
	records := settings.scale
	if records == 0 {
		records = fewScale
	}
	o.flood = &flood{size: scaleSize}
	if settings.scaleTime > 0 {
		o.flood.ends = time.Now().Add(settings.scaleTime)
	}
	var stages []scaleStage
	for _, goal := range stagesTo(records) {
		before := o.flood.records()
		if o.flood.ended() {
			t.Logf("the time is over after %d of %d records", before, records)
			break
		}
		o.flood.each = goal / floodWriters
		began := time.Now()
		if err := o.flood.append(c, o); err != nil {
			t.Fatal(err)
		}
		s := scaleStage{records: o.flood.records()}
		s.rate = float64(s.records-before) / time.Since(began).Seconds()
		s.p50, s.p99 = c.readAny(c.awaitSettled(3).Head.Size)
		s.memory = c.awaitReleased()
		names := slices.Sorted(maps.Keys(c.PIDs()))
		for _, name := range names {
			if err := c.StopRole(name); err != nil {
				t.Fatal(err)
			}
		}
		began = time.Now()
		c.launch(names...)
		c.awaitSettled(3)
		s.restart = time.Since(began)
		stages = append(stages, s)
		t.Log(s)
	}
	for _, s := range stages[1:] {
		first := stages[0]
		t.Logf("%d records relative to %d: appends %.2f, p50 of reads %.2f, restart %.2f", s.records, first.records,
			s.rate/first.rate, float64(s.p50)/float64(first.p50), float64(s.restart)/float64(first.restart))
	}
	c.verify(o)
}

// String returns the figures in lines.
func (s scaleStage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records: appended at %.0f a second, reads p50 %v and p99 %v, restart %v", s.records, s.rate,
		s.p50.Round(10*time.Microsecond), s.p99.Round(10*time.Microsecond), s.restart.Round(time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(s.memory)) {
		m := s.memory[name]
		fmt.Fprintf(&b, "\n%s: %d MiB, %d MiB without files; at most %d MiB", name, m.resident>>20, m.anonymous>>20,
			m.peak>>20)
	}
	return b.String()
}

// readAny reads records at random places of the first leaves of the chain. It returns the median and the 99th
// percentile of the latency.
func (c *cluster) readAny(leaves uint64) (p50, p99 time.Duration) {
	c.t.Helper()
	latencies := make([]time.Duration, scaleReads)
	readers, ctx := errgroup.WithContext(c.t.Context())
	for r := range scaleReaders {
		cl, random := c.client(rotated(c.File().Masters, r)...), rand.New(rand.NewPCG(uint64(r), leaves))
		readers.Go(func() error {
			for i := r; i < scaleReads; i += scaleReaders {
				index := random.Uint64N(leaves)
				began := time.Now()
				_, err := cl.GetIndex(ctx, index)
				latencies[i] = time.Since(began)
				if err != nil && !errors.Is(err, wire.ErrSealIndex) {
					return fmt.Errorf("record %d: %w", index, err)
				}
			}
			return nil
		})
	}
	if err := readers.Wait(); err != nil {
		c.t.Fatal(err)
	}
	slices.Sort(latencies)
	return latencies[scaleReads/2], latencies[scaleReads*99/100]
}

// processMemory is the memory of a process in bytes.
type processMemory struct {
	resident, peak uint64
	anonymous      uint64 // part of resident that is not of files
}

// memoryOf reads the memory of a process from /proc.
func memoryOf(pid int) (m processMemory, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	for name, value := range map[string]*uint64{"VmRSS": &m.resident, "VmHWM": &m.peak, "RssAnon": &m.anonymous} {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		line, _, _ := strings.Cut(rest, "\n")
		kibibytes, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 10, 64)
		if err != nil {
			return m, fmt.Errorf("%s of process %d is %q", name, pid, line)
		}
		*value = kibibytes << 10
	}
	return m, nil
}

// awaitReleased waits until no master has more memory than one with an empty backlog may have, and returns the memory
// of all processes.
func (c *cluster) awaitReleased() map[string]processMemory {
	c.t.Helper()
	all := map[string]processMemory{}
	c.await("masters without the memory of the load", func() string {
		for name, pid := range c.PIDs() {
			m, err := memoryOf(pid)
			if err != nil {
				return err.Error()
			}
			all[name] = m
		}
		for _, name := range c.names(devcluster.KindMaster) {
			if m := all[name]; m.anonymous >= mostIdleMaster {
				return fmt.Sprintf("%s has %d MiB besides files", name, m.anonymous>>20)
			}
		}
		return ""
	})
	return all
}

package raftstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/chainstore/chainstore/internal/histogram"
)

// gathered returns the histograms by their full names.
func gathered(t *testing.T, m *histogram.Master) map[string]*dto.Histogram {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.Histogram{}
	for _, f := range families {
		found[f.GetName()] = f.Metric[0].Histogram
	}
	return found
}

// TestHistograms checks that a master that is a group by itself syncs and applies each command once, and that a
// follower does too.
func TestHistograms(t *testing.T) {
	t.Parallel()
	var all []*histogram.Master
	nodes := testGroup(t, 2, func(c *Config) {
		c.Histograms = histogram.NewMaster()
		all = append(all, c.Histograms)
	})
	leaderOf(t, nodes...)
	create(t, "first", nodes...)
	before := []map[string]*dto.Histogram{gathered(t, all[0]), gathered(t, all[1])}
	const commands = 20
	for i := range commands {
		create(t, fmt.Sprint("project ", i), nodes...)
	}
	read, err := leaderOf(t, nodes...).ReadIndex(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		if err := n.WaitApplied(patience(t), read.Index); err != nil {
			t.Fatal(err)
		}
		if applied := n.Applied(); n.Committed() < applied {
			t.Errorf("master %d: committed %d, and applied %d before", i, n.Committed(), applied)
		}
		after := gathered(t, all[i])
		for _, name := range []string{"chainstore_fsync_seconds", "chainstore_apply_seconds"} {
			// A master that missed an entry gets it with the next one.
			if got := after[name].GetSampleCount() - before[i][name].GetSampleCount(); got == 0 || got > 3*commands {
				t.Errorf("master %d, %s: %d values for %d commands", i, name, got, commands)
			}
			if after[name].GetSampleSum() <= before[i][name].GetSampleSum() {
				t.Errorf("master %d, %s: no time has passed", i, name)
			}
		}
		for _, name := range []string{"chainstore_append_seconds", "chainstore_commit_seconds"} {
			if n := after[name].GetSampleCount(); n != 0 {
				t.Errorf("master %d has %d values of %s, which raftstore does not measure", i, n, name)
			}
		}
	}
}

// TestSyncsAreCounted checks that each successful write of the log is counted, and others are not.
func TestSyncsAreCounted(t *testing.T) {
	s, disk := testLogs()
	m := histogram.NewMaster()
	s.fsync = m.Fsync
	count := func() uint64 { return gathered(t, m)["chainstore_fsync_seconds"].GetSampleCount() }
	if err := s.StoreLogs([]*raft.Log{entry(1, "a"), entry(2, "b")}); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(entry(3, "c")); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 2 {
		t.Errorf("%d writes are counted, not 2", n)
	}
	s.reserved = func(uint64) error { return errors.New("full") }
	if err := s.StoreLog(entry(4, "d")); err == nil {
		t.Error("a write to a full disk succeeded")
	}
	s.reserved, disk.before = noLimit, true
	ended := make(chan struct{})
	go func() { // which the failure ends
		defer close(ended)
		_ = s.StoreLog(entry(4, "d"))
	}()
	<-ended
	if n := count(); n != 2 || s.fail.get() == nil {
		t.Errorf("after two writes that failed %d are counted, not 2; failure %v", n, s.fail.get())
	}
}

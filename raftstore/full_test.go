package raftstore

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// restartWithin bounds the restart of a master with a log of the largest size, on an otherwise idle machine (make
// times). On other machines the bound is six times that.
func restartWithin() time.Duration {
	if os.Getenv("CHAINSTORE_TIMES") == "" {
		return 30 * time.Second
	}
	return 5 * time.Second
}

// fullFolder writes the folder of a group of one as a master in production would, without a sync for each entry. Each
// entry is also applied to a state, of which snapshots are taken.
type fullFolder struct {
	t       *testing.T
	cfg     Config
	logs    *logStore
	state   *masterfsm.State
	last    raft.Log    // the newest entry
	batch   []*raft.Log // entries that are not in the log store yet
	logged  logSize     // since the last snapshot
	policy  snapshotPolicy
	seq     uint64
	members []wire.Member
	close   func()
}

// newFullFolder founds the group. Its blocks need no work, and two storage nodes have as many of them as the test says.
func newFullFolder(t *testing.T) *fullFolder {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Bind: ownAddress(t), Secret: testSecret}
	if err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, cfg)
	f := &fullFolder{
		t: t, cfg: cfg, state: masterfsm.New(), members: []wire.Member{n.Member()},
		policy: snapshotPolicy{entries: cfg.SnapshotEntries, bytes: cfg.SnapshotBytes},
	}
	if err := n.Found("g", f.members); err != nil {
		t.Fatal(err)
	}
	leaderOf(t, n)
	n.stop()

	log, err := logstore.Open(logPath(cfg.Dir), logstore.Options{SegmentBytes: segmentBytes(cfg.SnapshotBytes)})
	if err != nil {
		t.Fatal(err)
	}
	fail := newFailure()
	dog := newWatchdog(time.Minute, fail)
	f.logs = &logStore{
		LogStore: log, segments: log, name: "log", fail: fail, watchdog: dog, snaps: &snapshotStore{},
		reserved: noLimit,
	}
	f.close = func() {
		f.flush()
		dog.close()
		if err := log.Close(true); err != nil {
			t.Fatal(err)
		}
	}
	end, err := f.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= end; i++ {
		if err := f.logs.GetLog(i, &f.last); err != nil {
			t.Fatal(err)
		}
		if f.last.Type == raft.LogCommand {
			f.apply(f.last.Data)
		}
	}
	for _, c := range easyGroup(n.Member(), f.last.Term) {
		f.add(masterfsm.Encode(c))
	}
	f.add(project("p"))
	return f
}

// easyGroup returns commands after which blocks need no work and two storage nodes are registered.
func easyGroup(leader wire.Member, term uint64) []masterfsm.Command {
	settings := masterfsm.DefaultSettings()
	settings.Difficulty = 0
	commands := []masterfsm.Command{
		&masterfsm.BeginTerm{Term: term, Member: leader.ID, Group: leader.Group, Settings: settings},
	}
	for _, id := range []string{"a", "b"} {
		commands = append(commands, &masterfsm.Register{Role: masterfsm.RoleStorage, ID: id, URL: "http://" + id})
	}
	return commands
}

func (f *fullFolder) apply(data []byte) {
	f.t.Helper()
	if _, err := f.state.Apply(data); err != nil {
		f.t.Fatal(err)
	}
}

// add appends an entry.
func (f *fullFolder) add(data []byte) {
	f.t.Helper()
	f.apply(data)
	f.last = raft.Log{Index: f.last.Index + 1, Term: f.last.Term, Type: raft.LogCommand, Data: data}
	l := f.last
	f.batch = append(f.batch, &l)
	f.logged.entries++
	f.logged.bytes += uint64(len(data))
	if len(f.batch) == 256 {
		f.flush()
	}
}

func (f *fullFolder) flush() {
	f.t.Helper()
	if err := f.logs.StoreLogs(f.batch); err != nil {
		f.t.Fatal(err)
	}
	f.batch = nil
}

// records appends an entry of count records of 256 bytes. With keyed, each is a request with an idempotency key of its
// own.
func (f *fullFolder) records(count int, keyed bool) {
	f.t.Helper()
	f.seq++
	f.add(manyRecords(f.seq, count, keyed))
}

func manyRecords(seq uint64, count int, keyed bool) []byte {
	s := masterfsm.NewSubmission(nil, "m", 1, seq)
	record := chain.Record{Project: 1, Payload: make([]byte, 256)}
	encoded, commit := record.AppendTo(nil), record.Commit()
	for i := range count {
		if keyed || i == 0 {
			var key masterfsm.Digest
			if keyed {
				key = masterfsm.Digest([]byte(fmt.Sprintf("%8d%8d", seq, i)))
			}
			s.StartRequest(1, key, masterfsm.Digest{})
		}
		s.AddEncoded(commit, encoded)
	}
	return masterfsm.EncodeAppend(0, masterfsm.Leadership{}, s.Bytes())
}

// store mines every block that is cut and stores it on the storage nodes, so that the masters keep few bodies.
func (f *fullFolder) store() {
	f.t.Helper()
	for c := storing(f.state); c != nil; c = storing(f.state) {
		f.add(masterfsm.Encode(c))
	}
}

// storing returns the next command that mines or stores a block, where blocks need no work; nil where all are stored.
func storing(s *masterfsm.State) masterfsm.Command {
	v := s.View()
	switch {
	case v.Waiting != nil:
		return &masterfsm.Mined{Block: v.Waiting.Block}
	case v.Stored == v.Head.Height:
		return nil
	}
	c := &masterfsm.Acknowledge{}
	for _, n := range v.Storages {
		c.Nodes = append(c.Nodes, masterfsm.NodeHeight{ID: n.ID, Version: n.Version, Height: v.Head.Height})
	}
	return c
}

// snapshot takes a snapshot and trims the log, as the store does.
func (f *fullFolder) snapshot() {
	f.t.Helper()
	f.flush()
	trailing := f.logs.trailing(f.cfg.TrailingBytes, 2*f.cfg.SnapshotEntries)
	snaps, err := openSnapshots(f.cfg.Dir, nil, f.logs.fail, f.logs.watchdog, noLimit, raftconfig.WarningsOnly(nil))
	if err != nil {
		f.t.Fatal(err)
	}
	_, trans := raft.NewInmemTransport("")
	m := f.members[0]
	sink, err := snaps.Create(1, f.last.Index, f.last.Term, raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: transport.ServerAddress(m.ID, m.Raft)},
	}}, 1, trans)
	if err != nil {
		f.t.Fatal(err)
	}
	sink.(*snapshotSink).own = true
	var size byteCount
	if err := f.state.Snapshot().Write(io.MultiWriter(sink, &size)); err != nil {
		f.t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		f.t.Fatal(err)
	}
	first, err := f.logs.FirstIndex()
	if err != nil {
		f.t.Fatal(err)
	}
	if f.last.Index > trailing && first <= f.last.Index-trailing {
		if err := f.logs.DeleteRange(first, f.last.Index-trailing); err != nil {
			f.t.Fatal(err)
		}
	}
	f.logged, f.policy.last = logSize{}, uint64(size)
}

// byteCount counts the bytes that are written to it.
type byteCount uint64

func (n *byteCount) Write(b []byte) (int, error) {
	*n += byteCount(len(b))
	return len(b), nil
}

// due reports whether a store would take a snapshot after one more entry of that size.
func (f *fullFolder) due(size uint64) bool {
	return f.policy.due(logSize{entries: f.logged.entries + 1, bytes: f.logged.bytes + size})
}

// A master that was killed just before a snapshot was due, with the largest snapshot and log that the defaults allow,
// has applied its whole log within 5 s after a restart.
func TestRestartWithFullLog(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("700 MiB of log and snapshots")
	}
	for name, fill := range map[string]func(f *fullFolder){
		"small entries": func(f *fullFolder) {
			f.store()
			for !f.due(1 << 10) {
				f.records(1, true)
				if f.state.View().PendingBytes > 16<<20 {
					f.store()
				}
			}
			if most := maxEntriesFactor * f.cfg.SnapshotEntries; f.logged.entries+1 != most {
				f.t.Errorf("%d entries of %d before the next snapshot", f.logged.entries, most)
			}
		},
		"large entries": func(f *fullFolder) {
			for !f.due(1 << 20) {
				f.store()
				f.records(2000, true)
			}
			if f.logged.bytes < f.policy.last-2<<20 {
				f.t.Errorf("%d bytes of log behind a snapshot of %d bytes", f.logged.bytes, f.policy.last)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFullFolder(t)
			for most := f.state.Settings().MaxPendingBytes; f.state.View().PendingBytes < most; {
				f.records(1000, true)
			}
			f.snapshot()
			fill(f)
			f.close()
			runtime.GC()

			start := time.Now()
			s := openStore(t, f.cfg)
			opened := time.Since(start)
			if err := s.WaitApplied(patience(t), f.last.Index); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			t.Logf("snapshot of %d MiB, %d entries of %d MiB behind it: open after %v, all applied after %v",
				f.policy.last>>20, f.logged.entries, f.logged.bytes>>20, opened, took)
			if took > restartWithin() {
				t.Errorf("a restart takes %v", took)
			}
			if keys, _ := f.state.Keys(masterfsm.Leadership{}); keys < 500_000 {
				t.Errorf("%d keys are remembered", keys)
			}
			want, err := f.state.Snapshot().Digest()
			if err != nil {
				t.Fatal(err)
			}
			s.Read(func(state *masterfsm.State) {
				if got, err := state.Snapshot().Digest(); err != nil || got != want {
					t.Errorf("the state hashes to %v, %v, before it was %v", got, err, want)
				}
			})
		})
	}
}

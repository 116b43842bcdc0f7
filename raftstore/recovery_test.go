package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// singleMaster returns a group of one with a few projects.
func singleMaster(t *testing.T, projects int) *node {
	t.Helper()
	nodes := testGroup(t, 1, nil)
	for i := range projects {
		create(t, fmt.Sprint("p", i), nodes...)
	}
	return nodes[0]
}

// twoSnapshots lets a group of one take two snapshots, behind which trailing entries stay in the log, and stops it. It
// returns the last entry and the folder of the newer snapshot.
func twoSnapshots(t *testing.T, trailing uint64) (n *node, last uint64, newest string) {
	t.Helper()
	n = singleMaster(t, 10)
	r := n.raft.Load()
	n.reload(r, func(c *raft.ReloadableConfig) { c.TrailingLogs = trailing })
	for i := range 2 {
		if err := r.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		for j := range 10 {
			create(t, fmt.Sprint("q", 10*i+j), n)
		}
	}
	last = n.Applied()
	n.stop()
	recovery := openRecovery(t, n.cfg.Dir)
	defer closeRecovery(t, recovery)
	return n, last, filepath.Join(recovery.snaps.dir, recovery.base.ID)
}

// propose commits a command.
func (n *node) propose(t *testing.T, data []byte) {
	t.Helper()
	if _, err := n.Propose(patience(t), data); err != nil {
		t.Fatal(err)
	}
}

// mine appends one record and mines its block.
func (n *node) mine(t *testing.T, number uint64) {
	t.Helper()
	record := chain.Record{Project: 1, Type: "text/plain", Payload: fmt.Append(nil, number)}
	sub := masterfsm.NewSubmission(nil, n.Member().ID, 1, number)
	sub.StartRequest(1, masterfsm.Digest{}, masterfsm.Digest{1})
	sub.AddEncoded(record.Commit(), record.AppendTo(nil))
	n.propose(t, masterfsm.EncodeAppend(2000+number, masterfsm.Leadership{}, sub.Bytes()))
	n.propose(t, masterfsm.Encode(&masterfsm.Cut{Block: number, Time: 2000 + number}))
	var header chain.Header
	n.Read(func(s *masterfsm.State) { header = *s.View().Waiting })
	nonce, found := chain.Solve(header.Inner(), header.Difficulty, 0, 1<<24)
	if !found {
		t.Fatal("no nonce")
	}
	n.propose(t, masterfsm.Encode(&masterfsm.Mined{Block: number, Nonce: nonce, Time: 2000 + number}))
}

func openRecovery(t *testing.T, dir string) *Recovery {
	t.Helper()
	r, err := OpenRecovery(dir, false, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeRecovery(t, r) })
	return r
}

func closeRecovery(t *testing.T, r *Recovery) {
	t.Helper()
	if r.lock == nil {
		return // closed before
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r.lock = nil
}

// The state can be read up to an entry that was never committed. The end of the log, by which survivors are compared,
// does not change.
func TestRecoveryReadBefore(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 1)
	for number := range uint64(3) {
		n.mine(t, number)
	}
	last := n.Applied()
	n.stop()
	r := openRecovery(t, n.cfg.Dir)
	term, index := r.Last()
	if r.State().Head().Height != 3 || r.SnapshotHeight() != 0 || index != last || term == 0 {
		t.Errorf("height %d, snapshot at %d, last entry %d of term %d, not %d", r.State().Head().Height,
			r.SnapshotHeight(), index, term, last)
	}
	if err := r.ReadBefore(1); err != nil {
		t.Fatal(err)
	}
	s := r.State()
	if w := s.View().Waiting; s.Head().Height != 1 || w == nil || w.Block != 1 {
		t.Errorf("below block 1 the state is at %d, and waits for %+v", s.Head().Height, w)
	}
	if again, at := r.Last(); again != term || at != index {
		t.Errorf("the last entry is %d of term %d now", at, again)
	}
	if err := r.ReadBefore(7); err == nil {
		t.Error("read below a block that is not there")
	}
}

// corrupt overwrites a few bytes of a file.
func corrupt(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("corrupt"), 5)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A snapshot that cannot be read is named and moved aside. The recovery uses the one before it, where the log reaches
// back to that.
func TestRecoveryDamagedSnapshot(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"state.bin", "meta.json"} {
		n, last, damaged := twoSnapshots(t, 1000)
		corrupt(t, filepath.Join(damaged, file))
		r := openRecovery(t, n.cfg.Dir)
		list := r.Damaged()
		if _, index := r.Last(); index != last || len(list) != 1 || list[0].Path != damaged || list[0].Err == nil ||
			list[0].Index == 0 {
			t.Fatalf("%s: the last entry is %d, not %d, damaged are %+v", file, index, last, list)
		}
		if err := r.Commit("group-1", 2, n.cfg.Bind); err != nil {
			t.Fatal(err)
		}
		closeRecovery(t, r)
		if _, err := os.Stat(list[0].Aside); err != nil {
			t.Error(err)
		}
		back := openNode(t, n.cfg)
		if leaderOf(t, back); !back.has("p0") || !back.has("q19") {
			t.Errorf("%s: not all projects are there", file)
		}
	}
}

// Where the log does not reach back to a readable snapshot, the recovery fails and changes nothing.
func TestRecoveryLostSnapshot(t *testing.T) {
	t.Parallel()
	n, _, damaged := twoSnapshots(t, 1)
	corrupt(t, filepath.Join(damaged, "state.bin"))
	_, err := OpenRecovery(n.cfg.Dir, false, nil, nil)
	if !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), damaged) ||
		!strings.Contains(err.Error(), "--from-storage") {
		t.Errorf("opened: %v", err)
	}
	if _, err := os.Stat(damaged); err != nil {
		t.Error(err)
	}
}

// A founding from an empty folder starts again after a crash at any point.
func TestRecoveryAgain(t *testing.T) {
	t.Parallel()
	for _, written := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "master")
		r := openRecovery(t, dir)
		id := r.Member().ID
		if !r.Fresh() {
			t.Error("an empty folder is not fresh")
		}
		if _, err := r.State().Apply(project("of the first try")); err != nil {
			t.Fatal(err)
		}
		if err := r.begin(); err != nil {
			t.Fatal(err)
		}
		if written {
			if err := r.write("127.0.0.1:1"); err != nil {
				t.Fatal(err)
			}
		}
		closeRecovery(t, r)
		if _, err := Open(testConfig(t, dir)); !errors.Is(err, ErrRecovery) {
			t.Errorf("a half-written folder opens: %v", err)
		}
		r = openRecovery(t, dir)
		if _, found := r.State().ProjectByName("of the first try"); found || !r.Fresh() || r.Member().ID != id {
			t.Errorf("the second try begins with %+v", r.Member())
		}
		if _, err := r.State().Apply(project("of the second try")); err != nil {
			t.Fatal(err)
		}
		cfg := testConfig(t, dir)
		if err := r.Commit("g", 3, "127.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
		closeRecovery(t, r)
		n := openNode(t, cfg)
		if leaderOf(t, n); !n.has("of the second try") || n.has("of the first try") || n.Member().Group != "g" ||
			n.Member().Epoch != 3 {
			t.Errorf("recovered %+v", n.Member())
		}
	}
}

// A recovered folder keeps the level of its group, and opens with a new file of starts.
func TestRecoveryKeepsTheLevel(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 1)
	raised(t, n)
	n.stop()
	r := openRecovery(t, n.cfg.Dir)
	if err := r.Commit("group-1", 2, n.cfg.Bind); err != nil {
		t.Fatal(err)
	}
	closeRecovery(t, r)
	if id, err := loadIdentity(n.cfg.Dir); err != nil || id.Level != testLevel || id.Recovering {
		t.Errorf("the folder has %+v, %v", id, err)
	}
	if back := openNode(t, n.cfg); leaderOf(t, back) != back || !back.has("p0") {
		t.Error("the recovered master does not go on")
	}
}

// A master that is removed in its own state is not recovered.
func TestRecoveryRemoved(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 1)
	n.propose(t, masterfsm.Encode(&masterfsm.RemoveMaster{ID: n.Member().ID, Time: 1}))
	n.stop()
	if _, err := OpenRecovery(n.cfg.Dir, false, nil, nil); !errors.Is(err, ErrRemoved) ||
		!strings.Contains(err.Error(), n.Member().ID) {
		t.Errorf("opened: %v", err)
	}
}

// The folder of a removed master can be read only.
func TestReadRemoved(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 1)
	n.propose(t, masterfsm.Encode(&masterfsm.RemoveMaster{ID: n.Member().ID, Time: 1}))
	n.stop()
	r, err := OpenFolder(n.cfg.Dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeRecovery(t, r)
	if _, found := r.State().ProjectByName("p0"); !found {
		t.Error("no project")
	}
	if err := r.Commit(r.Member().Group, r.Member().Epoch+1, "127.0.0.1:1"); !errors.Is(err, ErrRemoved) {
		t.Errorf("recovered: %v", err)
	}
}

// A key whose retirement may never have been committed counts as a signing key, until a snapshot includes the
// retirement.
func TestRecoveryLogKeys(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 1)
	add := func(seed byte) string {
		t.Helper()
		k, err := n.Propose(patience(t), masterfsm.Encode(&masterfsm.AddLogKey{
			Origin: "example.com/log", Public: chain.Hash{seed}, Sealed: bytes.Repeat([]byte{seed},
				masterfsm.SealedLogKey), First: seed == 1,
		}))
		if err != nil {
			t.Fatal(err)
		}
		return k.(*masterfsm.LogKey).ID
	}
	retire := func(id string) { n.propose(t, masterfsm.Encode(&masterfsm.RetireLogKey{ID: id})) }
	first, second, third := add(1), add(2), add(3)
	retire(first)
	if err := n.raft.Load().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	retire(second)
	fourth := add(4)
	retire(fourth)
	n.stop()
	r := openRecovery(t, n.cfg.Dir)
	if signing := r.State().Log().Signing(); len(signing) != 1 || signing[0].ID != third {
		t.Errorf("%d keys sign", len(signing))
	}
	l := r.Log()
	var ids []string
	for _, k := range l.Keys {
		if ids = append(ids, k.ID); !k.Signs() || len(k.Sealed) != masterfsm.SealedLogKey {
			t.Errorf("key %s comes without its private part", k.ID)
		}
	}
	if want := []string{third, second, fourth}; l.Origin != "example.com/log" || !slices.Equal(ids, want) {
		t.Errorf("keys %v of %s, want %v", ids, l.Origin, want)
	}
}

// A master that was removed by a recovery elsewhere can be recovered by undoing that recovery. One that is removed in
// its own state cannot.
func TestUndoRecovery(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 1)
	if err := n.Retire(); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if _, err := OpenRecovery(n.cfg.Dir, false, nil, nil); !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(),
		"--undo-recovery") {
		t.Errorf("without undoing: %v", err)
	}
	r, err := OpenRecovery(n.cfg.Dir, true, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(r.Member().Group, r.Member().Epoch+2, n.cfg.Bind); err != nil {
		t.Fatal(err)
	}
	closeRecovery(t, r)
	again := openRecovery(t, n.cfg.Dir)
	if again.identity.Removed || again.Member().Epoch != 3 {
		t.Errorf("%+v", again.identity)
	}
	closeRecovery(t, again)

	gone := singleMaster(t, 1)
	gone.propose(t, masterfsm.Encode(&masterfsm.RemoveMaster{ID: gone.Member().ID, Time: 9999}))
	gone.stop()
	_, err = OpenRecovery(gone.cfg.Dir, true, nil, nil)
	if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), "the state in") {
		t.Errorf("of one that the table has as removed: %v", err)
	}
}

package raftstore

import (
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/masterfsm"
)

// boltBytes is the size of a raft.db with term and vote: bbolt grows its file by 16 MiB at a time.
const boltBytes = 16 << 20

// folderSizes returns the sizes of the log with raft.db, and of the snapshots, including unfinished ones.
func folderSizes(t *testing.T, dir string) (log, snapshots int64) {
	t.Helper()
	sizeOf := func(name string) (size int64) {
		err := filepath.WalkDir(filepath.Join(dir, name), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			size += info.Size()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return size
	}
	return sizeOf("raft.db") + sizeOf("log"), sizeOf("snapshots")
}

// The size of the folder stays below the bound in DESIGN.md, however much is appended.
func TestFolderIsBounded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("200 MiB of log")
	}
	const snapshotBytes = 8 << 20
	through := uint64(200 << 20)
	if underRace {
		through /= 4
	}
	n := testGroup(t, 1, func(c *Config) { c.SnapshotBytes = snapshotBytes })[0]
	leaderOf(t, n)
	var wrote, most uint64
	add := func(data []byte) {
		t.Helper()
		if _, err := n.Propose(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		wrote += uint64(len(data))
	}
	term, _ := leaderTerm(n.raft.Load())
	for _, c := range easyGroup(n.Member(), term) {
		add(masterfsm.Encode(c))
	}
	add(project("p"))
	random := rand.New(rand.NewPCG(1, 1))
	var entries int
	for seq := uint64(1); wrote < through; seq++ {
		data := manyRecords(seq, 1+random.IntN(3000), false) // up to 1 MiB
		most = max(most, uint64(len(data)))
		add(data)
		entries++
		for {
			var c masterfsm.Command
			n.Read(func(s *masterfsm.State) { c = storing(s) })
			if c == nil {
				break
			}
			add(masterfsm.Encode(c))
		}
	}
	n.stop() // no snapshot is in progress
	log, snapshots := folderSizes(t, n.cfg.Dir)
	list, err := n.snaps.List()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after %d MiB in %d appends: log %d MiB, %d snapshots of %d MiB", wrote>>20, entries, log>>20, len(list),
		snapshots>>20)
	// The segments at both ends have entries that are not needed, or room for more.
	segments := 2 * (uint64(segmentBytes(snapshotBytes)) + most)
	if bound := int64(snapshotBytes + 2*snapshotBytes + boltBytes + segments + most); log > bound {
		t.Errorf("the log has %d bytes, bound are %d", log, bound)
	}
	// A state without a backlog is an open block and its hashes.
	if len(list) > retainedSnapshots || snapshots > 2*5<<20 {
		t.Errorf("%d snapshots, %d bytes", len(list), snapshots)
	}
}

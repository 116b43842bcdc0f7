package masterfsm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// oldSnapshot returns the state restored from a snapshot as written by a master before checkpoints existed.
func oldSnapshot(t *testing.T, s *State) *State {
	t.Helper()
	data := snapshotBytes(t, s)
	data[len(snapshotMagic)] = oldestSnapshot
	rest := data[len(snapshotMagic)+1:]
	size := binary.BigEndian.Uint64(rest)
	var img map[string]json.RawMessage
	if err := json.Unmarshal(rest[8:8+size], &img); err != nil {
		t.Fatal(err)
	}
	for _, new := range []string{"checkpoint", "published", "cosigned", "log", "floor"} {
		if _, ok := img[new]; !ok {
			t.Errorf("no %s in a snapshot", new)
		}
		delete(img, new)
	}
	old, err := json.Marshal(img)
	if err != nil {
		t.Fatal(err)
	}
	before := append(append([]byte{}, data[:len(snapshotMagic)+1]...),
		binary.BigEndian.AppendUint64(nil, uint64(len(old)))...)
	before = append(append(before, old...), rest[8+size:len(rest)-4]...)
	before = append(before, seal(append(make([]byte, 4), before...))[:4]...)
	back, err := Restore(bytes.NewReader(before))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// longChain returns a table with a number of blocks. Both of its nodes have stored the first of them.
func longChain(t *testing.T, blocks, stored int) *table {
	settings := smallSettings()
	settings.MaxRecords, settings.Difficulty, settings.MaxPendingBytes = 1, 0, 1<<30
	b := newTable(t, settings)
	b.node("a", 0)
	b.node("b", 0)
	for i := range blocks {
		b.fill(1)
		b.mine()
		if i+1 == stored {
			b.ack("a", uint64(stored))
			b.ack("b", uint64(stored))
		}
	}
	return b
}

// TestSnapshotOfBeforeCheckpoints checks that a master that was restored from a snapshot without checkpoints ends in
// the same state as one that has replayed its log, whatever the heights of the storage nodes. Nothing is signed before
// the first key is added. From then on both have the same checkpoints.
func TestSnapshotOfBeforeCheckpoints(t *testing.T) {
	for name, b := range map[string]*table{
		"stored":     longChain(t, 3, 3),
		"behind":     longChain(t, 5, 3),
		"far behind": longChain(t, Boundaries+80, 10),
	} {
		t.Run(name, func(t *testing.T) {
			back := &table{t: t, State: oldSnapshot(t, b.State), seq: b.seq}
			same := func(when string) {
				t.Helper()
				if back.Checkpoint() != b.Checkpoint() || back.Published().Boundary != b.Published().Boundary ||
					!bytes.Equal(snapshotBytes(t, back.State), snapshotBytes(t, b.State)) {
					t.Errorf("%s: restored, it signs %+v, replayed %+v", when, back.Checkpoint(), b.Checkpoint())
				}
			}
			same("before the first key")
			if b.Checkpoint().Height != 0 {
				t.Errorf("signed without a key: %+v", b.Checkpoint())
			}
			for _, x := range []*table{b, back} {
				x.ok(addKey(1, true))
			}
			same("with a key")
			for _, x := range []*table{b, back} {
				x.ack("a", b.Head().Height)
				x.ack("b", b.Head().Height)
			}
			same("all stored")
			if b.Checkpoint() != b.Boundary() {
				t.Errorf("%+v is signed, the chain ends at %+v", b.Checkpoint(), b.Boundary())
			}
		})
	}
}

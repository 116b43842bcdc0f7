package masterfsm

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// heapInUse returns the bytes of live objects.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one may leave what only finalizers reached
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryOfWaitingRecords bounds the memory of records that wait for storage nodes. The state has each record
// once: neither the log entry that brought it nor the unmined copy of a block stays. Each record adds a leaf hash and
// an offset, 36 bytes. Once the storage nodes have the blocks, nothing of them is left.
func TestMemoryOfWaitingRecords(t *testing.T) {
	settings := DefaultSettings()
	settings.Difficulty, settings.MaxPendingBytes = 1, 32<<20
	if underRace {
		settings.MaxPendingBytes = 8 << 20
	}
	b := newTable(t, settings)
	for i := range 3 {
		b.ok(&Register{Role: RoleStorage, ID: fmt.Sprint("s", i), URL: fmt.Sprint("http://s", i), Time: startTime})
	}
	record := chain.Record{Project: 1, Payload: make([]byte, 256)}
	encoded, commit := record.AppendTo(nil), record.Commit()
	empty := heapInUse()
	for seq := uint64(1); b.pendingBytes < settings.MaxPendingBytes; seq++ {
		s := NewSubmission(nil, "m1", 1, seq)
		s.StartRequest(1, Digest{}, Digest{})
		for range 1000 {
			s.AddEncoded(commit, encoded)
		}
		if _, err := only(b.Apply(EncodeAppend(startTime, Leadership{}, s.Bytes()))); err != nil {
			t.Fatal(err)
		}
	}
	const (
		perByte = 1.15 // 1 for the record, 0.117 for its leaf hash and offset, 0.03 for the reserve of a block
		blocks  = 1.5  // the open block, and the growth of the first block
	)
	room := int64(blocks * float64(settings.MaxBytes))
	check := func(when string, most int64) {
		t.Helper()
		used := heapInUse() - empty
		t.Logf("%s: %d bytes, at most %d", when, used, most)
		if used > most {
			t.Errorf("%s: the state takes %d bytes for %d bytes of records, at most %d are due", when, used,
				b.pendingBytes, most)
		}
	}
	waiting := int64(perByte * float64(b.pendingBytes))
	check("appended", waiting+room)
	for b.waiting != nil {
		b.mine()
	}
	check("mined", waiting+room)
	for i := range 3 {
		b.ack(fmt.Sprint("s", i), b.head.Height)
	}
	if b.heldFrom() != b.open.number {
		t.Errorf("blocks from %d on are held, the open one is %d", b.heldFrom(), b.open.number)
	}
	check("stored", room)
	runtime.KeepAlive(b)
}

package verify

import (
	"bytes"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// sealLeaves appends leaves and a mined header that the caller chooses to the log's blocks, as only the holder of the
// log's key can.
func (l *testLog) sealLeaves(root chain.Hash, leaves ...[]byte) chain.Header {
	l.t.Helper()
	head := l.Verifier.Head()
	for _, data := range leaves {
		l.AddLeaf(data)
	}
	if root.IsZero() {
		root = l.Root(uint64(len(l.Entries)))
	}
	h := chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(len(leaves)),
		Prev: head.Hash, Root: root,
		Time: startTime + 5000, Difficulty: workBits,
	}
	h.Nonce, _ = chain.Solve(h.Inner(), workBits, 0, 1<<20)
	l.AddLeaf(h.AppendTo(nil))
	l.size = uint64(len(l.Entries))
	return h
}

// forgedReceipt returns the receipt of the first leaf under a header, for a record that may not belong to this leaf.
func (l *testLog) forgedReceipt(h chain.Header, record *chain.Record, leafData []byte, path []chain.Hash) wire.Receipt {
	leaf := record.Leaf()
	return wire.Receipt{
		Format: wire.FormatReceipt, Origin: l.Origin, Index: h.First, Block: h.Block, Time: record.Time,
		ProjectID: record.Project, Size: leaf.Size,
		Salt: record.Salt[:], Commit: leaf.Commit, Leaf: chain.Hash(tlog.RecordHash(leafData)), LeafData: leafData,
		Header:     wire.NewBlock(h),
		RecordPath: path, SealIndex: h.Seal(), SealPath: l.Path(l.size, h.Seal()), TreeSize: l.size,
		Root: l.Root(l.size), Checkpoint: l.Checkpoint(l.size),
	}
}

// TestReceiptOfARecordNotInTheSignedTree checks that a block of the signed tree whose header names the root of another
// tree proves nothing about the records of that other tree.
func TestReceiptOfARecordNotInTheSignedTree(t *testing.T) {
	shown := chain.Record{Project: 1, Time: startTime, Payload: []byte("what the log shows")}
	hidden := chain.Record{Project: 1, Time: startTime, Payload: []byte("what is nowhere")}
	l := newTestLog(t, 3, 5)
	other := l.fork(2, "")
	first := other.size
	other.AddLeaf(hidden.Leaf().AppendTo(nil))
	h := l.sealLeaves(other.Root(first+1), shown.Leaf().AppendTo(nil))
	r := l.forgedReceipt(h, &hidden, hidden.Leaf().AppendTo(nil), other.Path(first+1, first))
	if report := Receipt(mustJSON(t, r), l.trust(), hidden.Payload); codes(report.Findings) != CodePrefix {
		t.Errorf("%v", report.Findings)
	}
}

// TestReceiptOfALeafOfAnotherKind checks a receipt for a leaf that is not a record. Its bytes have no meaning, so the
// content of the receipt is forged.
func TestReceiptOfALeafOfAnotherKind(t *testing.T) {
	data := bytes.Repeat([]byte{9}, chain.LeafSize)
	l := newTestLog(t, 3, 5)
	h := l.sealLeaves(chain.Hash{}, data)
	for _, text := range []string{"I owe you 1", "I owe you 1000000"} {
		record := chain.Record{Project: 1, Time: startTime, Payload: []byte(text)}
		r := l.forgedReceipt(h, &record, data, l.Path(h.Seal(), h.First))
		if report := Receipt(mustJSON(t, r), l.trust(), record.Payload); codes(report.Findings) != CodeLeafData {
			t.Errorf("%q: %v", text, report.Findings)
		}
	}
}

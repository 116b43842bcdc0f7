package main

import (
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// receiptOf is the receipt of a record as if it were alone in block 0, where it is the first; nil for others and while no checkpoint covers it.
func (f *fakeCluster) receiptOf(index uint64) *wire.Receipt {
	if f.uncovered > 0 {
		f.uncovered--
		return nil
	}
	if index > 0 || len(f.records) == 0 {
		return nil
	}
	r := &f.records[0]
	leaf := chain.Leaf{Project: r.ProjectID, Time: r.Time, Size: r.Size, Commit: r.Commit}
	h := chain.Header{Version: chain.Version, Count: 1, Root: r.Leaf, Time: r.Time, Difficulty: 1}
	h.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
	root := chain.NodeHash(r.Leaf, h.SealHash())
	return &wire.Receipt{
		Format: wire.FormatReceipt, Origin: "fake", Time: r.Time, ProjectID: r.ProjectID, Size: r.Size, Key: r.Key, Type: r.Type, Salt: r.Salt,
		Commit: r.Commit, Leaf: r.Leaf, LeafData: leaf.AppendTo(nil), Header: wire.NewBlock(h), RecordPath: []chain.Hash{},
		SealIndex: 1, SealPath: []chain.Hash{r.Leaf}, TreeSize: 2, Root: root,
		Checkpoint: fmt.Sprintf("fake\n2\n%s\n\n— fake c2lnbmVk\n", base64.StdEncoding.EncodeToString(root[:])),
	}
}

// receipt answers with a receipt, or a tlog-proof of no way.
func (f *fakeCluster) receipt(w http.ResponseWriter, r *http.Request) {
	index := uint64(1)
	if r.PathValue("index") == "0" || r.PathValue("block") == "0" && r.PathValue("offset") == "0" {
		index = 0
	}
	receipt := f.receiptOf(index)
	switch {
	case receipt == nil:
		problem(w, http.StatusConflict, wire.ErrNotCovered.Name, "No checkpoint yet")
	case r.PathValue("what") == "receipt":
		reply(w, http.StatusOK, receipt)
	default:
		if accept := r.Header.Get("Accept"); accept != "text/plain" {
			f.t.Errorf("accepts %q", accept)
		}
		w.Header().Set("Content-Type", wire.TypeNote)
		_, _ = fmt.Fprintf(w, "c2sp.org/tlog-proof@v1\nindex 0\n\n%s", receipt.Checkpoint)
	}
}

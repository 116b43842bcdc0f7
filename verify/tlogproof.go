package verify

import (
	"bytes"
	"fmt"

	"github.com/transparency-dev/formats/proof"

	"github.com/chainstore/chainstore/chain"
)

// proofMagic is the first line of a proof in the form of C2SP tlog-proof.
const proofMagic = "c2sp.org/tlog-proof@v1\n"

// IsTlogProof distinguishes a file in the form of C2SP tlog-proof from a receipt.
func IsTlogProof(data []byte) bool { return bytes.HasPrefix(data, []byte(proofMagic)) }

// TlogProof checks a proof (https://c2sp.org/tlog-proof) that a leaf of that hash is in a tree which a key of trust has
// signed. Such a proof names neither the leaf nor the record; [chain.Record.Leaf] returns a record's leaf.
func TlogProof(data []byte, trust Trust, leaf chain.Hash) ReceiptReport {
	var found findings
	if len(data) > MaxReceipt {
		found.add(CodeFormat, "the proof has %d bytes, the limit is %d", len(data), MaxReceipt)
		return ReceiptReport{Findings: found}
	}
	var p proof.TLogProof
	if err := p.Unmarshal(data); err != nil {
		found.add(CodeFormat, "not a tlog-proof that this program can read: %v", err)
		return ReceiptReport{Findings: found}
	}
	if !bytes.Equal(p.Marshal(), data) {
		found.add(CodeFormat, "the tlog-proof is not written as one is: line ends, zeros before the index, or "+
			"base64 of another form")
		return ReceiptReport{Findings: found}
	}
	cp, bad := trust.open(p.Checkpoint)
	found = append(found, bad...)
	if cp.Origin != "" {
		path := chain.Proof{Index: p.Index, Size: cp.Size}
		for _, h := range p.Hashes {
			path.Path = append(path.Path, h)
		}
		if err := path.Check(leaf, cp.Root); err != nil {
			found.add(CodeRecordPath, "the path does not lead from leaf %v, at index %d, to the root of the tree of "+
				"%d leaves: another leaf, another index, or an altered path", leaf, p.Index, cp.Size)
		}
	}
	return ReceiptReport{
		Findings: found, Index: p.Index, Checkpoint: cp,
		Remarks: []string{fmt.Sprintf("a tlog-proof says nothing of blocks: only that leaf %v is in the tree", leaf)},
	}
}

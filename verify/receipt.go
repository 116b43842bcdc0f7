package verify

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// ReceiptReport is the result of the check of a receipt or a proof. Its statements about the record hold only if
// Findings is empty.
type ReceiptReport struct {
	Findings []Finding `json:"findings"`
	// Remarks are no findings, but should be known: what was not checked, and the work in the block.
	Remarks []string `json:"remarks"`

	Index      uint64     `json:"index"` // of the leaf
	Block      uint64     `json:"block"`
	Offset     uint32     `json:"offset"`
	Leaf       chain.Leaf `json:"-"`
	Type       string     `json:"type,omitempty"`
	Key        string     `json:"key,omitempty"`
	Difficulty uint8      `json:"difficulty"`
	Payload    bool       `json:"payload"` // it was given, and fits
	Checkpoint Checkpoint `json:"checkpoint"`
}

// Good reports whether there are no findings.
func (r *ReceiptReport) Good() bool { return len(r.Findings) == 0 }

// Receipt checks a receipt of at most [MaxReceipt] bytes, alone or within the position that an append returned. It
// checks that the payload is the record's (nil to skip this), that the record's leaf is at its index in its block, the
// block with its proof of work in the tree, and that a key of trust has signed the tree.
//
// If several fields depend on each other, it finds out which of them was altered. One altered field of a good receipt
// gives a finding that names it, usually the only one. What depends on an altered header is not checked.
func Receipt(data []byte, trust Trust, payload []byte) ReceiptReport {
	r, around, err := parseReceipt(data)
	if err != nil {
		return ReceiptReport{Findings: []Finding{{Code: CodeFormat,
			Text: fmt.Sprintf("not a receipt that this program can read: %v", err)}}}
	}
	c := receiptCheck{r: &r, header: r.Header.Header()}
	c.proof = chain.SealedProof{Header: c.header, RecordPath: r.RecordPath, SealPath: r.SealPath}
	c.checkpoint(trust)
	c.seal()
	c.record()
	c.position(&around)
	c.payload(payload)
	c.report.Findings = c.found
	c.report.Index, c.report.Block, c.report.Offset = r.Index, r.Block, r.Offset
	c.report.Type, c.report.Key = r.Type, r.Key
	return c.report
}

// receiptCheck is the check of one receipt.
type receiptCheck struct {
	r      *wire.Receipt
	header chain.Header
	proof  chain.SealedProof
	found  findings
	report ReceiptReport

	size    uint64 // of the tree, and its root: the checkpoint's where that is good
	root    chain.Hash
	proven  bool       // the header is in that tree
	altered bool       // the header was altered: what depends on it cannot be checked
	leaf    chain.Leaf // the proven one, or the receipt's where none is proven
}

func (c *receiptCheck) remark(format string, args ...any) {
	c.report.Remarks = append(c.report.Remarks, fmt.Sprintf(format, args...))
}

// compare adds a finding if a value of the receipt is not the proven one. format gets the proven value first.
func compare[T comparable](c *receiptCheck, code, format string, proven, said T) {
	if said != proven {
		c.found.add(code, format, proven, said)
	}
}

// checkpoint determines the signed tree.
func (c *receiptCheck) checkpoint(trust Trust) {
	c.size, c.root = c.r.TreeSize, c.r.Root
	cp, found := trust.open([]byte(c.r.Checkpoint))
	c.found = append(c.found, found...)
	c.report.Checkpoint = cp
	if cp.Origin == "" {
		return
	}
	c.size, c.root = cp.Size, cp.Root
	compare(c, CodeOrigin, "the log of the checkpoint is %q, and the receipt says %q", cp.Origin, c.r.Origin)
	compare(c, CodeTreeSize, "the checkpoint's tree has %d leaves, and the receipt says %d", cp.Size, c.r.TreeSize)
	compare(c, CodeRoot, "the checkpoint's root is %v, and the receipt says %v", cp.Root, c.r.Root)
}

// seal compares the block's header with the tree.
func (c *receiptCheck) seal() {
	h, hash := &c.header, c.header.Hash()
	c.proof.Size = c.size
	err := c.proof.CheckSeal(c.root)
	c.proven = !errors.Is(err, chain.ErrSealPath)
	mined := chain.Mined(hash, h.Difficulty)
	switch {
	case c.proven && c.r.Header.Hash != hash:
		c.found.add(CodeBlockHash, "block %d has the hash %v, and the receipt says %v", h.Block, hash, c.r.Header.Hash)
	case !c.proven && c.r.Header.Hash != hash:
		c.altered = true
		c.found.add(CodeHeader, "a field of the block's header was altered: its hash is %v now, and should be %v; "+
			"so it is not in the tree, and what hangs on it was not judged", hash, c.r.Header.Hash)
		return
	}
	if !mined {
		c.found.add(CodeWork, "no proof of work: the block's hash %v has %d leading zero bits, and the header says %d",
			hash, chain.LeadingZeros(hash), h.Difficulty)
	}
	if !c.proven && mined {
		c.found.add(CodeSealPath, "the path does not lead from the block's seal, leaf %d, to the root of the tree "+
			"of %d leaves", h.Seal(), c.size)
	}
	if errors.Is(err, chain.ErrPrefix) {
		c.found.add(CodePrefix, "the header of block %d names the root %v, which is not that of the %d leaves "+
			"before it in the signed tree: what is shown under it is not in that tree", h.Block, h.Root, h.Seal())
	}
	compare(c, CodeSealIndex, "the block's seal is leaf %d, and the receipt says %d", h.Seal(), c.r.SealIndex)
	c.report.Difficulty = h.Difficulty
	c.remark("difficulty %d bits: the block took about %s tries. The proof of work shows no more than that; the "+
		"signature, and witnesses, show the rest", h.Difficulty, tries(h.Difficulty))
}

// tries is 2^bits in words.
func tries(bits uint8) string {
	if bits <= 20 {
		return fmt.Sprint(uint64(1) << bits)
	}
	return fmt.Sprintf("2^%d", bits)
}

// record compares the record's leaf with the block's root. The receipt has position and leaf more than once. The path
// proves the right ones, and those that differ were altered.
func (c *receiptCheck) record() {
	r, h := c.r, &c.header
	data, dataErr := chain.ParseLeaf(r.LeafData)
	fields := chain.Leaf{Project: r.ProjectID, Time: r.Time, Size: r.Size, Commit: r.Commit}
	dataHash := chain.Hash(sha256.Sum256(append([]byte{0}, r.LeafData...))) // RFC 6962
	index, leaf, shown := c.shown([]uint64{r.Index, h.First + uint64(r.Offset)},
		[]chain.Hash{dataHash, r.Leaf, fields.Hash()})
	if c.altered && !shown {
		c.leaf = fields
		return
	}
	if !c.altered {
		compare(c, CodeBlock, "the header is of block %d, and the receipt says %d", h.Block, r.Block)
	}
	if !shown {
		c.found.add(CodeRecordPath, "the path does not lead from the record's leaf, at index %d, to the root of "+
			"block %d", r.Index, h.Block)
		index, leaf = r.Index, r.Leaf
	}
	compare(c, CodeIndex, "the leaf is at index %d, and the receipt says %d", index, r.Index)
	if h.First+uint64(r.Offset) != index {
		c.found.add(CodeOffset, "the leaf stands at index %d, and offset %d of block %d is index %d", index, r.Offset,
			h.Block, h.First+uint64(r.Offset))
	}
	switch {
	case dataHash == leaf && dataErr != nil:
		c.found.add(CodeLeafData, "the leaf %v is in the tree, and is no record's: it begins with 0x%02x", leaf,
			r.LeafData[0])
	case dataHash != leaf:
		c.found.add(CodeLeafData, "the leaf has the hash %v, and the receipt's leaf_data has %v", leaf, dataHash)
	}
	compare(c, CodeLeaf, "the leaf has the hash %v, and the receipt says %v", leaf, r.Leaf)
	if c.leaf = data; dataErr != nil || dataHash != leaf {
		c.leaf = fields
	}
	c.fields()
}

// shown finds the position and the leaf in the receipt that the record's path proves.
func (c *receiptCheck) shown(indices []uint64, leaves []chain.Hash) (uint64, chain.Hash, bool) {
	for _, index := range indices {
		for _, leaf := range leaves {
			if c.proof.CheckRecord(index, leaf) == nil {
				return index, leaf, true
			}
		}
	}
	return 0, chain.Hash{}, false
}

// fields compares the receipt's statements about the record with its leaf.
func (c *receiptCheck) fields() {
	r, leaf := c.r, &c.leaf
	compare(c, CodeProject, "the record is of project %d, and the receipt says %d", leaf.Project, r.ProjectID)
	compare(c, CodeTime, "the record's time is %d, and the receipt says %d", leaf.Time, r.Time)
	compare(c, CodeSize, "the record's payload has %d bytes, and the receipt says %d", leaf.Size, r.Size)
	compare(c, CodeCommitment, "the record's commitment is %v, and the receipt says %v", leaf.Commit, r.Commit)
	if c.proven && leaf.Time > c.header.Time {
		c.found.add(CodeTime, "the record's time is %d, after %d, which is its block's", leaf.Time, c.header.Time)
	}
	c.report.Leaf = *leaf
}

// position compares the position that an append returned with the receipt in it.
func (c *receiptCheck) position(around *wire.Receipt) {
	own, other := positionFields(c.r), positionFields(around)
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if !reflect.DeepEqual(own[name], other[name]) {
			c.found.add(CodePosition, "the position around the receipt has another %s than the receipt", name)
		}
	}
}

// payload compares the payload with the leaf's commitment.
func (c *receiptCheck) payload(payload []byte) {
	if payload == nil {
		c.remark("the payload was not given: neither it nor the receipt's salt, key and type were checked")
		return
	}
	record := chain.Record{Key: c.r.Key, Type: c.r.Type, Payload: payload}
	copy(record.Salt[:], c.r.Salt)
	if err := record.Check(); err != nil {
		c.found.add(CodePayload, "this cannot be the record: %v", err)
		return
	}
	commit := record.Commit()
	switch {
	case uint64(len(payload)) != uint64(c.leaf.Size):
		c.found.add(CodePayload, "the payload has %d bytes, and the record's has %d: it is another, or was changed",
			len(payload), c.leaf.Size)
	case commit != c.leaf.Commit:
		c.found.add(CodePayload, "the payload's commitment does not fit: with the receipt's salt, key and type it "+
			"is %v, and the record's is %v; the payload was changed, or one of those three", commit, c.leaf.Commit)
	default:
		c.report.Payload = true
	}
}

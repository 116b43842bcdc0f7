package wire

import "github.com/chainstore/chainstore/chain"

// FormatReceipt is the format of every receipt.
const FormatReceipt = "chainstore-receipt/v1"

// Receipt proves offline, to anyone with a key of the log, that a record is in the log. Each part is verified from the
// next:
//
//	payload ─► commit ─► leaf data ─► leaf ─record path─► header.root ─► header
//	header ─► its seal ─seal path─► root ─► signed checkpoint
//
// The seal path also proves the tree before the header, whose root must be header.root; chain.SealedProof says why.
//
// It has everything except the payload.
type Receipt struct {
	Format     string       `json:"format"` // FormatReceipt
	Origin     string       `json:"origin"` // the log's name, the checkpoint's first line
	Index      uint64       `json:"index"`  // of the record's leaf
	Block      uint64       `json:"block"`
	Offset     uint32       `json:"offset"`
	Time       uint64       `json:"time"` // of the record, unix milliseconds
	ProjectID  uint32       `json:"project_id"`
	Size       uint32       `json:"size"` // of the payload, bytes
	Key        string       `json:"key"`
	Type       string       `json:"type"`
	Salt       []byte       `json:"salt"`        // base64
	Commit     chain.Hash   `json:"commit"`      // over salt, key, type and payload, see chain.Record.Commit
	Leaf       chain.Hash   `json:"leaf"`        // hash of the leaf
	LeafData   []byte       `json:"leaf_data"`   // base64, 49 bytes, see chain.Leaf
	Header     Block        `json:"header"`      // of the record's block
	RecordPath []chain.Hash `json:"record_path"` // of the leaf, in the tree of header.first + header.count leaves
	SealIndex  uint64       `json:"seal_index"`
	SealPath   []chain.Hash `json:"seal_path"` // of the header as a leaf, in the tree of TreeSize leaves
	TreeSize   uint64       `json:"tree_size"` // the checkpoint's
	Root       chain.Hash   `json:"root"`      // the checkpoint's
	Checkpoint string       `json:"checkpoint"`
}

// Appended answers an append: the position, and for an append that waited the record's receipt, if it came in time.
type Appended struct {
	Position
	Receipt *Receipt `json:"receipt,omitempty"`
}

// Consistency proves that the tree of To leaves extends that of From, RFC 6962 section 2.1.2. The proof is empty where
// From is 0 or To.
type Consistency struct {
	From  uint64       `json:"from"`
	To    uint64       `json:"to"`
	Proof []chain.Hash `json:"proof"`
}

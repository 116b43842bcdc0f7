package wire

import "github.com/chainstore/chainstore/chain"

// FormatReceipt stands in every receipt, and names what it is.
const FormatReceipt = "chainstore-receipt/v1"

// Receipt proves offline that a record is in the log, to anyone with a key of the log:
//
//	payload ─► commit ─► leaf data ─► leaf ─record path─► header.root ─► header ─► its seal
//	its seal ─seal path─► root ─► signed checkpoint
//
// The seal path shows the tree before the header as well, whose root header.root must be: chain.SealedProof says why.
//
// It contains everything but the payload.
type Receipt struct {
	Format    string     `json:"format"` // FormatReceipt
	Origin    string     `json:"origin"` // the log's name, the checkpoint's first line
	Index     uint64     `json:"index"`  // of the record's leaf
	Block     uint64     `json:"block"`
	Offset    uint32     `json:"offset"`
	Time      uint64     `json:"time"` // of the record, unix milliseconds
	ProjectID uint32     `json:"project_id"`
	Size      uint32     `json:"size"` // of the payload, bytes
	Key       string     `json:"key"`
	Type      string     `json:"type"`
	Salt      []byte     `json:"salt"`      // base64
	Commit    chain.Hash `json:"commit"`    // over salt, key, type and payload, see chain.Record.Commit
	Leaf      chain.Hash `json:"leaf"`      // hash of the leaf
	LeafData  []byte     `json:"leaf_data"` // base64, 49 bytes, see chain.Leaf
	Header    Block      `json:"header"`    // of the record's block
	// of the leaf in the tree of header.first + header.count leaves, whose root is header.root
	RecordPath []chain.Hash `json:"record_path"`
	SealIndex  uint64       `json:"seal_index"`
	// of the header, as a leaf, in the tree of TreeSize leaves with that Root
	SealPath   []chain.Hash `json:"seal_path"`
	TreeSize   uint64       `json:"tree_size"` // the checkpoint's
	Root       chain.Hash   `json:"root"`      // the checkpoint's
	Checkpoint string       `json:"checkpoint"`
}

// Appended is what an append answers: the position, and where it waited the record's receipt, if that came about in
// time.
type Appended struct {
	Position
	Receipt *Receipt `json:"receipt,omitempty"`
}

// Consistency proves that the tree of To leaves goes on from that of From, RFC 6962 section 2.1.2. The proof is empty
// where From is 0 or To.
type Consistency struct {
	From  uint64       `json:"from"`
	To    uint64       `json:"to"`
	Proof []chain.Hash `json:"proof"`
}

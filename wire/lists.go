package wire

import "github.com/chainstore/chainstore/chain"

// RecordQuery asks a storage node's index of records. The answer is a hint: the caller proves it.
type RecordQuery struct {
	Project uint32 `json:"project"`
	Key     string `json:"key,omitempty"` // "" for all records of the project
	From    uint64 `json:"from"`          // leaf index
	To      uint64 `json:"to"`            // leaf index after the last
	Since   uint64 `json:"since,omitempty"`
	Until   uint64 `json:"until,omitempty"` // unix milliseconds, 0 for no bound: Since ≤ time < Until
	Limit   int    `json:"limit"`           // 1 to MaxHits
}

// MaxHits is the limit of hits in one answer of an index.
const MaxHits = 1000

// RecordHits answers a [RecordQuery] and a search for a hash.
type RecordHits struct {
	Hits []Hit `json:"hits"` // leaf indices ascend
	// End is the leaf index before which the answer has all hits: To for a complete answer, less where the limit was
	// reached or the node's index ends earlier.
	End uint64 `json:"end"`
}

// Hit is a leaf of the tree: a record, or, where Offset is the block's number of records, its seal.
type Hit struct {
	Index  uint64 `json:"index"`
	Block  uint64 `json:"block"`
	Offset uint32 `json:"offset"`
}

// MaxPage is the limit of records in a page of a list, DefaultPage the limit where the request names none. PageBytes
// of payloads end a page too.
const (
	MaxPage     = 1000
	DefaultPage = 50
	PageBytes   = 4 << 20
)

// Records is a page of a list.
type Records struct {
	Records []Record `json:"records"`
	// Next is the cursor of the next page, "" at the end. A page may be short, or empty, and still have a next one.
	Next string `json:"next,omitempty"`
}

// BlockRecord is a record of a block. A record that the token may not read is Hidden, and only its place is shown.
type BlockRecord struct {
	*Record
	Block  uint64 `json:"block"`
	Offset uint32 `json:"offset"`
	Index  uint64 `json:"index"`
	Hidden bool   `json:"hidden,omitempty"`
}

// BlockRecords is a page of a block's records.
type BlockRecords struct {
	Records []BlockRecord `json:"records"`
	Next    *uint32       `json:"next,omitempty"` // offset at which the next page begins, nil at the block's end
}

// Kinds of a FoundHash.
const (
	KindBlock  = "block"  // a block's hash, or the leaf hash of its seal
	KindRecord = "record" // a record's leaf hash
)

// FoundHash is the block or record of a hash. Only a record has Offset and Index.
type FoundHash struct {
	Kind   string  `json:"kind"`
	Block  uint64  `json:"block"`
	Offset *uint32 `json:"offset,omitempty"`
	Index  *uint64 `json:"index,omitempty"`
}

// Proof proves that a record is at its place in a tree whose root is Root:
//
//	leaf data ─► leaf ─record path─► header.root ─► header ─► its seal, leaf seal_index ─seal path─► root
type Proof struct {
	Index      uint64       `json:"index"` // of the record's leaf
	Block      uint64       `json:"block"`
	Offset     uint32       `json:"offset"`
	Leaf       chain.Hash   `json:"leaf"`
	LeafData   []byte       `json:"leaf_data"`   // base64, 49 bytes, see chain.Leaf
	Header     Block        `json:"header"`      // of the record's block
	RecordPath []chain.Hash `json:"record_path"` // in the tree of header.first + header.count leaves
	SealIndex  uint64       `json:"seal_index"`
	SealPath   []chain.Hash `json:"seal_path"` // in the tree of Size leaves
	Size       uint64       `json:"size"`      // at a block boundary that the masters committed
	Root       chain.Hash   `json:"root"`
	// Checkpoint is the signed note of that size and root, "" while no checkpoint covers the block.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// EventRecord is the name of the events of a stream that are records.
const EventRecord = "record"

// HeaderLastEventID is the header that resumes a stream after a record.
const HeaderLastEventID = "Last-Event-ID"

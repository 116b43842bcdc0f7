package verify

import "fmt"

// Codes of findings. They are stable; the texts may change.
const (
	CodeFormat = "format" // the file is malformed: nothing else can be checked

	// Of receipts and proofs.
	CodeSignature   = "signature"     // a signature in the name of a known key is not that key's
	CodeUnknownKey  = "unknown-key"   // no key that was named has signed the checkpoint
	CodeCheckpoint  = "checkpoint"    // the checkpoint is no signed note, or no checkpoint
	CodeWitnesses   = "witnesses"     // fewer witnesses than required have signed
	CodeCosignature = "cosignature"   // a witness's signature is not that witness's
	CodeOrigin      = "origin"        // the checkpoint and the key are of different logs
	CodeTreeSize    = "tree-size"     // a receipt's tree size is not its checkpoint's
	CodeRoot        = "root"          // a root is not the expected one
	CodeHeader      = "header"        // a block header, of a receipt or beside lost leaves, is not that of the tree
	CodeBlockHash   = "block-hash"    // a receipt's block hash is not its header's
	CodeWork        = "proof-of-work" // a block's hash has too few leading zero bits
	CodeSealIndex   = "seal-index"    // a receipt's seal index does not follow from its header
	CodeSealPath    = "seal-path"     // the block's header is not shown to be in the tree
	CodePrefix      = "prefix"        // the header's root is not that of the leaves before it in the signed tree
	CodeRecordPath  = "record-path"   // the record's leaf is not shown to be in its block
	CodeIndex       = "index"         // a receipt's leaf index is not where the leaf is
	CodeBlock       = "block"         // a receipt's block is not its header's
	CodeOffset      = "offset"        // a receipt's offset is not where the leaf is
	CodeLeafData    = "leaf-data"     // a receipt's leaf data is not the leaf that is proven, or no record's
	CodeLeaf        = "leaf"          // a receipt's leaf hash is not the leaf's
	CodeProject     = "project"       // a receipt's project is not the leaf's
	CodeTime        = "time"          // a receipt's time is not the leaf's, or times run backwards
	CodeSize        = "size"          // a receipt's payload size is not the leaf's
	CodeCommitment  = "commitment"    // a receipt's commitment is not the leaf's
	CodePayload     = "payload"       // the payload, with salt, key and type, does not have the leaf's commitment
	CodePosition    = "position"      // the position around a receipt is not the receipt's

	// Of logs and files.
	CodeRollback = "rollback"     // the log shows a checkpoint that is older than one it has shown
	CodeFork     = "fork"         // the log has signed two trees, and neither is a prefix of the other
	CodeBoundary = "boundary"     // a checkpoint's size is not the end of a block
	CodeEntry    = "entry"        // bytes that are neither a record's leaf nor a seal
	CodeTile     = "tile"         // hashes that do not fit the checkpoint's root
	CodeNumber   = "block-number" // a block's number is not the expected one
	CodeLink     = "link"         // a block does not name the block before it
	CodeFirst    = "first-index"  // a block does not begin where the one before it ends
	CodeCount    = "record-count" // a block has not as many records as its header says
	CodeVersion  = "version"      // a newer ChainStore wrote it
	CodeEnd      = "end"          // an export does not end as it should
	CodeUnsigned = "unsigned"     // blocks that no checkpoint covers which a named key has signed
)

// Finding is one mismatch.
type Finding struct {
	Code string `json:"code"`
	Text string `json:"text"`
	// Evidence are signed checkpoints that prove the finding to others. Keep them.
	Evidence []string `json:"evidence,omitempty"`
}

// String returns code and text.
func (f Finding) String() string { return f.Code + ": " + f.Text }

// findings collects mismatches.
type findings []Finding

func (f *findings) add(code, format string, args ...any) {
	*f = append(*f, Finding{Code: code, Text: fmt.Sprintf(format, args...)})
}

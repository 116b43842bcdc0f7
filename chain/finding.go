package chain

// What a check finds wrong with a block.
const (
	// the bytes around the block: its length, its checksum, the file's header; or it cannot be parsed
	WrongFrame = "frame"
	// a record does not fit its leaf: payload, salt, key, type, time or project was changed
	WrongPayload = "payload"
	// the records do not hash to the header's root, and it cannot be said which of them is wrong
	WrongRoot    = "root"
	WrongLink    = "link"          // number, prev, first leaf, count or time do not follow from the block before
	WrongWork    = "proof-of-work" // the block's hash has too few leading zero bits
	WrongMissing = "missing"       // the block is not there
	WrongShort   = "short-chain"   // the chain ends before the target; the block is the first that is missing
	WrongFile    = "file"          // something else stood in the place of a file or folder of the node
	WrongChain   = "other-chain"   // the chain is consistent and another one; the block is the first that differs
)

// Finding is one thing that a check found wrong.
type Finding struct {
	Block  uint64 `json:"block"`
	What   string `json:"what"`   // one of the Wrong… constants
	Detail string `json:"detail"` // for people: the file, the offset, the record
}

// MaxFindings bounds the findings of one check, and its ranges: a check with more names the first findings, and joins
// ranges that are near to each other.
const MaxFindings = 64

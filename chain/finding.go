package chain

// Kinds of findings of a check.
const (
	// the bytes around the block: its length, its checksum, the file's header; or it cannot be parsed
	WrongFrame = "frame"
	// a record does not match its leaf: payload, salt, key, type, time or project was changed
	WrongPayload = "payload"
	// the records do not hash to the header's root, and the wrong one cannot be determined
	WrongRoot    = "root"
	WrongLink    = "link"          // number, prev, first leaf, count or time do not follow from the block before
	WrongWork    = "proof-of-work" // the block's hash has too few leading zero bits
	WrongMissing = "missing"       // the block is not there
	WrongShort   = "short-chain"   // the chain ends before the target; the block is the first that is missing
	WrongFile    = "file"          // something else was in the place of a file or folder of the node
	WrongChain   = "other-chain"   // the chain is consistent and another one; the block is the first that differs
)

// MaxFindings bounds the findings of one check, and its ranges. A check with more lists the first findings and joins
// neighbouring ranges.
const MaxFindings = 64

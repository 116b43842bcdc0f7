package wire

import "github.com/chainstore/chainstore/chain"

// CheckOrder has a storage node check its chain up to a target, or asks how that goes: an order with the name of the
// check that runs, or that ran last, starts nothing.
type CheckOrder struct {
	Check  string        `json:"check"`
	Height uint64        `json:"height"` // blocks to check: the height that the node has acknowledged
	Hash   chain.Hash    `json:"hash"`   // of the last of them, zero where there is none
	Rate   int64         `json:"rate"`   // bytes of segments a second, 0 for as fast as it goes
	Lost   []chain.Range `json:"lost"`   // blocks that a person confirmed as lost: that they are missing is no finding
}

// CheckStatus answers a CheckOrder.
type CheckStatus struct {
	Check  string  `json:"check"`
	Blocks uint64  `json:"blocks"` // looked at
	Bytes  uint64  `json:"bytes"`  // of segments that were read
	Total  uint64  `json:"total"`  // of segments that there are to read
	Millis uint64  `json:"millis"` // since the start, until the end
	Report *Report `json:"report"` // nil while it runs, and where it ended early without having found a bad block
	// Error is why the check ended before it had looked at everything, "" while it runs and where it finished. Older
	// storage nodes do not send it: their report has an Unchecked of 0 when the check looked at no block.
	Error string `json:"error,omitempty"`
}

// Report is what a check found.
type Report struct {
	Findings []chain.Finding `json:"findings"` // the first, at most chain.MaxFindings
	// all blocks that are damaged or missing below the target, ascending, at most chain.MaxFindings
	Bad []chain.Range `json:"bad"`
	// Unchecked is the first block that could not be looked at, because a bad block before it hides the tree; the
	// target's height where all were. What is behind it is checked when the blocks before it are repaired.
	Unchecked uint64 `json:"unchecked"`
	// Other: the chain is consistent up to the target and its last hash is not the target's: another chain. Which block
	// differs first is for the leader to find.
	Other bool `json:"other"`
	// Tiles is how many hashes of the tree were wrong on disk and were written again from the blocks.
	Tiles uint64 `json:"tiles"`
}

// Piece is a range of blocks for a repair, with the hash of the last one. The headers are proven backwards from that
// hash.
type Piece struct {
	chain.Range
	Hash chain.Hash `json:"hash"`
}

// MaxPiece is how many blocks a piece may have: their headers are held in memory while it is received.
const MaxPiece = 4096

// ReceiveOrder opens a storage node for a repair under a ticket, or asks how that goes: an order with the ticket that
// is open, or that was closed last because nothing was missing any more, starts nothing.
type ReceiveOrder struct {
	Ticket string `json:"ticket"`
	// Keep is where the node's chain stops being the group's: its blocks from there on are moved aside. At least its
	// height where there are none.
	Keep   uint64  `json:"keep"`
	Pieces []Piece `json:"pieces"` // ascending, no two overlap
}

// ReceiveStatus answers a ReceiveOrder.
type ReceiveStatus struct {
	StorageStatus
	Missing []chain.Range `json:"missing"` // of the pieces: not received yet
	Blocks  uint64        `json:"blocks"`  // received under this ticket
	Bytes   uint64        `json:"bytes"`
	// Changed describes for people which bytes of the replaced blocks differed, where that is known.
	Changed []string `json:"changed"`
}

// SendOrder has a storage node send blocks to another one, or asks how that goes: an order with ticket and attempt of
// the transfer that runs, or that ran last, starts nothing.
type SendOrder struct {
	Ticket  string  `json:"ticket"`
	Attempt uint64  `json:"attempt"`
	To      string  `json:"to"` // URL of the receiver
	Pieces  []Piece `json:"pieces"`
}

// SendStatus answers a SendOrder.
type SendStatus struct {
	Running bool   `json:"running"`
	Blocks  uint64 `json:"blocks"`
	Bytes   uint64 `json:"bytes"`
	// Error is why the transfer ended early, "" if it did not. Faulty reports that the sender caused it: it cannot read
	// a block, or sent one that the receiver refused.
	Error  string `json:"error"`
	Faulty bool   `json:"faulty"`
}

// Suspicion is a master's report to the leader of a storage node that answered wrong.
type Suspicion struct {
	ID    string `json:"id"`
	Cause string `json:"cause"` // the detail of a [CodeWrongAnswer]
}

// Kinds of events in the integrity log.
const (
	EventFinding   = "finding"   // a node was found damaged, short, or on another chain
	EventRepair    = "repair"    // a node got blocks from another, or gave up trying
	EventTiles     = "tiles"     // a node's hashes of the tree were wrong and were written again
	EventLost      = "lost"      // blocks of which no node has a good copy
	EventFound     = "found"     // blocks that were lost are there again
	EventConfirmed = "confirmed" // a person confirmed that blocks are lost
	EventSuspect   = "suspect"   // a node answered wrong, stopped uncleanly, or a person asked for a check
	EventRemoved   = "removed"   // a node was removed
)

// Event is one entry of the integrity log.
type Event struct {
	Number   uint64          `json:"number"` // counts all events of the cluster
	Time     uint64          `json:"time"`   // unix milliseconds
	Kind     string          `json:"kind"`
	Node     string          `json:"node,omitempty"`   // its id
	URL      string          `json:"url,omitempty"`    // its address
	Source   string          `json:"source,omitempty"` // repair: the id of the node that sent
	Cause    string          `json:"cause,omitempty"`  // in English
	Findings []chain.Finding `json:"findings,omitempty"`
	Ranges   []chain.Range   `json:"ranges,omitempty"` // the blocks that it is about
	Blocks   uint64          `json:"blocks,omitempty"` // how many
	Bytes    uint64          `json:"bytes,omitempty"`
	Millis   uint64          `json:"millis,omitempty"` // how long it took

	CauseCoded Message `json:"cause_coded,omitzero"`
}

// NodeIntegrity is the condition of a storage node.
type NodeIntegrity struct {
	ID      string        `json:"id"`
	URL     string        `json:"url"`
	State   string        `json:"state"`
	Live    bool          `json:"live"`
	Height  uint64        `json:"height"`
	Cause   string        `json:"cause,omitempty"`   // of the state, in English
	Bad     []chain.Range `json:"bad"`               // known to be damaged or missing
	Due     string        `json:"due,omitempty"`     // why a check is due at once, in English
	Checked uint64        `json:"checked,omitempty"` // when the last check ended, unix milliseconds; 0 for never
	Task    *Task         `json:"task,omitempty"`    // what is under way
	// Aborted is the last check if it ended early. It is nil if that check finished, or the leader has not seen it.
	Aborted *Aborted `json:"aborted,omitempty"`

	CauseCoded Message `json:"cause_coded,omitzero"`
	DueCoded   Message `json:"due_coded,omitzero"`
}

// Aborted is a check that ended before it had looked at everything. The check stays due and is tried again. The leader
// keeps this in memory: a new leader starts with a Count of 0.
type Aborted struct {
	Error  string `json:"error"`  // why, for people
	Blocks uint64 `json:"blocks"` // looked at
	Height uint64 `json:"height"` // of the target
	Time   uint64 `json:"time"`   // when the leader heard of it, unix milliseconds
	Count  int    `json:"count"`  // of such checks in a row
}

// Task is a check or a repair that is under way, as far as the leader knows.
type Task struct {
	Kind   string `json:"kind"` // "check", "receive" or "send"
	Peer   string `json:"peer,omitempty"`
	Blocks uint64 `json:"blocks"` // done
	Height uint64 `json:"height"` // of the target
	Bytes  uint64 `json:"bytes"`  // done
	Total  uint64 `json:"total"`  // bytes in all, 0 where that is not known
	Millis uint64 `json:"millis"` // since its start
}

// Totals count since the cluster's founding.
type Totals struct {
	Checks         uint64 `json:"checks"`          // that ended
	CheckedBytes   uint64 `json:"checked_bytes"`   // of segments, read and hashed
	BadBlocks      uint64 `json:"bad_blocks"`      // found
	BadTiles       uint64 `json:"bad_tiles"`       // hashes of the tree that were written again
	Repairs        uint64 `json:"repairs"`         // that ended good
	FailedRepairs  uint64 `json:"failed_repairs"`  // that ended early
	RepairedBlocks uint64 `json:"repaired_blocks"` // that were sent from node to node
	RepairedBytes  uint64 `json:"repaired_bytes"`
}

// Integrity answers GET /v1/cluster/integrity.
type Integrity struct {
	Nodes     []NodeIntegrity `json:"nodes"`
	Lost      []chain.Range   `json:"lost"`      // blocks of which no node has a good copy
	Confirmed []chain.Range   `json:"confirmed"` // those that a person confirmed
	Totals    Totals          `json:"totals"`
	Events    []Event         `json:"events"` // the newest first

	Authoritative bool      `json:"authoritative"` // as of a [Cluster]
	Notices       []string  `json:"notices"`
	NoticesCoded  []Message `json:"notices_coded"`
}

// LostBlock is the body of POST /v1/cluster/integrity/confirm-lost.
type LostBlock struct {
	Block *uint64 `json:"block"`
}

package wire

import "github.com/chainstore/chainstore/chain"

// CheckOrder orders a storage node to check its chain up to a target. An order with the name of the running check, or
// of the last one, starts nothing and asks for its progress.
type CheckOrder struct {
	Check  string        `json:"check"`
	Height uint64        `json:"height"` // blocks to check: the height that the node has acknowledged
	Hash   chain.Hash    `json:"hash"`   // of the last of them, zero where there is none
	Rate   int64         `json:"rate"`   // bytes of segments a second, 0 for as fast as it goes
	Lost   []chain.Range `json:"lost"`   // blocks that a person confirmed as lost: their absence is no finding
	// Unread: the leader knows CheckStatus.Unread. For an older leader, a block that the system cannot read is bad.
	Unread bool `json:"unread,omitempty"`
	// UnreadAll: the leader expects CheckStatus.Unread also if no block can be read. Older leaders would take all
	// blocks for damaged, even if there is no other copy. Leaders send it from protocol level 3 on.
	UnreadAll bool `json:"unread_all,omitempty"`
}

// CheckStatus answers a CheckOrder.
type CheckStatus struct {
	Check  string  `json:"check"`
	Blocks uint64  `json:"blocks"` // checked so far
	Bytes  uint64  `json:"bytes"`  // of segments, read so far
	Total  uint64  `json:"total"`  // of segments, to read
	Millis uint64  `json:"millis"` // since the start, until the end
	Report *Report `json:"report"` // nil while it runs, and where it ended early without having found a bad block
	// Error is why the check ended early, "" while it runs and where it finished. Older storage nodes do not send it:
	// their report has an Unchecked of 0 when the check read no block.
	Error string `json:"error,omitempty"`
	// Unread are the blocks that the node cannot open or read because of errors of its files or disk, as a report of
	// their own; nil for none. It is not known whether they are good. Error is not "" then. A lack of descriptors or
	// memory is only an Error. Nodes send it if they can read no block at all only with CheckOrder.UnreadAll.
	Unread *Report `json:"unread,omitempty"`
	// DeviceReads: each read of the unread blocks fails, and the device can read another file. So the fault is of their
	// sectors: a device that is gone reads nothing.
	DeviceReads bool `json:"device_reads,omitempty"`
}

// Report is what a check found.
type Report struct {
	Findings []Finding `json:"findings"` // the first, at most chain.MaxFindings
	// Bad are all blocks below the target that are damaged or missing, ascending, at most chain.MaxFindings ranges.
	Bad []chain.Range `json:"bad"`
	// Unchecked is the first block that could not be checked, because the tree before it is not known; the target's
	// height where all were checked. The blocks from it on are checked when the blocks before it are repaired.
	Unchecked uint64 `json:"unchecked"`
	// Other: the chain is consistent up to the target, and its last hash is not the target's, so it is another chain.
	// The leader finds the first block that differs.
	Other bool `json:"other"`
	// Tiles is how many hashes of the tree were wrong on disk and were written again from the blocks.
	Tiles uint64 `json:"tiles"`
	// Complete: the check ended, and has looked at all that Unchecked does not exclude. Without it an empty report says
	// nothing. Storage nodes send it from protocol level 3 on.
	Complete bool `json:"complete,omitempty"`
}

// Finding is one thing that a check found wrong.
type Finding struct {
	Block       uint64  `json:"block"`
	What        string  `json:"what"`                  // one of the Wrong… constants of package chain
	Detail      string  `json:"detail"`                // in English: the file, the offset, the record
	DetailCoded Message `json:"detail_coded,omitzero"` // the same; storage nodes before protocol level 2 send none
}

// NewFinding returns a finding with a detail in both forms.
func NewFinding(block uint64, what string, detail Message) Finding {
	return Finding{Block: block, What: what, Detail: detail.Text(), DetailCoded: detail}
}

// Piece is a range of blocks for a repair, and the hash of the last of them, which proves their headers backwards.
type Piece struct {
	chain.Range
	Hash chain.Hash `json:"hash"`
}

// MaxPiece is the limit of blocks in a piece: their headers are kept in memory while it is received.
const MaxPiece = 4096

// ReceiveOrder opens a storage node for a repair under a ticket. An order with the open ticket, or with the last one
// that was closed because nothing was missing, starts nothing and asks for its progress.
type ReceiveOrder struct {
	Ticket string `json:"ticket"`
	// Keep is the first block that is not on the group's chain: blocks from there on are moved aside. It is at least
	// the node's height where there are none.
	Keep   uint64  `json:"keep"`
	Pieces []Piece `json:"pieces"` // ascending, no two overlap
}

// ReceiveStatus answers a ReceiveOrder.
type ReceiveStatus struct {
	StorageStatus
	Missing []chain.Range `json:"missing"` // of the pieces: not received yet
	Blocks  uint64        `json:"blocks"`  // received under this ticket
	Bytes   uint64        `json:"bytes"`
	// Changed describes for people the damage of the replaced blocks, as far as it is known: which bytes differed.
	Changed []string `json:"changed"`
	// Lost are blocks of segments that were written again which the node could not read from the old file and is not to
	// receive: the check before did not find them. At most chain.MaxFindings ranges.
	Lost []chain.Range `json:"lost,omitempty"`
	// Complete: nothing is missing. Without it an empty Missing says nothing. Storage nodes send it from protocol level
	// 3 on.
	Complete bool `json:"complete,omitempty"`
}

// SendOrder orders a storage node to send blocks to another one. An order with ticket and attempt of the running
// transfer, or of the last one, starts nothing and asks for its progress.
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
	// Error is why the transfer ended early, "" where it did not. Faulty: the cause is the sender, which has a block
	// that it cannot read, or sent one that the receiver refused.
	Error  string `json:"error"`
	Faulty bool   `json:"faulty"`
}

// Suspicion is a master's report to the leader of a storage node that answered wrong.
type Suspicion struct {
	ID    string `json:"id"`
	Cause string `json:"cause"` // the detail of a [CodeWrongAnswer]
}

// Kinds of events of a cluster's integrity log.
const (
	EventFinding   = "finding"   // a node was found damaged, short, or on another chain
	EventRepair    = "repair"    // a node got blocks from another, or gave up trying
	EventTiles     = "tiles"     // a node's hashes of the tree were wrong and were written again
	EventLost      = "lost"      // blocks of which no node has a good copy
	EventFound     = "found"     // lost blocks that a node has again
	EventConfirmed = "confirmed" // a person confirmed that blocks are lost
	EventSuspect   = "suspect"   // a node answered wrong, stopped uncleanly, or a person asked for a check
	EventRemoved   = "removed"   // a node was removed
	EventTime      = "time"      // a person set the time of the group
	EventSetting   = "setting"   // a person changed a setting of the group
)

// Event is one entry of the integrity log.
type Event struct {
	Number   uint64        `json:"number"` // counts all events of the cluster
	Time     uint64        `json:"time"`   // unix milliseconds
	Kind     string        `json:"kind"`
	Node     string        `json:"node,omitempty"`   // its id
	URL      string        `json:"url,omitempty"`    // its address
	Source   string        `json:"source,omitempty"` // repair: the id of the node that sent
	Cause    string        `json:"cause,omitempty"`  // in English
	Findings []Finding     `json:"findings,omitempty"`
	Ranges   []chain.Range `json:"ranges,omitempty"` // the blocks concerned
	Blocks   uint64        `json:"blocks,omitempty"` // how many
	Bytes    uint64        `json:"bytes,omitempty"`
	Millis   uint64        `json:"millis,omitempty"` // how long it took

	CauseCoded Message `json:"cause_coded,omitzero"`
}

// NodeIntegrity is the state of a storage node.
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
	Task    *Task         `json:"task,omitempty"`    // the running one
	// Aborted is the last check if it ended early; nil where it finished, or the leader has not seen it.
	Aborted *Aborted `json:"aborted,omitempty"`

	CauseCoded Message `json:"cause_coded,omitzero"`
	DueCoded   Message `json:"due_coded,omitzero"`
}

// Aborted is a check that ended early. The check stays due and is tried again. The leader keeps this in memory: a new
// leader starts with a Count of 0.
type Aborted struct {
	Error  string `json:"error"`  // why, for people
	Blocks uint64 `json:"blocks"` // checked
	Height uint64 `json:"height"` // of the target
	Time   uint64 `json:"time"`   // when the leader learned of it, unix milliseconds
	Count  int    `json:"count"`  // of such checks in a row
}

// Kinds of a [Task].
const (
	TaskCheck   = "check"   // the node reads its whole chain
	TaskReceive = "receive" // the node is repaired
	TaskSend    = "send"    // the node sends blocks to one that is repaired
)

// Task is a running check or repair, as far as the leader knows.
type Task struct {
	Kind   string `json:"kind"` // one of TaskCheck, TaskReceive, TaskSend
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
	Repairs        uint64 `json:"repairs"`         // that succeeded
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

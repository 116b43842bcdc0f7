package wire

import (
	"encoding/hex"
	"strconv"

	"github.com/chainstore/chainstore/chain"
)

// States of a position.
const (
	StateCommitted = "committed" // on a majority of the masters
	StateStored    = "stored"    // on as many storage nodes as the setting replicas asks for
)

// Position is the place of a record. It never changes.
type Position struct {
	Block  uint64     `json:"block"`
	Offset uint32     `json:"offset"`
	Index  uint64     `json:"index"` // leaf index in the tree
	Time   uint64     `json:"time"`  // unix milliseconds
	Leaf   chain.Hash `json:"leaf"`  // leaf hash
	State  string     `json:"state"`
}

// Record is a record in its envelope.
type Record struct {
	Position
	Project   string     `json:"project"`
	ProjectID uint32     `json:"project_id"`
	Key       string     `json:"key"`
	Type      string     `json:"type"`
	Size      uint32     `json:"size"` // of the payload, bytes
	Salt      []byte     `json:"salt"` // base64
	Commit    chain.Hash `json:"commit"`
	Payload   []byte     `json:"payload"` // base64
}

// Positions answers a batch.
type Positions struct {
	Records []Position `json:"records"`
}

// BatchLine is one line of an NDJSON batch: Payload or Text, not both.
type BatchLine struct {
	Payload *[]byte `json:"payload,omitempty"` // base64
	Text    *string `json:"text,omitempty"`
	Key     string  `json:"key,omitempty"`
	Type    string  `json:"type,omitempty"`
}

// StreamKind says who has chosen the id of an append stream.
type StreamKind string

// The kinds of append streams.
const (
	StreamNamed   StreamKind = "named"   // a client
	StreamUnnamed StreamKind = "unnamed" // a master
)

// AppendStream says where an append stream continues.
type AppendStream struct {
	Stream string `json:"stream"` // its id
	Next   uint64 `json:"next"`   // the number that its next record gets
	Oldest uint64 `json:"oldest"` // records from this number on get their first positions when they are sent again
	Window uint64 `json:"window"` // how many records those are at most
}

// ListedStream is an append stream in a list.
type ListedStream struct {
	Stream    string     `json:"stream"` // its id
	Kind      StreamKind `json:"kind"`
	Last      uint64     `json:"last"`       // number of its newest record, 0 if it has none
	IdleSince uint64     `json:"idle_since"` // time of its last use, in unix milliseconds
}

// AppendStreams is a page of the append streams of a project, in the order of their ids.
type AppendStreams struct {
	Streams []ListedStream `json:"streams"`
	Next    string         `json:"next,omitempty"` // cursor of the next page, "" at the end
}

// StreamAnswer is a line of the answer to an append stream. Each line but the last is the position of a record. The
// last one has End, and Problem unless all records of the request were appended.
type StreamAnswer struct {
	Number uint64 `json:"number"` // of the record in the stream; on the last line, of the last record with a position
	*Position
	End     bool     `json:"end,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
}

// Block is a block's header with its hash.
type Block struct {
	Version    uint8      `json:"version"`
	Block      uint64     `json:"block"`
	First      uint64     `json:"first"`
	Count      uint32     `json:"count"`
	Prev       chain.Hash `json:"prev"`
	Root       chain.Hash `json:"root"`
	Time       uint64     `json:"time"`
	Difficulty uint8      `json:"difficulty"`
	Nonce      uint64     `json:"nonce,string"`
	Hash       chain.Hash `json:"hash"`
}

// NewBlock gives a header the form that it has on the wire.
func NewBlock(h chain.Header) Block {
	return Block{
		Version: h.Version, Block: h.Block, First: h.First, Count: h.Count, Prev: h.Prev, Root: h.Root,
		Time: h.Time, Difficulty: h.Difficulty, Nonce: h.Nonce, Hash: h.Hash(),
	}
}

// Header is the header of b. It ignores b.Hash.
func (b Block) Header() chain.Header {
	return chain.Header{
		Version: b.Version, Block: b.Block, First: b.First, Count: b.Count, Prev: b.Prev, Root: b.Root,
		Time: b.Time, Difficulty: b.Difficulty, Nonce: b.Nonce,
	}
}

// Blocks is a page of blocks, the newest first.
type Blocks struct {
	Blocks []Block `json:"blocks"`
	Next   string  `json:"next,omitempty"` // cursor of the next page, "" at the end
}

// Cluster is the status table as a master shows it.
type Cluster struct {
	Group    string    `json:"group"`
	Epoch    uint64    `json:"epoch"`
	Level    uint64    `json:"level"`  // protocol level of the group: it rises once all masters know the next
	Leader   string    `json:"leader"` // a master's id, "" where none is known
	Term     uint64    `json:"term"`
	Head     Head      `json:"head"`
	Records  uint64    `json:"records"` // appended since the founding, seals not counted
	Stored   uint64    `json:"stored"`  // blocks that replicas nodes have on disk
	Replicas uint8     `json:"replicas"`
	Masters  []Master  `json:"masters"`
	Storages []Storage `json:"storages"`
	Miners   []Miner   `json:"miners"`
	Buffer   Amount    `json:"buffer"`
	Cut      Amount    `json:"cut"` // limits at which the buffer is cut into a block
	Pending  Pending   `json:"pending"`
	Keys     Keys      `json:"keys"`
	// Settings are those of the group. Masters before protocol level 3 do not send them.
	Settings Settings `json:"settings,omitzero"`
	// Checkpoint has the sizes of the stored and the published tree.
	Checkpoint Checkpoints `json:"checkpoint"`
	// TLS is the step of the move from plain text to TLS, "" for a group that was never moved.
	TLS TLSStep `json:"tls,omitempty"`
	// Witnesses are those that the leader asks for cosignatures; empty where there are none, or the leader cannot be
	// reached.
	Witnesses []Witness `json:"witnesses,omitempty"`
	// Waiting are the workers that wait for the approval of an administrator, by id. Only administrators see them.
	Waiting []WaitingWorker `json:"waiting,omitempty"`
	// Authoritative reports whether the leader answered, and a majority of the masters confirmed it after the request
	// arrived. Otherwise the answer is what one master knows. Masters before protocol level 2 do not send it.
	Authoritative bool `json:"authoritative"`
	// Notices are for operators, in English; NoticesCoded are the same for programs. Masters before protocol level 2
	// send no codes.
	Notices      []string  `json:"notices"`
	NoticesCoded []Message `json:"notices_coded"`
}

// WaitingWorker is a worker that has registered, and that waits for the approval of an administrator. It is part of
// nothing until it is approved and has registered again.
type WaitingWorker struct {
	ID       string `json:"id"`
	Role     string `json:"role"` // "storage" or "miner"
	URL      string `json:"url"`
	Since    uint64 `json:"since"`    // when it registered first, unix milliseconds
	Approved bool   `json:"approved"` // it was approved, and has not registered again yet
}

// Head is the head of the mined chain.
type Head struct {
	Height uint64     `json:"height"`
	Hash   chain.Hash `json:"hash"`
	Size   uint64     `json:"size"`
	Root   chain.Hash `json:"root"`
}

// Master is a member of the master group.
type Master struct {
	ID    string `json:"id"`
	URL   string `json:"url"`   // "" while it is not known
	Raft  string `json:"raft"`  // host:port
	State string `json:"state"` // "leader", "follower", "unreachable" or "unknown"
	Voter bool   `json:"voter"` // false for one that has joined and is still catching up
	// Disk is what the leader knows of the disk of the master's data folder; left out where it does not.
	Disk Disk `json:"disk,omitzero"`
	// Certificate is what the leader knows of the master's certificate; left out where it does not, and without TLS.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Secrets are those that the master uses, as far as the leader knows.
	Secrets []SecretUse `json:"secrets,omitempty"`
	// TLS is what the master said about the step of TLS when the leader asked it last; left out where it did not.
	TLS *TLSUse `json:"tls,omitempty"`
	// AtRest is what the leader knows of the encryption of the master's data folder; left out where it does not, and
	// for a master without at-rest keys.
	AtRest *AtRest `json:"at_rest,omitempty"`
}

// SetTime asks to move the time of the group forward.
type SetTime struct {
	Time  uint64 `json:"time"`            // unix milliseconds
	Force bool   `json:"force,omitempty"` // also by more than a day
}

// TimeSet answers it.
type TimeSet struct {
	Time uint64 `json:"time"` // unix milliseconds
	Was  uint64 `json:"was"`  // the time of the group before
}

// Settings are the limits that all masters of a group share.
type Settings struct {
	MaxRecords      uint32 `json:"max_records"`       // records in a block before it is cut
	MaxBytes        uint32 `json:"max_bytes"`         // bytes of records in a block before it is cut
	MaxPendingBytes uint64 `json:"max_pending_bytes"` // unstored bytes before appends are refused
	RetainBytes     uint64 `json:"retain_bytes"`      // stored bytes kept for storage nodes that are behind
	Difficulty      uint8  `json:"difficulty"`        // leading zero bits of a block's hash
	Replicas        uint8  `json:"replicas"`          // storage nodes that must have a block before the masters drop it
	MaxKeys         uint32 `json:"max_keys"`          // idempotency keys remembered
	KeyAge          uint64 `json:"key_age"`           // milliseconds that they are remembered for
	WitnessQuorum   uint8  `json:"witness_quorum"`    // witnesses that a checkpoint needs before it is published
	// ApproveWorkers makes new workers wait for the approval of an administrator. It is false below protocol level 7.
	ApproveWorkers bool `json:"approve_workers,omitempty"`
}

// SettingsChange changes the settings that are not nil.
type SettingsChange struct {
	MaxRecords      *uint32 `json:"max_records,omitempty"`
	MaxBytes        *uint32 `json:"max_bytes,omitempty"`
	MaxPendingBytes *uint64 `json:"max_pending_bytes,omitempty"`
	RetainBytes     *uint64 `json:"retain_bytes,omitempty"`
	Difficulty      *uint8  `json:"difficulty,omitempty"`
	Replicas        *uint8  `json:"replicas,omitempty"`
	MaxKeys         *uint32 `json:"max_keys,omitempty"`
	KeyAge          *uint64 `json:"key_age,omitempty"`
	WitnessQuorum   *uint8  `json:"witness_quorum,omitempty"`
	ApproveWorkers  *bool   `json:"approve_workers,omitempty"` // from protocol level 7 on
}

// Transfer asks for another leader.
type Transfer struct {
	To string `json:"to,omitempty"` // a master's id or URL; "" for the one that has most of the log
}

// Transferred answers it.
type Transferred struct {
	Leader string `json:"leader"` // the id of the master that leads now
}

// Storage is a storage node.
type Storage struct {
	ID     string `json:"id"`
	URL    string `json:"url"`
	State  string `json:"state"` // "valid", "validating", "invalid", "sending" or "receiving"
	Height uint64 `json:"height"`
	Live   bool   `json:"live"`
	Level  uint64 `json:"level"`           // announced protocol level; 0 while the group is below level 2
	Cause  string `json:"cause,omitempty"` // of the state, in English
	Since  uint64 `json:"since"`           // when the state began
	Disk   Disk   `json:"disk,omitzero"`   // as of a master

	Certificate *Certificate `json:"certificate,omitempty"` // as of a master
	Secrets     []SecretUse  `json:"secrets,omitempty"`     // as of a master
	TLS         *TLSUse      `json:"tls,omitempty"`         // as of a master

	CauseCoded Message `json:"cause_coded,omitzero"`
}

// Miner is a miner node.
type Miner struct {
	ID    string `json:"id"`
	URL   string `json:"url"`
	Live  bool   `json:"live"`
	Level uint64 `json:"level"` // as of a storage node

	Certificate *Certificate `json:"certificate,omitempty"` // as of a master
	Secrets     []SecretUse  `json:"secrets,omitempty"`     // as of a master
	TLS         *TLSUse      `json:"tls,omitempty"`         // as of a master
}

// Amount is a number of records and their bytes.
type Amount struct {
	Records int `json:"records"`
	Bytes   int `json:"bytes"`
}

// Pending is what is cut and not yet stored.
type Pending struct {
	Blocks int    `json:"blocks"`
	Bytes  uint64 `json:"bytes"` // all unstored bytes, the buffer's among them
}

// Keys is how far back a retry is recognised now.
type Keys struct {
	Remembered int     `json:"remembered"`
	Seconds    float64 `json:"seconds"`
}

// AppendJSON adds the position to dst as encoding/json writes it, without reflection: appends answer with very many
// positions.
func (p *Position) AppendJSON(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, `{"block":`...), p.Block, 10)
	dst = strconv.AppendUint(append(dst, `,"offset":`...), uint64(p.Offset), 10)
	dst = strconv.AppendUint(append(dst, `,"index":`...), p.Index, 10)
	dst = strconv.AppendUint(append(dst, `,"time":`...), p.Time, 10)
	dst = hex.AppendEncode(append(dst, `,"leaf":"`...), p.Leaf[:])
	dst = append(append(dst, `","state":"`...), p.State...)
	return append(dst, `"}`...)
}

package wire

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
)

// Member is the identity of a master.
type Member struct {
	ID      string `json:"id"`
	URL     string `json:"url"`
	Raft    string `json:"raft"`    // host:port
	Group   string `json:"group"`   // the cluster's id, "" for a master that is new
	Epoch   uint64 `json:"epoch"`   // of the group: raised by a recovery by hand; 0 for a new master
	Applied uint64 `json:"applied"` // index of the newest log entry in its state
	// Signs is what commit b74b8ae announces instead of a level: it knows the commands of the log's keys. It is sent
	// for leaders of that commit, and read only of members of level 0. Older masters refuse a member with this field
	// or the next one, so both are only in answers.
	Signs bool `json:"signs,omitempty"`
	// Level is the highest protocol level that the master's program knows: see masterfsm.RaiseLevel.
	Level uint64 `json:"level,omitempty"`
	// Time is the master's wall clock when it answers, unix milliseconds, at least 1. It is 0 below protocol level 3,
	// and in announcements.
	Time uint64 `json:"time,omitempty"`
	// Disk is the space of the master's data folder when it answers. It is zero in announcements, and in the answers of
	// masters that do not know it.
	Disk Disk `json:"disk,omitzero"`
	// Certificate is the master's, under the same rule; nil without TLS.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Secrets are those that the master uses, under the same rule.
	Secrets []SecretUse `json:"secrets,omitempty"`
	// AtRest is the encryption of the master's data folder, under the same rule; nil without at-rest keys.
	AtRest *AtRest `json:"at_rest,omitempty"`
	// Flags are the master's. They are zero in announcements, and in the answers of masters that do not know them.
	Flags AccessFlags `json:"flags,omitzero"`
	// Key is the master's public key in hex, under the same rule: an announcement has it in its proof.
	Key string `json:"key,omitempty"`
	// TLS is nil in announcements, and in the answers of masters that do not know the steps.
	TLS *TLSUse `json:"tls,omitempty"`
	// Founder is the URL of the master that is to found the group, by the list of peers of a new master that answers;
	// "" otherwise, and in answers of versions up to 0.1.0.
	Founder string `json:"founder,omitempty"`
	// Proof is in announcements to a group of protocol level 7 on, which older masters refuse, and in the answers of
	// its masters. There it has no ticket.
	Proof *JoinProof `json:"proof,omitempty"`
}

// AccessFlags are the flags of a master that decide what its clients may do. All masters of a group need the same.
type AccessFlags struct {
	Known            bool `json:"known"` // the master says which it has
	PrivateLog       bool `json:"private_log"`
	OpenRegistration bool `json:"open_registration"`
	OriginalAPI      bool `json:"original_api"`
}

// KnowsLogKeys reports whether the master's program knows the commands of the log's keys.
func (m Member) KnowsLogKeys() bool { return m.Level > 0 || m.Signs }

// Adoption makes a new master part of a group.
type Adoption struct {
	Group string `json:"group"`
	Epoch uint64 `json:"epoch"`
	// Member is the master that is addressed: a master that was wiped since then refuses.
	Member string `json:"member"`
	// Level is the group's protocol level, 0 if it is not known.
	Level uint64 `json:"level,omitempty"`
	// Founding are the members that the group was founded with, empty unless its founder asks.
	Founding []Member `json:"founding,omitempty"`
}

// Announced answers a master's announcement with the group that it is part of.
type Announced struct {
	Group string `json:"group"`
	Epoch uint64 `json:"epoch"`
	Level uint64 `json:"level,omitempty"` // the group's protocol level from 3 on, else 0
}

// StateHash is the hash of a master's state. Two masters have equal hashes at equal indices.
type StateHash struct {
	Applied uint64     `json:"applied"` // index of the newest log entry in the state
	Hash    chain.Hash `json:"hash"`    // SHA-256 of its snapshot
}

// ChainStatus is what a storage node has, for a recovery of the masters.
type ChainStatus struct {
	ID     string     `json:"id"`
	Group  string     `json:"group"`
	Epoch  uint64     `json:"epoch"` // the highest of an order
	Height uint64     `json:"height"`
	Hash   chain.Hash `json:"hash"` // of the last block

	// LedEpoch is the epoch of the newest leader whose order was accepted. Epoch is higher after a recovery raised it.
	// LedEpoch is nil where the node does not know it, as after a recovery under a version that did not keep it.
	LedEpoch *uint64 `json:"led_epoch,omitempty"`
	// QuietMillis is the time since the last order of a leader, accepted or refused, or since a leader answered the
	// node's registration. Where neither happened since the node's start, it is the time since the start, and Ordered
	// is false. It is nil in the answer of an older node.
	QuietMillis *uint64 `json:"quiet_ms,omitempty"`
	Ordered     bool    `json:"ordered,omitempty"`
	// TLS is the step of the move to TLS that the node knows; "" also where it does not know the steps.
	TLS TLSStep `json:"tls,omitempty"`
}

// RecoveryQuiet is how long a storage node must have had no order of a leader before the masters may be recovered from
// it. A live group gives an order each second, and elects a leader in less than this.
//
//mutant:recovery-quiet
const RecoveryQuiet = time.Minute

// MaxEpochAhead is how far above its own epoch a storage node accepts a new one: each recovery raises it by one.
const MaxEpochAhead = 1000

// NewEpoch orders a storage node to refuse the leaders of all lower epochs, before the masters are recovered under
// this one. It may be repeated.
type NewEpoch struct {
	Group string `json:"group"`
	Epoch uint64 `json:"epoch"`
	Claim string `json:"claim"` // names the recovery: two that choose the same epoch do not both get it
	// Keep is set once all nodes have the epoch, for a node whose blocks from that number on are not the group's: the
	// node moves them to its quarantine.
	Keep *uint64 `json:"keep,omitempty"`
}

// ReadIndex is the leader's commit index, confirmed by a majority.
type ReadIndex struct {
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
}

// Registration is a worker's request to register.
type Registration struct {
	Role        string `json:"role"`                   // "storage" or "miner"
	ID          string `json:"id,omitempty"`           // "" the first time
	AccessToken string `json:"access_token,omitempty"` // which it got with its id
	URL         string `json:"url"`
	MasterToken string `json:"master_token"` // with which masters authenticate to it
	Boot        string `json:"boot"`         // the name of this start of the worker; each start is judged again
	// Previous is the start of this worker that the masters have, as far as it knows. Lists: it keeps a list of its
	// starts. Masters before protocol level 1 do not know either.
	Previous string `json:"previous,omitempty"`
	Lists    bool   `json:"lists,omitempty"`
	// Level is the highest protocol level that the worker's program knows, 0 for a program before level 2.
	Level   uint64     `json:"level,omitempty"`
	Height  uint64     `json:"height"`
	Hash    chain.Hash `json:"hash"`
	Unclean bool       `json:"unclean,omitempty"` // storage nodes: the run before this start was not shut down
	// Kernel is the boot id of the worker's kernel. AfterFailedSync: an operator lets the worker start although a sync
	// of its data folder failed under that kernel. Masters before protocol level 3 do not know either.
	Kernel          string `json:"kernel,omitempty"`
	AfterFailedSync bool   `json:"after_failed_sync,omitempty"`
	// Group is the worker's group, "" if it is new. Seen is the newest order that it has accepted, in the form of the
	// header. Workers before protocol level 3 send neither.
	Group string `json:"group,omitempty"`
	Seen  string `json:"seen,omitempty"`
}

// FailedSync reports that a sync of a node's data folder failed. The node does not start again before its machine was
// restarted, because the kernel may show data that is not on the disk.
type FailedSync struct {
	ID     string `json:"id"`     // of the master, storage node or miner
	Kernel string `json:"kernel"` // boot id of the kernel, "" if it is not known
	Detail string `json:"detail"` // what failed
	// Over is set by a master that was started since then: its machine was restarted, or an operator overrode the
	// refusal.
	Over bool `json:"over,omitempty"`
	// Group is the group of the node, "" if the node does not know it.
	Group string `json:"group,omitempty"`
	// AccessToken is that of a worker, which proves that the report is its own. Masters below protocol level 7 refuse
	// the field. "" for a master.
	AccessToken string `json:"access_token,omitempty"`
}

// Registered answers a registration.
type Registered struct {
	ID          string `json:"id"`
	AccessToken string `json:"access_token"`
	Group       string `json:"group"`
	// Order is that of the leader that registered the worker, in the form of the header: from then on the worker
	// accepts no order of an older leader. Masters before protocol level 1 send none.
	Order string `json:"order,omitempty"`
	// Level is the group's protocol level, from level 6 on.
	Level uint64 `json:"level,omitempty"`
	// Waiting: the worker is part of nothing until an administrator approves it, and there is no order. Workers of
	// versions before protocol level 7 do not know it.
	Waiting bool `json:"waiting,omitempty"`
	// TLS is the step of the move to TLS, from level 7 on.
	TLS TLSState `json:"tls,omitzero"`
}

// OtherStart is the answer to a registration that is refused because the masters have another start of the worker.
type OtherStart struct {
	Problem
	Start string `json:"start"`
}

// Removed is the answer to the announcement of a master that the group has removed: see [RemovedError].
type Removed struct {
	Problem
	Master    string `json:"master,omitempty"`
	Epoch     uint64 `json:"epoch,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// StorageStatus is what a storage node has.
type StorageStatus struct {
	ID     string     `json:"id"`
	Height uint64     `json:"height"` // blocks on disk, from 0 on without a gap
	Hash   chain.Hash `json:"hash"`   // of the last of them
	Size   uint64     `json:"size"`   // of the tree
	// Inbox is the range of blocks beyond the chain's end that wait in the inbox, without a gap up to the last; zero
	// for none.
	Inbox chain.Range `json:"inbox"`
	// Disk is zero in the answers of nodes that do not know it.
	Disk Disk `json:"disk,omitzero"`
	// Certificate is nil in the answers of nodes that do not know it, and without TLS.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Secrets is nil in the answers of nodes that do not know it.
	Secrets *[]SecretUse `json:"secrets,omitempty"`
	// TLS is nil in the answers of nodes that do not know the steps.
	TLS *TLSUse `json:"tls,omitempty"`
}

// Disk is the space of the file system under a data folder.
type Disk struct {
	Free  uint64    `json:"free"`  // bytes that the process may still use
	Total uint64    `json:"total"` // bytes
	State DiskState `json:"state"`
}

// AtRest says what of a node's data folder is encrypted at rest.
type AtRest struct {
	Key   string `json:"key"`   // the id of the operator's key that encrypts, 16 hexadecimal digits
	Plain uint64 `json:"plain"` // segments of the log and snapshots in clear
	Old   uint64 `json:"old"`   // files that need another key of the operator
}

// IsFull reports whether the node takes no records or blocks.
func (d Disk) IsFull() bool { return d.State == DiskFull }

// DiskState is what a node does because of the free space. Newer versions may add states.
type DiskState string

// The states of a disk.
const (
	DiskOK   DiskState = "ok"
	DiskLow  DiskState = "low"  // less than --warn-free: it works, and warns
	DiskFull DiskState = "full" // less than --min-free: it takes no records or blocks
)

// MinerStatus is what a miner does.
type MinerStatus struct {
	ID      string `json:"id"`
	Threads int    `json:"threads"`
	Mining  bool   `json:"mining"`
	// Certificate and Secrets are as of a storage node.
	Certificate *Certificate `json:"certificate,omitempty"`
	Secrets     []SecretUse  `json:"secrets,omitempty"`
	// TLS is nil in the answers of nodes that do not know the steps.
	TLS *TLSUse `json:"tls,omitempty"`
}

// Certificate is what a node says of its certificate and of those that it sees.
type Certificate struct {
	Identity string `json:"identity"` // spiffe://DOMAIN/ROLE/NAME
	Serial   string `json:"serial"`   // hexadecimal
	// UserSerial is that of the certificate which users see, where it is another one.
	UserSerial string `json:"user_serial,omitempty"`
	// NotAfter is when the first of these ends, in unix milliseconds: the certificate of the node, that of its
	// authority, and that for users.
	NotAfter uint64 `json:"not_after"`
	// Error is why the files, as they are now, are not used. "" if they are; else those before them are still in use.
	Error string `json:"error,omitempty"`
	// Graces are other nodes whose certificates are out of their time, by the clock of this node; at most MaxGraces.
	Graces []Grace `json:"graces,omitempty"`
	// Authorities are the SHA-256 fingerprints of the authorities that the node trusts, in hexadecimal; at most
	// MaxAuthorities, and none from a node of an older version.
	Authorities []string `json:"authorities,omitempty"`
}

// MaxGraces is how many nodes Certificate lists, and MaxAuthorities how many authorities.
const (
	MaxGraces      = 16
	MaxAuthorities = 16
)

// Grace is a node that is accepted although its certificate, or that of its authority, is out of its time.
type Grace struct {
	Identity  string `json:"identity"`
	Serial    string `json:"serial"`     // of the certificate that it shows
	NotBefore uint64 `json:"not_before"` // unix milliseconds, of the certificate that is out of its time
	NotAfter  uint64 `json:"not_after"`
	Left      uint64 `json:"left"` // seconds for which it is still accepted; 0 for one that is refused
}

// The names of the secrets of a cluster. Each may be the cluster token.
const (
	SecretMasters  = "masters"  // calls between masters, and raft
	SecretStorage  = "storage"  // of masters and storage nodes
	SecretMiner    = "miner"    // of masters and miners
	SecretRecovery = "recovery" // of a recovery of the masters, and of storage nodes
	SecretSeal     = "seal"     // under which the masters seal the private keys of the log
)

// SecretUse says which values of a secret a node has. Values are named by fingerprints: 8 hexadecimal digits, or "weak"
// for a value that is too weak to show one.
type SecretUse struct {
	Secret  string `json:"secret"`           // a name above
	Shared  bool   `json:"shared,omitempty"` // it is the cluster token
	Fixed   bool   `json:"fixed,omitempty"`  // it is not read from a file, so it cannot change while the node runs
	Current string `json:"current"`          // which the node proves
	// Next and Old are also accepted; "" for none.
	Next string `json:"next,omitempty"`
	Old  string `json:"old,omitempty"`
	// Error is why the file, as it is now, is not used. "" if it is; else the values before it still are.
	Error string `json:"error,omitempty"`
}

// Accepts reports whether the node accepts the value with a fingerprint.
func (u SecretUse) Accepts(fingerprint string) bool {
	return fingerprint != "" && (u.Current == fingerprint || u.Next == fingerprint || u.Old == fingerprint)
}

// UsesOld reports whether the node proves a value that another node has as its old one. all are the uses of all nodes.
func (u SecretUse) UsesOld(all []SecretUse) bool {
	return slices.ContainsFunc(all, func(o SecretUse) bool {
		return o.Secret == u.Secret && o.Old != "" && o.Old == u.Current
	})
}

// MaxSecretUses is how many secrets a node reports at most.
const MaxSecretUses = 8

// MineOrder asks for a nonce: the first from Start on, wrapping at 2^64, that mines a block of that inner hash.
type MineOrder struct {
	Block      uint64     `json:"block"`
	Inner      chain.Hash `json:"inner"`
	Difficulty uint8      `json:"difficulty"`
	Start      uint64     `json:"start,string"`
}

// Found is the nonce.
type Found struct {
	Nonce uint64 `json:"nonce,string"`
}

// Located is the block that a leaf belongs to.
type Located struct {
	Block uint64 `json:"block"`
}

// Worker is the address of a worker for a master.
type Worker struct {
	URL   string
	Token string // the worker's master token
	Miner bool   // it is a miner
	// Older: the worker's program is before protocol level 6, and gets its master token with each call while the group
	// is below that level.
	Older bool
}

// String is the worker's URL, so that its token is in no log.
func (w Worker) String() string { return w.URL }

// GoString is the worker's URL, so that its token is in no log.
func (w Worker) GoString() string { return w.URL }

// Order is the (group epoch, term) of the leader that gives an order to a worker, in [HeaderFence].
type Order struct {
	Epoch, Term uint64
}

// Less reports whether o is of an older leader than p.
func (o Order) Less(p Order) bool {
	return o.Epoch < p.Epoch || o.Epoch == p.Epoch && o.Term < p.Term
}

// String is the form of the header: "<epoch>.<term>", both decimal.
func (o Order) String() string { return fmt.Sprintf("%d.%d", o.Epoch, o.Term) }

// ParseOrder reads the form of the header. The error wraps [ErrMalformed].
func ParseOrder(s string) (Order, error) {
	epoch, term, ok := strings.Cut(s, ".")
	e, err1 := strconv.ParseUint(epoch, 10, 64)
	t, err2 := strconv.ParseUint(term, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Order{}, fmt.Errorf("%w: %q is not an order; write it <epoch>.<term>", ErrMalformed, s)
	}
	return Order{Epoch: e, Term: t}, nil
}

// Caller is what a master that calls its leader knows of it, in [HeaderCaller]: its group, the group's epoch, and the
// term that the newest leader in the caller's state has begun. In a leader's order to a worker, from protocol level 3
// on, it is the leader's group and the order.
type Caller struct {
	Group string
	Order
}

// String is the form of the header: "<epoch>.<term> <group>", the group escaped as in a query.
func (c Caller) String() string { return c.Order.String() + " " + url.QueryEscape(c.Group) }

// ParseCaller reads the form of the header. The error wraps [ErrMalformed].
func ParseCaller(s string) (Caller, error) {
	order, escaped, ok := strings.Cut(s, " ")
	group, err := url.QueryUnescape(escaped)
	if !ok || err != nil || group == "" {
		return Caller{}, fmt.Errorf("%w: %q does not name a caller; write it <epoch>.<term> <group>", ErrMalformed, s)
	}
	o, err := ParseOrder(order)
	return Caller{Group: group, Order: o}, err
}

// NotNext is the answer to [ErrNotNext]: it has the node's status, from which the leader continues.
type NotNext struct {
	Problem
	StorageStatus
}

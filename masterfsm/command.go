package masterfsm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fields"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// A command in the raft log (big endian):
//
//	crc u32 ‖ kind u8 ‖ body
//
// crc is CRC-32C of kind and body. The body of an Append is binary (see [EncodeAppend]), that of the others JSON: they
// are few and small.
const commandHead = 4 + 1

type kind uint8

const (
	kindAppend           kind = 2
	kindStreamAppend     kind = 30  // an append with parts of streams, from protocol level 4 on
	kindAct              kind = 38  // another command with who caused it, from protocol level 7 on: see EncodeAct
	kindSubmission       kind = 128 // never in the log by itself, as the next one
	kindStreamSubmission kind = 129
)

// commands lists the commands by kind, other than appends, 2 and 30, and acts, 38. A number is never used again. Each
// command has an entry in acts or in noActs.
var commands = [...]Command{
	1:  &BeginTerm{},
	3:  &Cut{},
	4:  &Mined{},
	5:  &Acknowledge{},
	6:  &Register{},
	7:  &Invalidate{},
	8:  &CreateProject{},
	9:  &Suspect{},
	10: &BeginCheck{},
	11: &EndCheck{},
	12: &BeginRepair{},
	13: &EndRepair{},
	14: &ConfirmLost{},
	15: &RemoveStorage{},
	16: &AdmitMaster{},
	17: &RemoveMaster{},
	18: &ChangeProject{},
	19: &CreateToken{},
	20: &RevokeToken{},
	21: &AddLogKey{},
	22: &RetireLogKey{},
	23: &Cosign{},
	24: &RaiseLevel{},
	25: &SetTime{},
	26: &ChangeSettings{},
	27: &MarkMiners{},
	28: &RemoveMiner{},
	29: &ReportFailedSync{},
	31: &RemoveStream{},
	32: &CreateAdmin{},
	33: &RevokeAdmin{},
	34: &ExpireAdmins{},
	35: &OpenStream{},
	39: &NoteAct{},
	40: &EndIntent{},
	41: &CreateTicket{},
	42: &RevokeTicket{},
	43: &DecideWorker{},
	47: &CloseProject{},
	48: &CloseLog{},
	49: &SetTLS{},
}

// firstLevels has the protocol level from which on commands are known, besides those that every version knows. A master
// of an older version stops when it has to apply one that it does not know.
var firstLevels = map[kind]uint64{
	25: LevelElapsed, 26: LevelSettings, 27: LevelMiners, 28: LevelMiners, 29: LevelFailedSyncs, 31: LevelStreams,
	32: LevelAdmins, 33: LevelAdmins, 34: LevelAdmins, 35: LevelStreamIDs,
	39: LevelAudit, 40: LevelAudit,
	41: LevelJoining, 42: LevelJoining, 43: LevelApprovals,
	47: LevelClosing, 48: LevelClosing, 49: LevelTLSSteps,
}

// FirstLevel returns the protocol level that a group must have before a command is proposed.
func FirstLevel(c Command) uint64 { return firstLevels[kindOf(c)] }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Command is a change of the state, other than an append.
type Command interface {
	apply(*State) (any, error)
}

// BeginTerm is the first act of a leader: barrier, fence and address in one.
type BeginTerm struct {
	Term   uint64 `json:"term"`
	Member string `json:"member"` // the leader's member id
	URL    string `json:"url"`    // the leader's HTTP address
	Time   uint64 `json:"time"`   // unix milliseconds
	Group  string `json:"group"`  // the cluster's id, taken by the first BeginTerm of all
	// Settings are those of the leader's flags. They become those of the group below protocol level 3 only.
	Settings Settings `json:"settings"`
	// Age is State.Age as the leader has counted it since it was last committed; from protocol level 3 on.
	Age uint64 `json:"age,omitempty"`
}

// Cut closes the open buffer because its oldest record waits too long. It is refused with [ErrStale] when block Block
// is no longer the open one.
type Cut struct {
	Block uint64 `json:"block"`
	Time  uint64 `json:"time"`
}

// Mined sets the nonce of the block that waits for one.
type Mined struct {
	Block uint64 `json:"block"`
	Nonce uint64 `json:"nonce"`
	Time  uint64 `json:"time"`
}

// Acknowledge records up to which height storage nodes have everything on disk.
type Acknowledge struct {
	Nodes []NodeHeight `json:"nodes"`
	Time  uint64       `json:"time"`
}

// NodeHeight is the height that one storage node has acknowledged. It is ignored if the table has a newer version of
// the node.
type NodeHeight struct {
	ID      string `json:"id"`
	Version uint64 `json:"version"`
	Height  uint64 `json:"height"`
}

// Register enters a worker, or a known worker's new address and tokens. A worker of another id at the same address is
// replaced: it lost its identity. A new worker waits for approval where workers need it: see [State.MustWait]. The
// result is a *[WaitingWorker] then.
//
// From protocol level 1 on it is refused with an [*wire.OtherStartError] where the table has another start of the
// worker than Boot and Previous: then another process has registered with a copy of the worker's data folder, or the
// folder is an older copy. A worker that keeps no list of its starts is an older program; once one has registered that
// does, an older one is refused.
type Register struct {
	Role        Role       `json:"role"`
	ID          string     `json:"id"`
	URL         string     `json:"url"`
	MasterToken string     `json:"master_token"` // what masters show to the worker
	AccessHash  chain.Hash `json:"access_hash"`  // SHA-256 of what the worker shows to masters
	Boot        string     `json:"boot"`         // another text at each start of the worker
	// Previous is the start that the table has, where the worker's folder shows that it was one of its own. Known from
	// protocol level 1 on, as Lists is.
	Previous string `json:"previous,omitempty"`
	Lists    bool   `json:"lists,omitempty"` // the worker keeps a list of its starts
	// the highest protocol level that the worker's program knows; from level 2 on
	Level   uint64     `json:"level,omitempty"`
	Height  uint64     `json:"height"`  // storage nodes: blocks on disk
	Hash    chain.Hash `json:"hash"`    // storage nodes: of the last of them
	Unclean bool       `json:"unclean"` // storage nodes: the start before this one did not end cleanly
	Time    uint64     `json:"time"`
	// Kernel is the boot id of the worker's kernel, and AfterFailedSync an operator's override: see [FailedSync]. Known
	// from protocol level 3 on.
	Kernel          string `json:"kernel,omitempty"`
	AfterFailedSync bool   `json:"after_failed_sync,omitempty"`
}

// Invalidate makes a storage node Invalid that was seen to be short or on another chain. It is refused with [ErrStale]
// when Version is not the table's.
type Invalidate struct {
	ID      string `json:"id"`
	Version uint64 `json:"version"`
	Cause   Cause  `json:"cause"`
	Time    uint64 `json:"time"`
}

// EncodeFor is Encode of a command that all members of a group at a protocol level can read: below level 7 a leader's
// settings have no approval of workers, and the removal of a master does not say whether it was forced; below level 3
// there is no age, result or findings of a repair, and below level 2 causes are sentences.
func EncodeFor(level uint64, c Command) []byte {
	if original, ok := c.(*BeginTerm); ok && level < LevelApprovals {
		old := *original
		old.Settings.ApproveWorkers, c = false, &old
	}
	if original, ok := c.(*RemoveMaster); ok && level < LevelAudit {
		old := *original
		old.Force, c = false, &old
	}
	if level < LevelElapsed {
		switch original := c.(type) {
		case *BeginTerm:
			old := *original
			old.Age, c = 0, &old
		case *EndCheck:
			old := *original
			old.Age, old.Result, c = 0, "", &old
		case *EndRepair:
			old := *original
			old.Findings, c = nil, &old
		}
	}
	text := func(c Cause) Cause { return TextCause(c.Text()) }
	if level >= LevelCodes {
		return Encode(c)
	}
	switch original := c.(type) {
	case *Invalidate:
		old := *original
		old.Cause, c = text(old.Cause), &old
	case *Suspect:
		old := *original
		old.Cause, c = text(old.Cause), &old
	case *EndCheck:
		old := *original
		old.Findings = slices.Clone(old.Findings)
		for i := range old.Findings {
			old.Findings[i].Detail = text(old.Findings[i].Detail)
		}
		old.Aborted, c = text(old.Aborted), &old
	case *EndRepair:
		old := *original
		old.Failed, old.Changed, c = text(old.Failed), text(old.Changed), &old
	}
	return Encode(c)
}

// Encode gives the command the form that it has in the log.
func Encode(c Command) []byte {
	body, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("masterfsm: %T cannot be encoded: %v", c, err)) // fixed types of plain fields: cannot happen
	}
	data := make([]byte, commandHead, commandHead+len(body))
	data[4] = byte(kindOf(c))
	data = append(data, body...)
	binary.BigEndian.PutUint32(data, crc32.Checksum(data[4:], castagnoli))
	return data
}

func kindOf(c Command) kind {
	return kind(slices.IndexFunc(commands[:], func(o Command) bool { return reflect.TypeOf(o) == reflect.TypeOf(c) }))
}

// checkCommand verifies the checksum and returns kind and body.
func checkCommand(data []byte) (kind, []byte, error) {
	if len(data) < commandHead {
		return 0, nil, fmt.Errorf("%w: %d bytes are too few", ErrCommand, len(data))
	}
	if want, got := binary.BigEndian.Uint32(data), crc32.Checksum(data[4:], castagnoli); want != got {
		return 0, nil, fmt.Errorf("%w: checksum %08x, the bytes have %08x", ErrCommand, want, got)
	}
	return kind(data[4]), data[commandHead:], nil
}

// decode makes a command other than an append from kind and body.
func decode(k kind, body []byte) (Command, error) {
	if int(k) >= len(commands) || commands[k] == nil {
		return nil, fmt.Errorf("%w: unknown kind %d: a newer ChainStore wrote it", ErrCommand, k)
	}
	c := reflect.New(reflect.TypeOf(commands[k]).Elem()).Interface().(Command)
	if err := unmarshalStrictly(body, c); err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrCommand, k, err)
	}
	return c, nil
}

// unmarshalStrictly reads one JSON value. It refuses a field that this program does not know: another master acts upon
// it.
func unmarshalStrictly(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

// actVersion is the version of acts in the log.
const actVersion = 1

// EncodeAct wraps an encoded command with who caused it and where from, and the salt of its record:
//
//	crc u32 ‖ kind u8 = 38 ‖ version u8 = 1 ‖ salt[16] ‖ actor ‖ source ‖ kind u8 and body of the command
//
// Actor and source have the form of the record's: see [trail.Record.AppendTo].
func EncodeAct(o trail.Origin, salt [chain.SaltSize]byte, command []byte) []byte {
	data := append(make([]byte, 4, commandHead+1+chain.SaltSize+64+len(command)), byte(kindAct), actVersion)
	data = append(data, salt[:]...)
	data = o.Source.AppendTo(o.Actor.AppendTo(data))
	data = append(data, command[commandHead-1:]...)
	binary.BigEndian.PutUint32(data, crc32.Checksum(data[4:], castagnoli))
	return data
}

// EncodeBy is [EncodeFor] of a command with an origin, in the form that the level needs.
func EncodeBy(level uint64, o trail.Origin, salt [chain.SaltSize]byte, c Command) []byte {
	data := EncodeFor(level, c)
	if NeedsOrigin(level, c) {
		data = EncodeAct(o, salt, data)
	}
	return data
}

// Raises returns the level to which an encoded command raises that of the group, 0 for any other command.
func Raises(command []byte) uint64 {
	k, body, err := checkCommand(command)
	if err != nil {
		return 0
	}
	var c Command
	if k == kindAct {
		a, err := parseAct(body)
		if err != nil {
			return 0
		}
		c = a.command
	} else if k != kindAppend && k != kindStreamAppend {
		c, _ = decode(k, body)
	}
	if raise, ok := c.(*RaiseLevel); ok {
		return raise.Level
	}
	return 0
}

// originated is a command with its origin.
type originated struct {
	trail.Origin
	salt    [chain.SaltSize]byte
	kind    kind
	command Command
}

func parseAct(body []byte) (a originated, err error) {
	r := fields.New(body)
	if v := r.Uint8(); v != actVersion {
		return a, fmt.Errorf("%w: version %d of an act, this program knows %d: a newer ChainStore wrote it", ErrCommand,
			v, actVersion)
	}
	a.salt = [chain.SaltSize]byte(r.Fixed(chain.SaltSize))
	a.Actor, a.Source = trail.ParseActor(r), trail.ParseSource(r)
	a.kind = kind(r.Uint8())
	if r.Failed() {
		return a, fmt.Errorf("%w: an act is cut short", ErrCommand)
	}
	a.command, err = decode(a.kind, r.Rest())
	return a, err
}

// Why a command was refused, beside the refusals that are rows of wire's table. A refusal is the same on every master
// and changes nothing.
var (
	// ErrCommand: the bytes are no command of this version. It must stop a master: a master that skips an entry which
	// another one understands would have another state.
	ErrCommand = errors.New("log entry cannot be applied")
	// ErrStale: the command refers to an older version of the state than the table has, or to one that is past.
	ErrStale = errors.New("command is out of date")
	// ErrNameReused: a submission of that name (member, boot, sequence number) was applied before, and had other
	// content or was applied at protocol level 0. Nothing was appended under the name now. It wraps ErrStale.
	ErrNameReused = fmt.Errorf("%w: the name of a submission was used before", ErrStale)
	// ErrUnrecorded: the command is an act, and has no origin. Its master read the protocol level before it rose. It
	// wraps ErrStale.
	ErrUnrecorded = fmt.Errorf("%w: from protocol level %d on it needs an origin for the audit trail", ErrStale,
		LevelAudit)
	// ErrNonce: the nonce does not mine the block that waits.
	ErrNonce = errors.New("nonce does not mine the block")
	// ErrBadCommand: a field of the command is over its limit.
	ErrBadCommand = wire.ErrBadRequest.Variant("command not acceptable")
	// ErrOversize: a record over the project's quota, or more in one piece than the quota gives in a second.
	ErrOversize = wire.ErrTooLarge.Variant("larger than the project's quota takes in one piece")
	// ErrUnknownProject: the project is not in the table.
	ErrUnknownProject = wire.ErrNotFound.Variant("unknown project")
	// ErrUnknownToken: the project has no token of that id.
	ErrUnknownToken = wire.ErrNotFound.Variant("unknown token id")
	// ErrUnknownAdmin: there is no named admin token of that id.
	ErrUnknownAdmin = wire.ErrNotFound.Variant("unknown admin token id")
	// ErrOlderStart: an announcement of a master is older than the one that the table has: a replay, or of a process
	// with a copy of the master's data folder.
	ErrOlderStart = wire.ErrBadRequest.Variant("announcement is out of date")
	// ErrUnknownTicket: there is no join ticket of that id.
	ErrUnknownTicket = wire.ErrNotFound.Variant("unknown join ticket id")
	// ErrUnknownNode: no worker of that id is registered.
	ErrUnknownNode = wire.ErrNotFound.Variant("unknown node")
	// ErrUnknownLogKey: the log has no key of that id.
	ErrUnknownLogKey = wire.ErrNotFound.Variant("unknown log key")
	// ErrMasterRemoved: the master was removed from the group.
	ErrMasterRemoved = wire.ErrRemoved.Variant("the master was removed from the group")
)

package masterfsm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// EventKind is the kind of an entry of the integrity log.
type EventKind string

// The kinds of events.
const (
	EventFinding   EventKind = "finding"   // a node was found damaged, short, or on another chain
	EventRepair    EventKind = "repair"    // a node got blocks from another, or gave up trying
	EventTiles     EventKind = "tiles"     // a node's hashes of the tree were wrong and were written again
	EventLost      EventKind = "lost"      // blocks of which no node has a good copy
	EventFound     EventKind = "found"     // blocks that were lost are there again
	EventConfirmed EventKind = "confirmed" // a person confirmed that blocks are lost
	EventSuspect   EventKind = "suspect"   // a node answered wrong, stopped uncleanly, or a person asked for a check
	EventRemoved   EventKind = "removed"   // a node was removed
	EventTime      EventKind = "time"      // a person set the group's time
	EventSetting   EventKind = "setting"   // a person changed a setting of the group
)

// Event is one entry of the integrity log.
type Event struct {
	Number   uint64        `json:"number"` // counts all events of the cluster
	Time     uint64        `json:"time"`   // unix milliseconds
	Kind     EventKind     `json:"kind"`
	Node     string        `json:"node,omitempty"`
	URL      string        `json:"url,omitempty"`
	Source   string        `json:"source,omitempty"` // of a repair: the node that sent
	Cause    Cause         `json:"cause,omitzero"`
	Findings []Finding     `json:"findings,omitempty"`
	Ranges   []chain.Range `json:"ranges,omitempty"`
	Blocks   uint64        `json:"blocks,omitempty"`
	Bytes    uint64        `json:"bytes,omitempty"`
	Millis   uint64        `json:"millis,omitempty"`
}

// Totals count since the group's founding.
type Totals struct {
	Checks         uint64 `json:"checks"`
	CheckedBytes   uint64 `json:"checked_bytes"`
	BadBlocks      uint64 `json:"bad_blocks"`
	BadTiles       uint64 `json:"bad_tiles"`
	Repairs        uint64 `json:"repairs"`
	FailedRepairs  uint64 `json:"failed_repairs"`
	RepairedBlocks uint64 `json:"repaired_blocks"`
	RepairedBytes  uint64 `json:"repaired_bytes"`
}

// IntegrityLog records what checks found and what was repaired. It is bounded: old events are dropped.
type IntegrityLog struct {
	Events    []Event       `json:"events"`    // the newest last
	Next      uint64        `json:"next"`      // number of the next event
	Lost      []chain.Range `json:"lost"`      // blocks that no node has and the masters do not hold
	Confirmed []chain.Range `json:"confirmed"` // those that a person confirmed
	Totals    Totals        `json:"totals"`
	Removed   []string      `json:"removed"` // ids of workers that were removed, the newest last
}

// Bounds of the integrity log.
const (
	maxEvents        = 256
	maxEventFindings = 8  // of a check's findings, those that an event keeps
	maxEventRanges   = 32 // the ranges of an event
	maxRanges        = 1024
	maxRemoved       = 1024
)

// IntegrityLog returns a copy of the integrity log.
func (s *State) IntegrityLog() IntegrityLog {
	log := s.integrity
	log.Events = slices.Clone(log.Events)
	return log
}

// recordEvent adds an event to the integrity log.
func (s *State) recordEvent(e Event) {
	e.Number, e.Time = s.integrity.Next, s.now
	if len(e.Findings) > maxEventFindings {
		e.Findings = slices.Clone(e.Findings[:maxEventFindings])
	}
	if len(e.Ranges) > maxEventRanges {
		e.Ranges = slices.Clone(e.Ranges[:maxEventRanges])
	}
	s.integrity.Next++
	if len(s.integrity.Events) == maxEvents {
		s.integrity.Events = s.integrity.Events[1:] // never moved within the array: a snapshot may share it
	}
	s.integrity.Events = append(s.integrity.Events, e)
}

// recordActEvent adds an event about the act of a person. From protocol level 7 on such acts are in the audit trail
// instead.
func (s *State) recordActEvent(e Event) {
	if s.level < LevelAudit {
		s.recordEvent(e)
	}
}

// recordNode adds an event about a storage node.
func (s *State) recordNode(n *Storage, e Event) {
	e.Node, e.URL = n.ID, n.URL
	s.recordEvent(e)
}

// recordMissing adds the finding of the state itself that a node lacks blocks. format and args are its detail below
// protocol level 2. From level 2 on there is none: code and blocks say it.
func (s *State) recordMissing(n *Storage, blocks chain.Range, what, format string, args ...any) {
	finding := Finding{Block: blocks.From, What: what}
	if s.level < LevelCodes {
		finding.Detail = TextCause(fmt.Sprintf(format, args...))
	}
	s.integrity.Totals.BadBlocks += blocks.Len()
	s.recordNode(n, Event{Kind: EventFinding, Ranges: []chain.Range{blocks}, Blocks: blocks.Len(),
		Findings: []Finding{finding}, Cause: n.Cause})
}

// recordBlocks adds an event about blocks of which no node has a good copy. code is that of its cause.
func (s *State) recordBlocks(kind EventKind, list []chain.Range, code string) {
	if len(list) > 0 {
		s.recordEvent(Event{
			Kind: kind, Ranges: list, Blocks: chain.CountBlocks(list), Cause: s.cause(code, s.aboutBlocks(list)),
		})
	}
}

// Cause is a message in the state or in a command: a cause, or the detail of a finding. Its JSON is a string where the
// code is [wire.CodeText], and an object otherwise. Below protocol level 2 all causes are such strings: see
// [State.cause].
type Cause wire.Message

// TextCause is a cause that is a sentence; there is none where the sentence is empty.
func TextCause(text string) Cause {
	if text == "" {
		return Cause{}
	}
	return Cause{Code: wire.CodeText, Args: wire.Args{"detail": text}}
}

// IsZero reports whether there is no cause.
func (c Cause) IsZero() bool { return c.Code == "" }

// Text is the cause in English.
func (c Cause) Text() string { return wire.Message(c).Text() }

// MarshalJSON writes the cause.
func (c Cause) MarshalJSON() ([]byte, error) {
	if c.IsZero() || c.Code == wire.CodeText {
		return json.Marshal(c.Text())
	}
	return json.Marshal(wire.Message(c))
}

// UnmarshalJSON reads a cause of either form. It refuses unknown fields, as the command with the cause does.
func (c *Cause) UnmarshalJSON(data []byte) error {
	if data[0] != '"' {
		return unmarshalStrictly(data, (*wire.Message)(c))
	}
	var text string
	err := json.Unmarshal(data, &text)
	*c = TextCause(text)
	return err
}

// cause is a cause in the form that the state has at its protocol level: the sentence of earlier versions below level
// 2, a code from then on.
func (s *State) cause(code string, args wire.Args) Cause {
	if s.level < LevelCodes {
		return TextCause(sentence(code, args))
	}
	return Cause{Code: code, Args: args}
}

// aboutBlocks are the arguments of a cause that names blocks. From level 2 on it names the first ranges only. At level
// 2 it counts only the blocks of these.
func (s *State) aboutBlocks(list []chain.Range) wire.Args {
	named := list
	if s.level >= LevelCodes && len(list) > wire.MaxMessageRanges {
		named = list[:wire.MaxMessageRanges]
	}
	if s.level < LevelCounts {
		list = named
	}
	return wire.Args{"blocks": chain.CountBlocks(list), "ranges": slices.Clone(named)}
}

// damaged is the cause of a node that has bad blocks.
func (s *State) damaged(bad []chain.Range) Cause {
	return s.cause(wire.CodeDamaged, s.aboutBlocks(bad))
}

// failedCheck is the cause of a node that a check has found not to be good.
func (s *State) failedCheck(n *Storage, bad []chain.Range) Cause {
	switch {
	case len(bad) > 0 || s.level < LevelCodes:
		return s.damaged(bad)
	case n.Unchecked > 0:
		return s.cause(wire.CodeUnchecked, wire.Args{"block": n.Unchecked})
	}
	return s.cause(wire.CodeForeignChain, nil)
}

// checkCause refuses a cause in a command that is too long, or is a code before the group has codes.
func (s *State) checkCause(c Cause) error {
	if c.Code != wire.CodeText && !c.IsZero() && s.level < LevelCodes {
		return fmt.Errorf("%w: the cause %q at protocol level %d", ErrBadCommand, c.Code, s.level)
	}
	if c.TooLong() {
		return fmt.Errorf("%w: a cause %.30q that is too long", ErrBadCommand, c.Code)
	}
	return nil
}

// TooLong reports whether commands with the cause are refused because of its size.
func (c Cause) TooLong() bool {
	if c.Code == wire.CodeText {
		return len(c.Text()) > maxText
	}
	args, err := json.Marshal(c.Args)
	return err == nil && len(c.Code)+len(args) > 8*maxText
}

// Finding is one thing that a check or the state itself found wrong.
type Finding struct {
	Block  uint64 `json:"block"`
	What   string `json:"what"` // one of the Wrong… constants of package chain
	Detail Cause  `json:"detail"`
}

// sentences are the texts that versions before protocol level 2 put into the state for the codes. {ranges} and {cause}
// are sentences themselves. Snapshots of these versions must be equal to the byte, so no text ever changes. A person
// reads [wire.Message.Text].
var sentences = map[string]string{
	wire.CodeDamaged:       "damaged: {ranges}",
	wire.CodeUnchecked:     "blocks from {block} on could not be checked",
	wire.CodeBehind:        "behind: it has {blocks} blocks, the masters hold them from {from} on",
	wire.CodeLeftBehind:    "behind: the masters no longer hold the blocks that it lacks",
	wire.CodeUnknownHeight: "behind: height {height} is older than the table remembers",
	wire.CodeOtherChain:    "another chain: block {block} has another hash",
	wire.CodeAhead:         "alarm: it has {blocks} blocks, the masters know of {height}",
	wire.CodeUncleanStop:   "its last stop was not a clean one",
	wire.CodeCheckCutOff:   "its check was cut off",
	wire.CodeRepairFailed:  "ended early: {cause}",
	wire.CodeTilesRewritten: "{count} hashes of the tree were wrong on disk and were computed again from the " +
		"blocks",
	wire.CodeBlocksLost:    "no storage node has a good copy of {ranges}",
	wire.CodeBlocksFound:   "a storage node may have a good copy again of {ranges}",
	wire.CodeLossConfirmed: "a person confirmed that block {block} is lost",
	wire.CodeRemoved:       "taken out for good",
}

// sentence is the sentence of a code with its arguments.
func sentence(code string, args wire.Args) string {
	text := sentences[code]
	for name, value := range args {
		switch v := value.(type) {
		case []chain.Range:
			value = blocksSentence(v)
		case wire.Message:
			value = v.Text()
		}
		text = strings.ReplaceAll(text, "{"+name+"}", fmt.Sprint(value))
	}
	return text
}

// blocksSentence names blocks in a sentence.
func blocksSentence(list []chain.Range) string {
	const most = 6
	if len(list) == 0 {
		return "no block"
	}
	var parts []string
	for i, r := range list {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more runs", len(list)-most))
			break
		}
		if r.Len() == 1 {
			parts = append(parts, fmt.Sprint(r.From))
		} else {
			parts = append(parts, fmt.Sprintf("%d to %d", r.From, r.To-1))
		}
	}
	word := "blocks "
	if chain.CountBlocks(list) == 1 {
		word = "block "
	}
	return word + strings.Join(parts, ", ")
}

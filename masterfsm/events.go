package masterfsm

import (
	"slices"

	"github.com/chainstore/chainstore/chain"
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
	story := s.integrity
	story.Events = slices.Clone(s.integrity.Events)
	return story
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

package masterfsm

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// BeginRepair makes an Invalid node Receiving, and the Valid node that sends to it Sending. A sender that is Invalid
// itself and has good copies of what is missing stays Invalid. There is no sender if the masters hold all that is
// missing. The target is the head. The result is the receiver's [Storage].
type BeginRepair struct {
	ID            string        `json:"id"`
	Version       uint64        `json:"version"`
	Sender        string        `json:"sender"`
	SenderVersion uint64        `json:"sender_version"`
	Ticket        string        `json:"ticket"`  // by which the receiver knows the sender
	Keep          uint64        `json:"keep"`    // the receiver's chain is the group's below this block
	Missing       []chain.Range `json:"missing"` // what is to be sent
	Time          uint64        `json:"time"`
}

// EndRepair ends a repair. The receiver is judged by height and hash as at its boot, and by what it still lacks.
type EndRepair struct {
	ID        string        `json:"id"`
	Version   uint64        `json:"version"`
	Failed    Cause         `json:"failed"` // why it ended early, if it did
	Height    uint64        `json:"height"`
	Hash      chain.Hash    `json:"hash"`
	Bad       []chain.Range `json:"bad"` // below height, still
	Unchecked uint64        `json:"unchecked"`
	Changed   Cause         `json:"changed"` // which bytes were replaced
	Blocks    uint64        `json:"blocks"`  // received
	Bytes     uint64        `json:"bytes"`
	Time      uint64        `json:"time"`
	// Findings are those of the check at its end; from protocol level 3 on.
	Findings []Finding `json:"findings,omitempty"`
}

func (c *BeginRepair) apply(s *State) (any, error) {
	n, err := s.at(c.ID, c.Version, Receiving)
	if err != nil {
		return nil, err
	}
	if len(c.Ticket) > maxText {
		return nil, fmt.Errorf("%w: a ticket of %d bytes", ErrBadCommand, len(c.Ticket))
	}
	if err := checkRanges(c.Missing); err != nil {
		return nil, err
	}
	if last := len(c.Missing) - 1; last >= 0 && c.Missing[last].To > s.head.Height {
		return nil, fmt.Errorf("%w: block %d is said to be missing, the head is at %d", ErrBadCommand,
			c.Missing[last].To-1, s.head.Height)
	}
	var sender *Storage
	if c.Sender != "" {
		sender = s.storage(c.Sender)
		switch {
		case sender == nil || c.Sender == c.ID:
			return nil, fmt.Errorf("%w: sender %s", ErrUnknownNode, c.Sender)
		case sender.Version != c.SenderVersion:
			return nil, fmt.Errorf("%w: version %d of sender %s, the table has %d", ErrStale, c.SenderVersion, c.Sender,
				sender.Version)
		case sender.State != Valid && sender.State != Invalid:
			return nil, fmt.Errorf("%w: %s is %s and cannot send", ErrStale, c.Sender, sender.State)
		}
	}
	s.tick(c.Time)
	if sender != nil && sender.State == Valid {
		sender.move(Sending, Cause{}, s.now)
		sender.Peer = c.ID
	}
	if c.Keep < n.Height && len(chain.CommonRanges(n.Bad, []chain.Range{{From: c.Keep, To: n.Height}})) == 0 {
		// no check has found it
		s.recordMissing(n, chain.Range{From: c.Keep, To: n.Height}, chain.WrongChain,
			"its blocks from %d on are of another chain, or cannot be read", c.Keep)
	}
	n.move(Receiving, n.Cause, s.now)
	n.Peer, n.Ticket, n.Keep, n.Missing = c.Sender, c.Ticket, c.Keep, c.Missing
	n.Target = Target{Height: s.head.Height, Hash: s.head.Hash}
	s.advanceStored()
	return new(*n), nil
}

func (c *EndRepair) apply(s *State) (any, error) {
	n, err := s.at(c.ID, c.Version, Invalid)
	switch {
	case err != nil:
		return nil, err
	case n.State != Receiving:
		return nil, fmt.Errorf("%w: %s is %s, not being repaired", ErrStale, c.ID, n.State)
	}
	if err := errors.Join(s.checkCause(c.Failed), s.checkCause(c.Changed), checkRanges(c.Bad),
		s.checkFindings(c.Findings)); err != nil {
		return nil, err
	}
	s.tick(c.Time)
	source, missing, took, was, before := n.Peer, n.Missing, s.now-n.Since, n.Cause, n.Bad
	// A check of a node that lacks nothing is no repair. It is tried again and again.
	checkOnly := s.level >= LevelResults && source == "" && len(missing) == 0 && c.Failed.Code == wire.CodeCheckAborted
	cut := n.Keep < n.Height
	if c.Failed.IsZero() && n.Unchecked > 0 && c.Unchecked == 0 {
		n.EarlyEnds = 0 // the check in the repair looked at all blocks
	}
	n.Bad, n.Unchecked = c.Bad, c.Unchecked
	s.leaveRepair(n)
	if !c.Failed.IsZero() {
		n.OnGroupChain = n.OnGroupChain && !cut
		n.move(Invalid, was, s.now)
		if !checkOnly {
			s.integrity.Totals.FailedRepairs++
		}
	} else {
		n.Height = c.Height
		s.enter(n, c.Hash)
		s.integrity.Totals.Repairs++
	}
	s.integrity.Totals.RepairedBlocks += c.Blocks
	s.integrity.Totals.RepairedBytes += c.Bytes
	cause := was
	switch {
	case !c.Failed.IsZero():
		cause = s.cause(wire.CodeRepairFailed, wire.Args{"cause": wire.Message(c.Failed)})
	case !c.Changed.IsZero():
		cause = c.Changed
	}
	if source != "" || !c.Failed.IsZero() && !checkOnly {
		s.recordNode(n, Event{
			Kind: EventRepair, Source: source, Ranges: missing, Blocks: c.Blocks, Bytes: c.Bytes, Millis: took,
			Cause: cause,
		})
	}
	if found := chain.CutRanges(s.unrepaired(n), before); s.level >= LevelResults && len(found) > 0 {
		s.integrity.Totals.BadBlocks += chain.CountBlocks(found)
		s.recordNode(n, Event{
			Kind: EventFinding, Findings: c.Findings, Ranges: found, Blocks: chain.CountBlocks(found), Cause: n.Cause,
		})
	}
	s.advanceStored()
	return nil, nil
}

// leaveRepair ends a node's part in a repair, and frees its sender. If the node is the sender, its receiver continues
// to wait: a sender may be back soon.
func (s *State) leaveRepair(n *Storage) {
	if n.State == Receiving {
		if sender := s.storage(n.Peer); sender != nil && sender.State == Sending && sender.Peer == n.ID {
			sender.Peer = ""
			// what was confirmed as lost when it began to send was found since
			s.moveByBad(sender)
		}
	}
	n.Peer, n.Ticket, n.Keep, n.Missing, n.Target = "", "", 0, nil, Target{}
}

// enter sets the state of a node that has n.Height blocks, the last of which has that hash.
func (s *State) enter(n *Storage, hash chain.Hash) {
	state, cause := s.judge(n.Height, hash)
	n.OnGroupChain = state == Valid
	n.Bad = chain.CommonRanges(n.Bad, []chain.Range{{To: n.Height}})
	switch bad := s.unrepaired(n); {
	case state != Valid:
	case len(bad) > 0:
		state, cause = Invalid, s.damaged(bad)
	case n.Unchecked > 0:
		state, cause = Invalid, s.cause(wire.CodeUnchecked, wire.Args{"block": n.Unchecked})
	default:
		for i := range s.storages {
			if other := &s.storages[i]; other.State == Receiving && other.Peer == n.ID {
				state, n.Peer = Sending, other.ID
			}
		}
	}
	n.move(state, cause, s.now)
}

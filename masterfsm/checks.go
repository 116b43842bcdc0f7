package masterfsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Target is how far a check or a repair goes.
type Target struct {
	Height uint64     `json:"height"`
	Hash   chain.Hash `json:"hash"` // of block Height-1
}

// Suspect makes a check of a storage node due at once: it answered wrong, or a person requested the check.
type Suspect struct {
	ID    string `json:"id"`
	Cause Cause  `json:"cause"`
	Time  uint64 `json:"time"`
}

// BeginCheck makes a Valid node Validating. The target is what it has acknowledged. It is refused with [ErrStale] while
// another node is checked, and for the last Valid node unless there is a cause or only one is registered. The result is
// the node's [Storage].
type BeginCheck struct {
	ID      string `json:"id"`
	Version uint64 `json:"version"`
	Time    uint64 `json:"time"`
}

// CheckResult says how a check ended, so that no zero of the other fields means that all blocks are good.
type CheckResult string

// The results of checks.
const (
	CheckGood    CheckResult = "good"    // it looked at all blocks, and all are good
	CheckBad     CheckResult = "bad"     // it ended, and not all blocks are known to be good
	CheckAborted CheckResult = "aborted" // it did not end; the node's state stays as it was, and the check due
	// CheckNone: it did not end, like those before it. The node no longer counts as a copy: it becomes Invalid, until
	// a check looks at all blocks.
	CheckNone CheckResult = "none"
)

// EndCheck records what the check of a Validating node has found, and makes the node Valid or Invalid.
type EndCheck struct {
	ID       string        `json:"id"`
	Version  uint64        `json:"version"`
	Aborted  Cause         `json:"aborted"` // why the check did not end, if so; nothing else counts then
	Findings []Finding     `json:"findings"`
	Bad      []chain.Range `json:"bad"`
	// Unchecked is the first block below the target that could not be looked at, 0 where all were.
	Unchecked uint64 `json:"unchecked"`
	// Strange: the node's chain is another one, or ends before the target. Its end is not one that the group knows.
	Strange bool   `json:"strange"`
	Tiles   uint64 `json:"tiles"`  // hashes of the tree that it wrote again
	Bytes   uint64 `json:"bytes"`  // read
	Millis  uint64 `json:"millis"` // taken
	Time    uint64 `json:"time"`
	// Age is State.Age as the leader has counted it; from protocol level 3 on.
	Age uint64 `json:"age,omitempty"`
	// Result is needed from protocol level 3 on, and ignored below.
	Result CheckResult `json:"result,omitempty"`
	// Early is how many checks of the node in a row ended early, with this one; ignored below protocol level 3.
	Early uint64 `json:"early,omitempty"`
}

// ResultOf is the result that the other fields say, if the check is none of several that did not end.
func (c *EndCheck) ResultOf() CheckResult {
	switch {
	case !c.Aborted.IsZero():
		return CheckAborted
	case len(c.Bad) > 0 || c.Unchecked > 0 || c.Strange:
		return CheckBad
	}
	return CheckGood
}

// checkResult refuses a command without a result, or whose result is not that of the other fields.
func (c *EndCheck) checkResult(s *State) error {
	switch says := c.ResultOf(); {
	case s.level < LevelResults || c.Result == says || c.Result == CheckNone && says == CheckAborted:
		return nil
	case c.Result == "": // it was written before the level was raised; the leader repeats it
		return fmt.Errorf("%w: the end of a check has no result", ErrStale)
	default:
		return fmt.Errorf("%w: the end of a check with the result %q says %q", ErrBadCommand, c.Result, says)
	}
}

func (c *Suspect) apply(s *State) (any, error) {
	n := s.storage(c.ID)
	if n == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownNode, c.ID)
	}
	if c.Cause.IsZero() {
		return nil, fmt.Errorf("%w: a cause is needed", ErrBadCommand)
	}
	if err := s.checkCause(c.Cause); err != nil {
		return nil, err
	}
	s.tick(c.Time)
	if n.Due.IsZero() {
		n.Due = c.Cause
		s.recordNode(n, Event{Kind: EventSuspect, Cause: c.Cause})
	}
	return new(*n), nil
}

// at returns the node of a command, and checks the version and the transition against the table.
func (s *State) at(id string, version uint64, to NodeState) (*Storage, error) {
	n := s.storage(id)
	switch {
	case n == nil:
		return nil, fmt.Errorf("%w: %s", ErrUnknownNode, id)
	case n.Version != version:
		return nil, fmt.Errorf("%w: version %d of %s, the table has %d", ErrStale, version, id, n.Version)
	case !n.State.may(to):
		return nil, fmt.Errorf("%w: %s cannot go from %s to %s", ErrStale, id, n.State, to)
	}
	return n, nil
}

func (c *BeginCheck) apply(s *State) (any, error) {
	n, err := s.at(c.ID, c.Version, Validating)
	if err != nil {
		return nil, err
	}
	valid := 0
	for i := range s.storages {
		switch other := &s.storages[i]; {
		case other.ID == c.ID:
		case other.State == Validating:
			return nil, fmt.Errorf("%w: %s is being checked", ErrStale, other.ID)
		case other.State == Valid:
			valid++
		}
	}
	if valid == 0 && len(s.storages) > 1 && n.Due.IsZero() {
		return nil, fmt.Errorf("%w: %s is the last valid storage node, and there is no cause to check it", ErrStale,
			c.ID)
	}
	target := Target{Height: n.Height}
	if n.Height > 0 {
		b, ok := s.BoundaryAt(n.Height)
		if !ok {
			return nil, fmt.Errorf("%w: height %d of %s is older than the table remembers", ErrStale, n.Height, c.ID)
		}
		target.Hash = b.Hash
	}
	s.tick(c.Time)
	n.move(Validating, n.Due, s.now)
	n.Target = target
	s.advanceStored()
	return new(*n), nil
}

func (c *EndCheck) apply(s *State) (any, error) {
	n, err := s.at(c.ID, c.Version, Valid)
	switch {
	case err != nil:
		return nil, err
	case n.State != Validating:
		return nil, fmt.Errorf("%w: %s is %s, not being checked", ErrStale, c.ID, n.State)
	}
	if err := errors.Join(checkRanges(c.Bad), s.checkCause(c.Aborted), s.checkFindings(c.Findings),
		c.checkResult(s)); err != nil {
		return nil, err
	}
	s.tick(c.Time)
	s.elapse(c.Age)
	target := n.Target
	n.Target = Target{}
	if s.level >= LevelResults {
		n.EarlyEnds = c.Early
	}
	if !c.Aborted.IsZero() {
		if n.Due.IsZero() {
			n.Due = c.Aborted
		}
		if s.level >= LevelResults && c.Result == CheckNone {
			n.Unchecked = 1 // any number but 0 has it checked before it is Valid again
			n.move(Invalid, c.Aborted, s.now)
			s.recordNode(n, Event{Kind: EventFinding, Cause: c.Aborted})
		} else {
			s.moveByBad(n)
		}
		s.advanceStored()
		return nil, nil
	}
	n.Checked, n.Due = s.now, Cause{}
	if s.level >= LevelElapsed {
		n.CheckedAge, n.CheckMillis = s.age, c.Millis
	}
	n.Unchecked, n.OnGroupChain = c.Unchecked, !c.Strange
	// A node does not name again what a person confirmed as lost.
	confirmed := chain.CommonRanges(n.Bad, s.integrity.Confirmed)
	n.Bad = c.Bad
	for _, r := range confirmed {
		n.Bad = chain.AddRange(n.Bad, r)
	}
	s.integrity.Totals.Checks++
	s.integrity.Totals.CheckedBytes += c.Bytes
	if c.Tiles > 0 {
		s.integrity.Totals.BadTiles += c.Tiles
		s.recordNode(n, Event{Kind: EventTiles, Blocks: target.Height,
			Cause: s.cause(wire.CodeTilesRewritten, wire.Args{"count": c.Tiles})})
	}
	bad := s.unrepaired(n)
	if len(bad) == 0 && c.Unchecked == 0 && !c.Strange {
		n.move(Valid, Cause{}, s.now)
	} else {
		n.move(Invalid, s.failedCheck(n, bad), s.now)
	}
	if len(c.Findings) > 0 || n.State == Invalid {
		s.integrity.Totals.BadBlocks += chain.CountBlocks(bad)
		s.recordNode(n, Event{
			Kind: EventFinding, Findings: c.Findings, Ranges: bad, Blocks: chain.CountBlocks(bad), Bytes: c.Bytes,
			Millis: c.Millis, Cause: n.Cause,
		})
	}
	s.advanceStored()
	return nil, nil
}

// checkFindings refuses findings that are too many or too long.
func (s *State) checkFindings(list []Finding) error {
	if len(list) > chain.MaxFindings {
		return fmt.Errorf("%w: %d findings", ErrBadCommand, len(list))
	}
	for _, f := range list {
		if len(f.What) > maxText {
			return fmt.Errorf("%w: a finding of %d bytes", ErrBadCommand, len(f.What))
		}
		if err := s.checkCause(f.Detail); err != nil {
			return err
		}
	}
	return nil
}

// checkRanges refuses a list that is too long, or not in ascending order with gaps between.
func checkRanges(list []chain.Range) error {
	if len(list) > maxRanges {
		return fmt.Errorf("%w: %d ranges", ErrBadCommand, len(list))
	}
	for i, r := range list {
		if r.From >= r.To || i > 0 && r.From <= list[i-1].To {
			return fmt.Errorf("%w: ranges of blocks must ascend and not touch: %v", ErrBadCommand, list)
		}
	}
	return nil
}

// Lost reports whether no storage node has a good copy of a block, and whether a person has confirmed that.
func (s *State) Lost(block uint64) (lost, confirmed bool) {
	return chain.HoldsBlock(s.integrity.Lost, block), chain.HoldsBlock(s.integrity.Confirmed, block)
}

// unrepaired returns the bad blocks of a node that are not confirmed as lost.
func (s *State) unrepaired(n *Storage) []chain.Range {
	return chain.CutRanges(n.Bad, s.integrity.Confirmed)
}

// moveByBad makes a node Valid, or Invalid if it has bad blocks that are not confirmed as lost.
func (s *State) moveByBad(n *Storage) {
	if bad := s.unrepaired(n); len(bad) > 0 {
		n.move(Invalid, s.damaged(bad), s.now)
	} else {
		n.move(Valid, Cause{}, s.now)
	}
}

// countsAsCopy reports whether a node counts as a copy of all blocks that it acknowledged. It does in a state that
// retains its blocks. It also does if it lacks only blocks that are lost everywhere: no repair can help it, and the
// cluster must continue with it.
func (s *State) countsAsCopy(n *Storage) bool {
	return n.State.RetainsBlocks() ||
		n.State == Invalid && n.OnGroupChain && n.Unchecked == 0 && len(n.Bad) > 0 && len(chain.CutRanges(n.Bad,
			s.integrity.Lost)) == 0
}

// recomputeDerived recomputes which blocks are lost and which nodes count as copies, from the blocks that the nodes
// lack.
func (s *State) recomputeDerived() {
	if lost := s.lost(); !slices.Equal(lost, s.integrity.Lost) {
		s.recordBlocks(EventLost, chain.CutRanges(lost, s.integrity.Lost), wire.CodeBlocksLost)
		if found := chain.CutRanges(s.integrity.Lost, lost); len(found) > 0 {
			s.recordBlocks(EventFound, found, wire.CodeBlocksFound)
			s.integrity.Confirmed = chain.CutRanges(s.integrity.Confirmed, found)
			for i := range s.storages { // they were Valid because no node had a copy
				if n := &s.storages[i]; n.State == Valid && len(s.unrepaired(n)) > 0 {
					s.moveByBad(n)
				}
			}
		}
		s.integrity.Lost = lost
	}
	for i := range s.storages {
		s.storages[i].CountsAsCopy = s.countsAsCopy(&s.storages[i])
	}
}

// lost returns the blocks that every registered node lacks and the masters do not hold. A node that is not live may
// have what it acknowledged.
func (s *State) lost() []chain.Range {
	if len(s.storages) == 0 || s.heldFrom() == 0 {
		return nil
	}
	lost := []chain.Range{{To: s.heldFrom()}}
	for i := range s.storages {
		lost = chain.CommonRanges(lost, s.storages[i].Lacks(s.heldFrom()))
	}
	return lost
}

// Lacks are the blocks below a height that the node is known not to have.
func (n *Storage) Lacks(height uint64) []chain.Range {
	list := chain.CommonRanges(n.Bad, []chain.Range{{To: height}})
	return chain.AddRange(list, chain.Range{From: n.Height, To: height})
}

// ConfirmLost records that a person has confirmed a block as lost. Nodes that lack only confirmed blocks are Valid from
// then on.
type ConfirmLost struct {
	Block uint64 `json:"block"`
	Time  uint64 `json:"time"`
}

func (c *ConfirmLost) apply(s *State) (any, error) {
	one := chain.Range{From: c.Block, To: c.Block + 1}
	if len(chain.CommonRanges(s.integrity.Lost, []chain.Range{one})) == 0 {
		return nil, fmt.Errorf("%w: block %d", wire.ErrNotLost, c.Block)
	}
	s.tick(c.Time)
	if len(chain.CutRanges([]chain.Range{one}, s.integrity.Confirmed)) == 0 {
		return nil, nil // it was confirmed before
	}
	s.integrity.Confirmed = chain.AddRange(s.integrity.Confirmed, one)
	s.recordActEvent(Event{
		Kind: EventConfirmed, Ranges: []chain.Range{one}, Blocks: 1,
		Cause: s.cause(wire.CodeLossConfirmed, wire.Args{"block": c.Block}),
	})
	for i := range s.storages {
		n := &s.storages[i]
		if n.State == Invalid && n.CountsAsCopy && len(s.unrepaired(n)) == 0 {
			n.move(Valid, Cause{}, s.now)
		}
	}
	s.advanceStored()
	return nil, nil
}

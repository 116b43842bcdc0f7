package audit

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// refusals say what is wrong with a block that the verifier refused. The first that fits counts.
var refusals = []struct {
	err        error
	what, code string
}{
	{chain.ErrWork, chain.WrongWork, wire.CodeBlockWork},
	{chain.ErrNumber, chain.WrongLink, wire.CodeBlockNumber},
	{chain.ErrLink, chain.WrongLink, wire.CodeBlockLink},
	{chain.ErrFirst, chain.WrongLink, wire.CodeBlockFirst},
	{chain.ErrCount, chain.WrongLink, wire.CodeBlockCount},
	{chain.ErrTime, chain.WrongLink, wire.CodeBlockTime},
	{errUnconnected, chain.WrongFrame, wire.CodeBlockUnconnected},
}

// errUnconnected: the link to the blocks before is hidden by a bad block, and so is the tree.
var errUnconnected = errors.New("it is not connected to the blocks before it")

// twoFaults says two things about one block.
func twoFaults(cause, more wire.Message) wire.Message {
	return wire.Message{Code: wire.CodeTwoFaults, Args: wire.Args{"cause": cause, "more": more}}
}

// diagnose says what is wrong with a block, and where. refused is the verifier's error, if it judged the block.
func (a *Audit) diagnose(s *slot, refused error) badBlock {
	b := badBlock{number: s.number, what: chain.WrongFrame, detail: s.why, err: s.err}
	if s.missing {
		b.what = chain.WrongMissing
	}
	if !s.parsed {
		if s.unread != nil && a.UnreadApart {
			b.err = s.unread
		}
		return b
	}
	if refused == nil && a.fromBad != nil {
		// Behind a bad block the link cannot be checked. The rest can, if the tree before the block is known.
		head := chain.Head{Height: s.number, Hash: s.block.Header.Prev, Time: a.fromBad.head.Time}
		if refused = errUnconnected; a.extend(a.fromBad, s.place.First) {
			head.Tree = a.fromBad.tree
			_, refused = chain.NewVerifier(head).TakeHashed(&s.block, s.leaves)
		}
	}
	switch {
	case refused != nil:
	case s.err != nil:
		return b
	default:
		refused = errUnconnected
	}
	why := s.message(wire.CodeBlockForm, wire.Args{"detail": innerError(refused).Error()})
	if errors.Is(refused, chain.ErrRoot) {
		b.what, why = a.diagnoseRoot(s)
	}
	for _, r := range refusals {
		if errors.Is(refused, r.err) {
			b.what, why = r.what, s.message(r.code, nil)
			break
		}
	}
	if s.err != nil {
		b.detail = twoFaults(s.why, why)
		return b
	}
	b.detail, b.err = why, innerError(refused)
	return b
}

// innerError removes the block's number from an error of a verifier.
func innerError(err error) error {
	var b *chain.BlockError
	if errors.As(err, &b) {
		return b.Err
	}
	return err
}

// diagnoseRoot names the records that differ from the stored leaf hashes, if those fit the header's root.
func (a *Audit) diagnoseRoot(s *slot) (what string, why wire.Message) {
	what, why = chain.WrongRoot, s.message(wire.CodeBlockRoot, nil)
	h := &s.block.Header
	tree := a.verifier.Head().Tree
	if a.fromBad != nil {
		tree = a.fromBad.tree
	}
	if tree.Size() != h.First {
		return what, why
	}
	var differ []chain.Range
	for at := uint32(0); at < h.Count; {
		n := min(h.Count-at, maxChunk)
		leaves, err := a.storedLeaves(h.First+uint64(at), h.First+uint64(at+n))
		if err != nil {
			args := wire.Args{"detail": err.Error()}
			return what, twoFaults(why, wire.Message{Code: wire.CodeLeavesMissing, Args: args})
		}
		differ = appendDiffering(differ, at, leaves, s.leaves[at:])
		tree = tree.Append(leaves...)
		at += n
	}
	if tree.Root() != h.Root || len(differ) == 0 {
		return what, why
	}
	return chain.WrongPayload, s.recordsDiffer(differ)
}

// appendDiffering appends the records, counted from first, whose leaf is not the stored one.
func appendDiffering(differ []chain.Range, first uint32, stored, computed []chain.Hash) []chain.Range {
	for i := range stored {
		if stored[i] != computed[i] {
			differ = AddLast(differ, uint64(first)+uint64(i))
		}
	}
	return differ
}

// recordsDiffer says which records differ from what was written, and where they are in the file.
func (s *slot) recordsDiffer(differ []chain.Range) wire.Message {
	return s.message(wire.CodeRecordsDiffer, wire.Args{
		"count": chain.CountBlocks(differ), "records": differ[:min(len(differ), wire.MaxMessageRanges)],
		"at": uint64(s.offsetOf(uint32(differ[0].From))),
	})
}

// offsetOf is where a record begins in the segment.
func (s *slot) offsetOf(record uint32) int64 {
	at := s.place.Offset + segment.FrameHeader + int64(chain.BlockOverhead(s.block.Header.Count))
	for i := range record {
		at += int64(len(s.block.Encoded(i)))
	}
	return at
}

// changed says what is wrong with a block that passes by itself and differs from what a later block confirms.
func (a *Audit) changed(number, confirmedBy uint64) badBlock {
	s := a.reread(number)
	b := badBlock{number: number, what: chain.WrongLink, err: s.err}
	if b.err == nil {
		b.err = fmt.Errorf("%w: the blocks behind it do not follow from it", chain.ErrLink)
	}
	b.detail = s.message(wire.CodeMinedAgain, wire.Args{"block": confirmedBy})
	if !s.parsed {
		return b
	}
	leaves, err := a.storedLeaves(s.place.First, s.place.First+uint64(len(s.leaves)))
	if err != nil {
		return b
	}
	if differ := appendDiffering(nil, 0, leaves, s.leaves); len(differ) > 0 {
		b.what, b.detail = chain.WrongPayload, twoFaults(s.recordsDiffer(differ), b.detail)
	}
	return b
}

package audit

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// diagnose says what is wrong with a block, and where. refused is the verifier's error, if it judged the block.
func (a *Audit) diagnose(s *slot, refused error) badBlock {
	b := badBlock{number: s.number, err: s.err}
	switch {
	case s.missing:
		b.what, b.detail = chain.WrongMissing, s.where()+": "+s.err.Error()
		return b
	case !s.parsed:
		b.what, b.detail = chain.WrongFrame, s.where()+": "+s.err.Error()
		return b
	}
	if refused == nil && a.fromBad != nil {
		// Behind a bad block the link cannot be checked. The rest can, if the tree before the block is known.
		head := chain.Head{Height: s.number, Hash: s.block.Header.Prev, Time: a.fromBad.head.Time, Tree: a.fromBad.tree}
		if !a.extend(a.fromBad, s.place.First) {
			refused = errors.New("it is not connected to the blocks before it")
		} else {
			head.Tree = a.fromBad.tree
			_, refused = chain.NewVerifier(head).TakeHashed(&s.block, s.leaves)
		}
	}
	var text string
	switch {
	case errors.Is(refused, chain.ErrRoot):
		b.what, text = a.diagnoseRoot(s)
	case errors.Is(refused, chain.ErrWork):
		b.what = chain.WrongWork
	case errors.Is(refused, chain.ErrNumber), errors.Is(refused, chain.ErrLink), errors.Is(refused, chain.ErrFirst),
		errors.Is(refused, chain.ErrCount), errors.Is(refused, chain.ErrTime):
		b.what = chain.WrongLink
	default:
		b.what = chain.WrongFrame
	}
	if text == "" && refused != nil {
		text = innerError(refused).Error()
	}
	if b.err == nil {
		b.err = refused
	} else if text != "" {
		text = b.err.Error() + "; " + text
	} else {
		text = b.err.Error()
	}
	b.err = innerError(b.err)
	b.detail = s.where() + ": " + text
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
func (a *Audit) diagnoseRoot(s *slot) (what, text string) {
	h := &s.block.Header
	tree := a.verifier.Head().Tree
	if a.fromBad != nil {
		tree = a.fromBad.tree
	}
	if tree.Size() != h.First {
		return chain.WrongRoot, ""
	}
	var differ []uint32
	for at := uint32(0); at < h.Count; {
		n := min(h.Count-at, maxChunk)
		leaves, err := a.storedLeaves(h.First+uint64(at), h.First+uint64(at+n))
		if err != nil {
			return chain.WrongRoot,
				"the records do not hash to the header's root, and the stored hashes are missing: " + err.Error()
		}
		differ = appendDiffering(differ, at, leaves, s.leaves[at:])
		tree = tree.Append(leaves...)
		at += n
	}
	if tree.Root() != h.Root || len(differ) == 0 {
		return chain.WrongRoot, ""
	}
	return chain.WrongPayload, s.nameRecords(differ)
}

// appendDiffering appends the records, counted from first, whose leaf is not the stored one.
func appendDiffering(differ []uint32, first uint32, stored, computed []chain.Hash) []uint32 {
	for i := range stored {
		if stored[i] != computed[i] {
			differ = append(differ, first+uint32(i))
		}
	}
	return differ
}

// nameRecords says which records differ from what was written, and where they are in the file.
func (s *slot) nameRecords(differ []uint32) string {
	text := ""
	for i, offset := range differ {
		if i == 3 {
			return fmt.Sprintf("%s, and %d more records", text, len(differ)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("record %d (from offset %d of the file)", offset, s.offsetOf(offset))
	}
	return text + " does not fit its leaf"
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
	b.detail = fmt.Sprintf("%s: its header was changed: block %d follows another one", s.where(), confirmedBy)
	if !s.parsed {
		return b
	}
	leaves, err := a.storedLeaves(s.place.First, s.place.First+uint64(len(s.leaves)))
	if err != nil {
		return b
	}
	if differ := appendDiffering(nil, 0, leaves, s.leaves); len(differ) > 0 {
		b.what = chain.WrongPayload
		b.detail = fmt.Sprintf("%s: %s, and the block was mined again: block %d follows another one",
			s.where(), s.nameRecords(differ), confirmedBy)
	}
	return b
}

package storagenode

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// maxChunk is how many hashes are read from the tree's files at a time.
const maxChunk = 4096

// diagnose says what is wrong with a block, and where; refused is the verifier's word, where it was asked.
func (a *Audit) diagnose(s *slot, refused error) verdict {
	v := verdict{number: s.number, err: s.err}
	switch {
	case s.missing:
		v.what, v.detail = chain.WrongMissing, s.where()+": "+s.err.Error()
		return v
	case !s.parsed:
		v.what, v.detail = chain.WrongFrame, s.where()+": "+s.err.Error()
		return v
	}
	if refused == nil && a.near != nil {
		// The link cannot be known behind a bad block; all else can, where the tree is.
		head := chain.Head{Height: s.number, Hash: s.block.Header.Prev, Time: a.near.head.Time, Tree: a.near.tree}
		if !a.extend(a.near, s.place.First) {
			refused = errors.New("it does not hang together with the blocks before")
		} else {
			head.Tree = a.near.tree
			_, refused = chain.NewVerifier(head).TakeHashed(&s.block, s.leaves)
		}
	}
	var text string
	switch {
	case errors.Is(refused, chain.ErrRoot):
		v.what, text = a.records(s)
	case errors.Is(refused, chain.ErrWork):
		v.what = chain.WrongWork
	case errors.Is(refused, chain.ErrNumber), errors.Is(refused, chain.ErrLink), errors.Is(refused, chain.ErrFirst),
		errors.Is(refused, chain.ErrCount), errors.Is(refused, chain.ErrTime):
		v.what = chain.WrongLink
	default:
		v.what = chain.WrongFrame
	}
	if text == "" && refused != nil {
		text = refused.Error()
		var b *chain.BlockError
		if errors.As(refused, &b) {
			text = b.Err.Error()
		}
	}
	if v.err == nil {
		v.err = refused
	} else if text != "" {
		text = v.err.Error() + "; " + text
	} else {
		text = v.err.Error()
	}
	var b *chain.BlockError
	if errors.As(v.err, &b) {
		v.err = b.Err
	}
	v.detail = s.where() + ": " + text
	return v
}

// records names the records whose leaves differ from those on disk, where those fit the header's root.
func (a *Audit) records(s *slot) (what, text string) {
	h := &s.block.Header
	tree := a.verifier.Head().Tree
	if a.near != nil {
		tree = a.near.tree
	}
	if tree.Size() != h.First {
		return chain.WrongRoot, ""
	}
	var differ []uint32
	for at := uint32(0); at < h.Count; {
		n := min(h.Count-at, maxChunk)
		leaves, err := a.tileLeaves(h.First+uint64(at), h.First+uint64(at+n))
		if err != nil {
			return chain.WrongRoot, "the records do not hash to the header's root, and the tree's hashes on disk are missing: " + err.Error()
		}
		for i := range leaves {
			if leaves[i] != s.leaves[at+uint32(i)] {
				differ = append(differ, at+uint32(i))
			}
		}
		tree = tree.Append(leaves...)
		at += n
	}
	if tree.Root() != h.Root || len(differ) == 0 {
		return chain.WrongRoot, ""
	}
	return chain.WrongPayload, s.nameRecords(differ)
}

// nameRecords tells where records stand that are not what they were.
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

// changed says what is wrong with a block that passes by itself, and differs from what the block behind confirms.
func (a *Audit) changed(number, by uint64) verdict {
	s := a.reread(number)
	v := verdict{number: number, what: chain.WrongLink, err: s.err}
	if v.err == nil {
		v.err = fmt.Errorf("%w: the blocks behind it do not follow from it", chain.ErrLink)
	}
	v.detail = fmt.Sprintf("%s: its header was changed: block %d follows another one", s.where(), by)
	if !s.parsed {
		return v
	}
	leaves, err := a.tileLeaves(s.place.First, s.place.First+uint64(len(s.leaves)))
	if err != nil {
		return v
	}
	var differ []uint32
	for i := range leaves {
		if leaves[i] != s.leaves[i] {
			differ = append(differ, uint32(i))
		}
	}
	if len(differ) > 0 {
		v.what = chain.WrongPayload
		v.detail = fmt.Sprintf("%s: %s, and the block was mined again: block %d follows another one", s.where(), s.nameRecords(differ), by)
	}
	return v
}

// tileLeaves reads leaf hashes as they stand on disk; they are good until the next call.
func (a *Audit) tileLeaves(from, to uint64) ([]chain.Hash, error) {
	if a.Levels[0] == nil {
		return nil, fmt.Errorf("%w: there is no file of the leaves", ErrTiles)
	}
	size := int(to-from) * chain.HashSize
	if cap(a.scratch) < size {
		a.scratch = make([]byte, size)
	}
	raw := a.scratch[:size]
	if _, err := a.Levels[0].ReadAt(raw, tiles.OffsetOf(from)); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s ends before hash %d", a.Levels[0].Name(), to)
		}
		return nil, fmt.Errorf("%w: %w", ErrTiles, err)
	}
	a.hashes = a.hashes[:0]
	for at := 0; at < size; at += chain.HashSize {
		a.hashes = append(a.hashes, chain.Hash(raw[at:]))
	}
	return a.hashes, nil
}

// compare holds computed hashes against those on disk.
func (a *Audit) compare(level int, first uint64, run []chain.Hash) error {
	due := tiles.Complete(a.TilesTo, level)
	if first >= due {
		return nil
	}
	run = run[:min(uint64(len(run)), due-first)]
	if !sameHashes(a.Levels[level], first, run, &a.onDisk) {
		a.wrong.any = true
		a.wrong.leaf = a.wrong.leaf || level == 0
		if a.tilesErr == nil {
			a.tilesErr = fmt.Errorf("%w: stored level %d, among hashes %d to %d; the next check of the running node writes them again",
				ErrTiles, level, first, first+uint64(len(run))-1)
		}
	}
	return nil
}

// sameHashes holds hashes against those in a file; buf is memory to use.
func sameHashes(f io.ReaderAt, first uint64, run []chain.Hash, buf *[]byte) bool {
	for len(run) > 0 {
		n := min(len(run), maxChunk)
		if cap(*buf) < n*chain.HashSize {
			*buf = make([]byte, n*chain.HashSize)
		}
		raw := (*buf)[:n*chain.HashSize]
		if _, err := f.ReadAt(raw, tiles.OffsetOf(first)); err != nil {
			return false
		}
		for i := range run[:n] {
			if !bytes.Equal(raw[i*chain.HashSize:(i+1)*chain.HashSize], run[i][:]) {
				return false
			}
		}
		run, first = run[n:], first+uint64(n)
	}
	return true
}

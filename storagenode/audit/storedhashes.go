package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// maxChunk is how many hashes are read from the tree's files at a time.
const maxChunk = 4096

// storedLeaves reads leaf hashes as they are on disk. They are valid until the next call.
func (a *Audit) storedLeaves(from, to uint64) ([]chain.Hash, error) {
	if err := a.Unopened[0]; err != nil {
		return nil, err
	}
	if a.Levels[0] == nil {
		return nil, fmt.Errorf("%w: the file of the leaves is missing", tiles.ErrMismatch)
	}
	size := int(to-from) * chain.HashSize
	a.scratch = slices.Grow(a.scratch[:0], size)[:size]
	if _, err := a.Levels[0].ReadAt(a.scratch, tiles.OffsetOf(from)); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the file of the leaves ends before hash %d", to)
		}
		return nil, fmt.Errorf("%w: %w", tiles.ErrMismatch, err)
	}
	a.hashes = a.hashes[:0]
	for raw := range slices.Chunk(a.scratch, chain.HashSize) {
		a.hashes = append(a.hashes, chain.Hash(raw))
	}
	return a.hashes, nil
}

// compare compares computed hashes with those on disk.
func (a *Audit) compare(level int, first uint64, run []chain.Hash) error {
	due := tiles.Complete(a.TilesTo, level)
	if first >= due || a.Unopened[level] != nil {
		return nil
	}
	run = run[:min(uint64(len(run)), due-first)]
	if !sameHashes(a.Levels[level], first, run, &a.onDisk) {
		a.mismatch.any = true
		a.mismatch.leaf = a.mismatch.leaf || level == 0
		if a.tilesErr == nil {
			a.tilesErr = fmt.Errorf("%w: stored level %d, among hashes %d to %d; "+
				"the next check of the running node writes them again",
				tiles.ErrMismatch, level, first, first+uint64(len(run))-1)
		}
	}
	return nil
}

// sameHashes compares hashes with those in a file, nil if it is missing; buf is memory to use.
func sameHashes(f segment.File, first uint64, run []chain.Hash, buf *[]byte) bool {
	if f == nil {
		return len(run) == 0
	}
	for part := range slices.Chunk(run, maxChunk) {
		size := len(part) * chain.HashSize
		*buf = slices.Grow((*buf)[:0], size)[:size]
		if _, err := f.ReadAt(*buf, tiles.OffsetOf(first)); err != nil {
			return false
		}
		for i := range part {
			if chain.Hash((*buf)[i*chain.HashSize:]) != part[i] {
				return false
			}
		}
		first += uint64(len(part))
	}
	return true
}

// RewriteHashes reads the blocks again, from the first one whose stored hashes were wrong, and writes the wrong hashes
// again. It counts them. Run must have proven the chain up to a trusted hash, so that a hash that differs is wrong, and
// not the block that it belongs to. For a bad block, the leaves on disk are used: blocks behind it have proven them.
func (a *Audit) RewriteHashes(ctx context.Context, write WriteHashes) (fixed uint64, err error) {
	if a.rewriteFrom == nil {
		return 0, nil
	}
	r := rewriter{
		a: a, write: write, builder: a.rewriteFrom.builder, verifier: chain.NewVerifier(a.rewriteFrom.head),
	}
	for number := a.rewriteFrom.head.Height; number < a.Height; number++ {
		if ctx.Err() != nil {
			return r.fixed, context.Cause(ctx)
		}
		if err := r.block(number); err != nil {
			return r.fixed, err
		}
	}
	return r.fixed, nil
}

// WriteHashes writes a run of hashes of a stored level.
type WriteHashes func(level int, first uint64, run []chain.Hash) error

type rewriter struct {
	a        *Audit
	write    WriteHashes
	builder  tiles.Builder
	verifier *chain.Verifier
	fixed    uint64
	raw      []byte
}

// block writes the hashes that a block adds, where they are wrong.
func (r *rewriter) block(number uint64) error {
	s := r.a.reread(number)
	if !s.parsed || s.block.Header.First < r.builder.Size() {
		return nil // the next good block shows where it ends
	}
	first := s.block.Header.First
	head := r.verifier.Head()
	if head.Height != number {
		// Bad blocks precede it. Their leaves on disk are proven.
		tree, builder := head.Tree, r.builder
		for tree.Size() < first {
			leaves, err := r.a.storedLeaves(tree.Size(), min(first, tree.Size()+maxChunk))
			if err != nil {
				return nil
			}
			tree = tree.Append(leaves...)
			if err := builder.Append(leaves, nil, r.compare); err != nil {
				return err
			}
		}
		r.builder = builder
		r.verifier = chain.NewVerifier(
			chain.Head{Height: number, Hash: s.block.Header.Prev, Time: head.Time, Tree: tree})
	}
	leaves, err := r.verifier.TakeHashed(&s.block, s.leaves)
	if err != nil {
		return nil
	}
	return r.builder.Append(leaves, r.verifier.Subtrees(), r.compare)
}

// compare writes a run of hashes if it differs from the file.
func (r *rewriter) compare(level int, first uint64, run []chain.Hash) error {
	if r.a.Unopened[level] != nil || sameHashes(r.a.Levels[level], first, run, &r.raw) {
		return nil
	}
	for i := range run {
		if !sameHashes(r.a.Levels[level], first+uint64(i), run[i:i+1], &r.raw) {
			r.fixed++
		}
	}
	return r.write(level, first, run)
}

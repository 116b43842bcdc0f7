package storagenode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// Summary is what [Verify] found good.
type Summary struct {
	Height  uint64     // blocks
	Records uint64     // in them
	Hash    chain.Hash // of the last block
	Size    uint64     // of the tree
	// Torn is how many bytes stand behind the last block where a write was cut short; the node cuts them off at its
	// next start. They are not counted while a node is at work in the folder: they may be its next block.
	Torn int64
}

// Verify reads a data folder, changes nothing, and checks the whole chain with chain.Verifier from block 0, every payload
// re-hashed, and the tree's hashes against it. A node may be at work in the folder: what it has when Verify comes to the end
// counts. progress, which may be nil, is told how many bytes of the segments are done, and of how many in all.
//
// The first bad block is a [*chain.BlockError]. Where the chain is good and only hashes of the tree are not, the error wraps
// ErrTiles, and the Summary is whole.
func Verify(ctx context.Context, dir string, progress func(done, total int64)) (Summary, error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if info, err := os.Stat(filepath.Join(dir, "segments")); err != nil || !info.IsDir() {
		return Summary{}, errors.Join(fmt.Errorf("%s is not the data folder of a storage node: it has no folder segments", dir), err)
	}
	v := verification{
		dir: dir, verifier: chain.NewVerifier(chain.Head{}), progress: progress,
	}
	if err := v.prepare(); err != nil {
		return Summary{}, err
	}
	defer v.close()
	for i := range v.segments {
		more, err := v.segment(ctx, i)
		if err != nil {
			return v.summary, err
		}
		if !more {
			break
		}
	}
	if v.summary.Height < v.indexed {
		// The segments end between two blocks, or one of them is gone: only the index tells that there was more.
		return v.summary, &chain.BlockError{Block: v.summary.Height, Err: fmt.Errorf(
			"%w: it is missing, the index knows %d blocks", ErrDamaged, v.indexed)}
	}
	return v.summary, v.tilesErr
}

// verification is one run of Verify.
type verification struct {
	dir      string
	verifier *chain.Verifier
	progress func(done, total int64)
	summary  Summary

	segments    []uint64
	done, total int64  // bytes
	indexed     uint64 // blocks that the index knows: they were there whole once

	builder  tiles.Builder
	levels   []*os.File // nil where there is none
	expected []byte
	tilesTo  uint64 // leaves whose hashes must be on disk
	tilesErr error  // the first that is not right
}

func (v *verification) prepare() (err error) {
	synced, err := readSynced(syncedPath(v.dir))
	if err != nil {
		return err
	}
	v.tilesTo = synced.Tree.Size()
	if err := tiles.CheckVersion(filepath.Join(v.dir, "tiles")); err != nil {
		return err
	}
	if v.levels, err = tiles.Files(filepath.Join(v.dir, "tiles")); err != nil {
		return err
	}
	if err := readIndexFile(filepath.Join(v.dir, "index"), func(place) bool { v.indexed++; return true }); err != nil {
		return err
	}
	if v.segments, err = segment.List(filepath.Join(v.dir, "segments")); err != nil {
		return err
	}
	for _, first := range v.segments {
		info, err := os.Stat(v.path(first))
		if err != nil {
			return err
		}
		v.total += info.Size()
	}
	v.progress(0, v.total)
	return nil
}

func (v *verification) path(first uint64) string {
	return filepath.Join(v.dir, "segments", segment.Name(first))
}

func (v *verification) close() {
	for _, f := range v.levels {
		if f != nil {
			_ = f.Close() // only read
		}
	}
}

// bad names the block that is due.
func (v *verification) bad(first uint64, err error) error {
	return &chain.BlockError{Block: v.summary.Height, Err: fmt.Errorf("%s: %w", v.path(first), err)}
}

// segment checks one segment and reports whether the next one is to follow.
func (v *verification) segment(ctx context.Context, i int) (more bool, err error) {
	first := v.segments[i]
	if first != v.summary.Height {
		return false, v.bad(first, fmt.Errorf("%w: it begins with block %d, those before it are missing", ErrDamaged, first))
	}
	f, err := os.Open(v.path(first))
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	last := i == len(v.segments)-1
	header := make([]byte, segment.HeaderSize)
	if got, err := io.ReadFull(f, header); err != nil && last && v.indexed <= first {
		return v.tail(int64(got)) // begun and not finished
	}
	if err := segment.CheckHeader(header, first); errors.Is(err, ErrNewerFormat) {
		return false, fmt.Errorf("%s: %w", v.path(first), err)
	} else if err != nil {
		return false, v.bad(first, err)
	}
	frames := segment.NewFrames(f, segment.HeaderSize, info.Size())
	for ctx.Err() == nil {
		start := frames.Offset()
		frame, err := frames.Next()
		if errors.Is(err, io.EOF) {
			v.done += info.Size()
			return true, nil
		}
		if err == nil {
			err = frame.Err
		}
		// What the index does not know and nothing follows was never acknowledged.
		if errors.Is(err, ErrDamaged) && last && v.indexed <= v.summary.Height &&
			(frame.Err == nil || frames.Offset() == info.Size()) {
			return v.tail(info.Size() - start)
		}
		if errors.Is(err, ErrDamaged) {
			return false, v.bad(first, err)
		}
		if err != nil {
			return false, err
		}
		if err := v.take(frame.Block); err != nil {
			return false, err
		}
		v.progress(v.done+frames.Offset(), max(v.total, v.done+frames.Offset()))
	}
	return false, context.Cause(ctx)
}

// tail counts the bytes of a write that was cut short, unless a node is about to finish it.
func (v *verification) tail(size int64) (more bool, err error) {
	live, err := durable.Locked(v.dir)
	if !live {
		v.summary.Torn = size
	}
	return false, err
}

func (v *verification) take(data []byte) error {
	block, err := chain.ParseBlock(data)
	if err != nil {
		return &chain.BlockError{Block: v.summary.Height, Err: err}
	}
	leaves, err := v.verifier.Take(&block)
	if err != nil {
		return err
	}
	head := v.verifier.Head()
	v.summary.Height, v.summary.Hash, v.summary.Size = head.Height, head.Hash, head.Tree.Size()
	v.summary.Records += uint64(block.Header.Count)
	return v.builder.Append(leaves, v.compare)
}

// compare holds computed hashes against those on disk, up to where they were synced.
func (v *verification) compare(level int, first uint64, run []chain.Hash) error {
	due := tiles.Complete(v.tilesTo, level)
	if v.tilesErr != nil || first >= due {
		return nil
	}
	run = run[:min(uint64(len(run)), due-first)]
	v.expected = v.expected[:0]
	for i := range run {
		v.expected = append(v.expected, run[i][:]...)
	}
	got := make([]byte, len(v.expected))
	f := v.levels[level]
	if f == nil {
		v.tilesErr = fmt.Errorf("%w: level %d is missing in %s", ErrTiles, level, v.dir)
		return nil
	}
	_, err := f.ReadAt(got, tiles.OffsetOf(first))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(got, v.expected) {
		v.tilesErr = fmt.Errorf("%w: %s, among hashes %d to %d; stop the node, remove the folder tiles, and it computes them again",
			ErrTiles, f.Name(), first, first+uint64(len(run))-1)
	}
	return nil
}

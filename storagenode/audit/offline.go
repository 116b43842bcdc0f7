package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// ErrMisplaced: all blocks are good, and something else is at the path of a file or folder of the node.
var ErrMisplaced = errors.New("something else stands in the place of a file of the node")

// ErrNoFiles: the folder has neither blocks nor the index that a node writes when it first starts. So an empty chain
// would mean that nothing was looked at.
var ErrNoFiles = errors.New("the folder has no segments and no index, which a storage node writes at its first " +
	"start: either no node has used it, or its files were removed, or its disk is not mounted")

// Summary is what [Verify] found.
type Summary struct {
	Height  uint64     // good blocks from block 0 on, those that are confirmed as lost included
	Records uint64     // in them
	Hash    chain.Hash // of the last good one
	Size    uint64     // of the tree
	// Torn is the number of bytes after the last block, if a write was cut short. The node cuts them off when it
	// starts. They are not counted while a node runs in the folder: they may be its next block.
	Torn int64

	Findings []wire.Finding // what is wrong, at most chain.MaxFindings
	Bad      []chain.Range  // blocks that are damaged or missing
	Lost     []chain.Range  // blocks that are bad as well, and that a person confirmed as lost
	// Unchecked is the first block that could not be checked, because bad blocks before it hide the tree; 0 if all
	// were.
	Unchecked uint64
}

// Verify reads a data folder and checks the whole chain from block 0: every payload is hashed, and the stored hashes
// are compared. It changes nothing. A node may run in the folder: Verify checks what it has when Verify begins, as
// long as no repair replaces its files. progress may be nil. It is called with the number of segment bytes that are
// done, and of all.
//
// Verify goes on behind bad blocks, like a check of the running node. The error is a [*chain.BlockError] of the first
// bad block that is not confirmed as lost. If there is none and the system cannot read a block, the error is the
// system's. If the chain is good and stored hashes are not, the error wraps [tiles.ErrMismatch], and the Summary is
// complete. If a file of stored hashes cannot be opened, the Summary is complete too, and the error is the system's. If
// only files that are computed from the blocks are misplaced, it wraps [ErrMisplaced]. If nothing shows that a node
// ever used the folder, it wraps [ErrNoFiles].
func Verify(ctx context.Context, dir string, progress func(done, total int64)) (Summary, error) {
	return Folder{Path: dir}.Verify(ctx, progress)
}

// Folder is a data folder that is read offline.
type Folder struct {
	Path   string
	AtRest *atrest.Ring // keys of encrypted files; nil if there are none
}

// Verify is the function [Verify] for a folder that may be encrypted. The error wraps [atrest.ErrNoKey] if a key is
// missing.
func (f Folder) Verify(ctx context.Context, progress func(done, total int64)) (Summary, error) {
	v, err := f.openVerification(progress)
	if err != nil {
		return Summary{}, err
	}
	defer tiles.CloseFiles(v.audit.Levels)
	err = v.audit.Run(ctx)
	v.summarize()
	return v.summary, v.result(err)
}

// ReadFolder passes the blocks of a data folder to give, from block 0 on, each verified against the chain before it
// and with the head behind it. It returns the last head. Like [Verify] it changes nothing, a node may run in the
// folder, and progress may be nil. A block is valid until the next one is passed.
//
// The first block that is not good ends it with a [*chain.BlockError], even if it is confirmed as lost. The end of a
// chain that ends before blocks that the node had stored is such a block too. Other errors wrap [ErrNoFiles], or are
// those of give, the disk and the context; a block that the system cannot read is one of the disk.
func ReadFolder(
	ctx context.Context, dir string, progress func(done, total int64), give func(*chain.Block, chain.Head) error,
) (chain.Head, error) {
	return Folder{Path: dir}.Read(ctx, progress, give)
}

// Read is the function [ReadFolder] for a folder that may be encrypted. The error wraps [atrest.ErrNoKey] if a key is
// missing.
func (f Folder) Read(
	ctx context.Context, progress func(done, total int64), give func(*chain.Block, chain.Head) error,
) (chain.Head, error) {
	v, err := f.openVerification(progress)
	if err != nil {
		return chain.Head{}, err
	}
	defer tiles.CloseFiles(v.audit.Levels)
	return v.passBlocks(ctx, give)
}

// verification is one run of Verify or ReadFolder.
type verification struct {
	dir       folder.Dir
	found     *blockindex.Found
	audit     *Audit
	progress  func(done, total int64)
	summary   Summary
	misplaced []folder.Misplaced
	synced    uint64 // blocks that the node had stored durably

	done, total int64 // bytes
}

// openVerification finds the blocks of a data folder. The files of its audit's Levels must be closed.
func (f Folder) openVerification(progress func(done, total int64)) (*verification, error) {
	dir := f.Path
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if info, err := os.Stat(filepath.Join(dir, "segments")); err != nil && !durable.Absent(err) {
		return nil, err
	} else if err != nil || !info.IsDir() {
		return nil, errors.Join(
			fmt.Errorf("%s is not the data folder of a storage node: it has no folder segments", dir), err)
	}
	var err error
	v := &verification{dir: folder.Dir(dir), progress: progress}
	if v.misplaced, err = v.dir.Misplaced(); err != nil {
		return nil, err
	}
	synced, err := v.dir.ReadSynced()
	if err != nil {
		return nil, err
	}
	if err := tiles.CheckVersion(v.dir.Tiles()); err != nil {
		return nil, err
	}
	v.synced = synced.Height
	lost, err := v.dir.ReadLost()
	if err != nil {
		return nil, err
	}
	files := blockindex.Folder{
		Segments: v.dir.Segments(), Index: v.dir.Index(), Open: segment.WithKeys(segment.OpenFile, f.AtRest),
		Log: hclog.NewNullLogger(),
	}
	v.found, err = blockindex.Find(files, false)
	if errors.Is(err, durable.ErrDamaged) && v.found != nil {
		return nil, &chain.BlockError{Block: v.found.Index.Len(), Err: err}
	} else if err != nil {
		return nil, err
	}
	if used, err := v.dir.IsUsed(); err != nil {
		return nil, err
	} else if !used && v.synced == 0 && len(v.misplaced) == 0 {
		return nil, fmt.Errorf("nothing was checked in %s: %w", dir, ErrNoFiles)
	}
	if err := v.judgeRest(); err != nil {
		return nil, err
	}
	levels, unopened := tiles.Files(files.Open, v.dir.Tiles())
	for _, s := range v.found.Segments {
		v.total += s.Size
	}
	v.progress(0, v.total)
	v.audit = New(Config{
		Segments: files.Segments, Open: files.Open, Index: v.found.Index, Height: v.found.Index.Len(), Threads: 1,
		Lost: lost, UnreadApart: true, Levels: levels, Unopened: unopened,
		TilesTo: synced.Tree.Size(),
		Read: func(_ context.Context, bytes int64) error {
			v.done += bytes
			v.progress(min(v.done, v.total), v.total)
			return nil
		},
	})
	return v, nil
}

// judgeRest decides whether the bytes after the last block are a write that was cut short, or damaged blocks.
func (v *verification) judgeRest() error {
	index, rest := v.found.Index, v.found.Rest
	if rest == nil {
		return nil
	}
	if rest.Segment == v.found.Segments[len(v.found.Segments)-1].First && rest.Torn {
		live, err := durable.Locked(string(v.dir))
		if !live {
			v.summary.Torn = rest.Size
		}
		return err
	}
	due := uint64(0)
	if last, _, ok := index.Last(); ok && !last.Lost() {
		due = last.Next()
	}
	index.AddSegment(rest.Segment)
	if len(rest.Frames) == 0 {
		index.Add(blockindex.Place{First: due})
	}
	for _, p := range rest.Frames {
		p.First = due
		index.Add(p)
	}
	return nil
}

func (v *verification) summarize() {
	a, s := v.audit, &v.summary
	head, _ := a.Head()
	s.Height = head.Height
	if a.firstBad != nil {
		head, s.Height = a.goodPrefix, a.firstBad.Block
	}
	if u := &a.Unread; u.Err != nil && u.Blocks[0].From < s.Height {
		head, s.Height = u.prefix, u.Blocks[0].From
	}
	s.Hash, s.Size = head.Hash, head.Tree.Size()
	s.Records = s.Size - min(s.Size, head.Height)
	s.Bad, s.Lost = a.Bad, a.Confirmed
	for _, m := range v.misplaced {
		s.Findings = append(s.Findings, m.Finding())
	}
	s.Findings = append(append(s.Findings, a.Findings...), a.Unread.Findings...)
	if a.Height < v.synced {
		s.Findings = append(s.Findings, wire.Finding{Block: a.Height, What: chain.WrongShort})
		s.Bad = chain.AddRange(slices.Clone(s.Bad), chain.Range{From: a.Height, To: v.synced})
	}
	s.Findings = s.Findings[:min(len(s.Findings), chain.MaxFindings)]
	if a.Unchecked < a.Height {
		s.Unchecked = a.Unchecked
	}
}

// result is the error of Verify, given that of the audit.
func (v *verification) result(err error) error {
	a := v.audit
	switch {
	case err != nil:
		return err
	case a.firstBad != nil:
		_, seg, _ := a.Index.Get(a.firstBad.Block)
		return &chain.BlockError{Block: a.firstBad.Block, Err: fmt.Errorf("%s: %w", a.path(seg), a.firstBad.Err)}
	case a.Unread.Err != nil:
		return fmt.Errorf("the check is not complete, %s cannot be read: %w",
			countText(chain.CountBlocks(a.Unread.Blocks)), a.Unread.Err)
	case a.Unchecked < a.Height:
		return &chain.BlockError{
			Block: a.Unchecked, Err: fmt.Errorf("%w: lost blocks before it hide the tree", durable.ErrDamaged),
		}
	case a.Height < v.synced:
		return v.short()
	case a.tilesErr != nil:
		return a.tilesErr
	case errors.Join(a.Unopened...) != nil:
		return fmt.Errorf("all blocks are good, and the stored hashes are not compared: %w", errors.Join(a.Unopened...))
	case len(v.misplaced) > 0:
		return fmt.Errorf("%w: %s; the next check or start of the node moves it aside",
			ErrMisplaced, v.misplaced[0].Finding().Detail)
	}
	v.progress(v.total, v.total)
	return nil
}

// short is the error of a chain that ends before blocks that the node had stored.
func (v *verification) short() error {
	return &chain.BlockError{Block: v.audit.Height, Err: fmt.Errorf(
		"%w: the chain ends before it, and the node had stored %d blocks (tiles/synced)", durable.ErrDamaged, v.synced)}
}

func countText(blocks uint64) string {
	if blocks == 1 {
		return "1 block"
	}
	return fmt.Sprintf("%d blocks", blocks)
}

func (v *verification) passBlocks(
	ctx context.Context, give func(*chain.Block, chain.Head) error,
) (chain.Head, error) {
	verifier := chain.NewVerifier(chain.Head{})
	reader := newReader(v.audit)
	defer reader.close()
	for number := range v.audit.Height {
		s, err := reader.next(ctx, number)
		if err != nil {
			return verifier.Head(), err
		}
		if s.unread != nil && !s.parsed {
			return verifier.Head(), fmt.Errorf("block %d: %w", number, s.unread)
		}
		if s.err != nil {
			err := fmt.Errorf("%s: %w", segment.Name(s.segment), s.err)
			return verifier.Head(), &chain.BlockError{Block: number, Err: err}
		}
		if _, err := verifier.TakeHashed(&s.block, s.leaves); err != nil {
			return verifier.Head(), err
		}
		if err := give(&s.block, verifier.Head()); err != nil {
			return verifier.Head(), err
		}
		if err := v.audit.Read(ctx, segment.FrameHeader+int64(s.place.Length)); err != nil {
			return verifier.Head(), err
		}
	}
	if v.audit.Height < v.synced {
		return verifier.Head(), v.short()
	}
	v.progress(v.total, v.total)
	return verifier.Head(), nil
}

package storagenode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// Summary is what [Verify] found.
type Summary struct {
	Height  uint64     // blocks that are good from 0 on, those that are confirmed as lost counted
	Records uint64     // in them
	Hash    chain.Hash // of the last good one
	Size    uint64     // of the tree
	// Torn is how many bytes stand behind the last block where a write was cut short; the node cuts them off at its
	// next start. They are not counted while a node is at work in the folder: they may be its next block.
	Torn int64

	Findings []chain.Finding // what is wrong, at most chain.MaxFindings
	Bad      []chain.Range   // blocks that are damaged or missing
	Lost     []chain.Range   // blocks that are bad, too, and that a person confirmed as lost
	// Unchecked is the first block that could not be looked at, because bad blocks before it hide the tree; 0 where all could.
	Unchecked uint64
}

// Verify reads a data folder, changes nothing, and checks the whole chain with chain.Verifier from block 0, every payload
// re-hashed, and the tree's hashes against it. A node may be at work in the folder: what it has when Verify begins counts, as
// long as no repair replaces its files. progress, which may be nil, is told how many bytes of the segments are done, and of how
// many in all.
//
// It goes on behind bad blocks as a check of the running node does. The error is a [*chain.BlockError] of the first bad block that
// is not confirmed as lost. Where the chain is good and only hashes of the tree are not, the error wraps ErrTiles, and the Summary
// is whole. Where only something else stands in the place of a file that is computed from the blocks, it wraps
// ErrMisplaced.
func Verify(ctx context.Context, dir string, progress func(done, total int64)) (Summary, error) {
	v, err := openVerification(dir, progress)
	if err != nil {
		return Summary{}, err
	}
	err = v.audit.run(ctx)
	v.summarise()
	return v.summary, errors.Join(v.verdict(err), v.close())
}

// verification is one run of Verify. Its node is never opened: it only finds the blocks' places, as Open does.
type verification struct {
	n        *Node
	audit    *Audit
	progress func(done, total int64)
	summary  Summary
	strange  []misplaced // in the place of files of the node

	done, total int64 // bytes
}

// openVerification finds the blocks of a data folder. What it returns must be closed.
func openVerification(dir string, progress func(done, total int64)) (*verification, error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if info, err := os.Stat(filepath.Join(dir, "segments")); err != nil || !info.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is not the data folder of a storage node: it has no folder segments", dir), err)
	}
	cfg := Config{Dir: dir}
	cfg.setDefaults()
	v := &verification{n: newNode(cfg, nil), progress: progress}
	if err := v.prepare(); err != nil {
		return nil, errors.Join(err, v.n.files.close())
	}
	return v, nil
}

func (v *verification) close() error {
	closeAll(v.audit.Levels)
	return v.n.files.close()
}

func (v *verification) prepare() error {
	n := v.n
	var err error
	if v.strange, err = n.findMisplaced(); err != nil {
		return err
	}
	synced, err := readSynced(n.syncedPath())
	if err != nil {
		return err
	}
	if err := tiles.CheckVersion(n.tilesDir()); err != nil {
		return err
	}
	lost, err := readLost(n.cfg.Dir)
	if err != nil {
		return err
	}
	segments, err := n.survey()
	if err != nil {
		return err
	}
	if _, err := n.readIndex(segments); err != nil {
		return err
	}
	if err := n.scan(segments); errors.Is(err, ErrDamaged) {
		return &chain.BlockError{Block: n.index.Len(), Err: err}
	} else if err != nil {
		return err
	}
	if err := v.rest(segments); err != nil {
		return err
	}
	levels, err := tiles.Files(n.tilesDir())
	if err != nil {
		return err
	}
	v.audit = n.newAudit(n.index.Len(), levels)
	v.audit.Lost, v.audit.TilesTo = lost, synced.Tree.Size()
	for _, s := range segments {
		v.total += s.size
	}
	v.progress(0, v.total)
	v.audit.read = func(_ context.Context, bytes int64) error {
		v.done += bytes
		v.progress(min(v.done, v.total), v.total)
		return nil
	}
	return nil
}

// rest judges what stands behind the last block: a write that was cut short, or blocks that are damaged.
func (v *verification) rest(segments []found) error {
	n, rest := v.n, v.n.rest
	if rest == nil {
		return nil
	}
	if rest.seg == segments[len(segments)-1].first && rest.torn {
		live, err := durable.Locked(n.cfg.Dir)
		if !live {
			v.summary.Torn = rest.size
		}
		return err
	}
	due := uint64(0)
	if last, _, ok := n.index.Last(); ok && !last.Lost() {
		due = last.Next()
	}
	n.index.AddSegment(rest.seg)
	if len(rest.frames) == 0 {
		n.index.Add(Place{First: due})
	}
	for _, p := range rest.frames {
		p.First = due
		n.index.Add(p)
	}
	return nil
}

func (v *verification) summarise() {
	a, s := v.audit, &v.summary
	head := a.verifier.Head()
	s.Height = head.Height
	if a.first != nil {
		head, s.Height = a.prefix, a.first.Block
	}
	s.Hash, s.Size = head.Hash, head.Tree.Size()
	s.Records = s.Size - min(s.Size, head.Height)
	s.Bad, s.Lost = a.bad, a.confirmed
	for _, m := range v.strange {
		s.Findings = append(s.Findings, chain.Finding{Block: m.block, What: chain.WrongFile, Detail: m.text})
	}
	s.Findings = append(s.Findings, a.findings...)
	s.Findings = s.Findings[:min(len(s.Findings), chain.MaxFindings)]
	if a.unchecked < a.Height {
		s.Unchecked = a.unchecked
	}
}

func (v *verification) verdict(err error) error {
	a := v.audit
	switch {
	case err != nil:
		return err
	case a.first != nil:
		_, seg, _ := a.Index.Get(a.first.Block)
		return &chain.BlockError{Block: a.first.Block, Err: fmt.Errorf("%s: %w", filepath.Join(a.Dir, segment.Name(seg)), a.first.Err)}
	case a.unchecked < a.Height:
		return &chain.BlockError{Block: a.unchecked, Err: fmt.Errorf("%w: lost blocks before it hide the tree", ErrDamaged)}
	case a.tilesErr != nil:
		return a.tilesErr
	case len(v.strange) > 0:
		return fmt.Errorf("%w: %s; the next check or start of the node moves it aside", ErrMisplaced, v.strange[0].text)
	}
	v.progress(v.total, v.total)
	return nil
}

package storagenode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// newSuffix marks a segment that is being rewritten. A start removes it.
const newSuffix = segment.NewSuffix

// maxAside is the number of replaced blocks of a segment that are copied to quarantine/ one by one. If there are more,
// the whole old file is kept there.
const maxAside = 8

// rewrite writes a segment again, with received blocks in the place of damaged and missing ones. It belongs to the
// goroutine that holds the mu of its repair. The old file stays as it is until the new one is complete and synced.
type rewrite struct {
	n   *Node
	seg uint64
	old segment.File // nil if it is missing, or the system cannot open it

	path      string // of the new file
	file      segment.File
	size      int64
	places    []blockindex.Place // of the blocks from seg on
	received  []chain.Range
	lost      []chain.Range // blocks that are neither received nor in the old file
	aside     int           // old frames that were copied to quarantine/
	keepWhole bool          // the whole old file is to be kept
	unopened  bool          // the system cannot open the old file
	frame     []byte
	sealed    []byte // a frame of the new file, if that is encrypted
}

func (w *rewrite) next() uint64 { return w.seg + uint64(len(w.places)) }

// replaceBlock puts a proven block into the place of one that is damaged or missing. The repair's mu is held.
func (n *Node) replaceBlock(r *incomingRepair, block *chain.Block) error {
	number := block.Header.Block
	_, seg, _ := n.index.Get(number)
	if r.rewrite != nil && (r.rewrite.seg != seg || number < r.rewrite.next()) {
		if err := n.finishRewrite(r); err != nil {
			return err
		}
	}
	var err error
	var text string
	if r.rewrite == nil {
		r.rewrite, err = n.beginRewrite(r, seg)
	}
	if err == nil {
		text, err = r.rewrite.put(block)
	}
	if err != nil {
		return n.failRewrite(r, err)
	}
	if text != "" && len(r.changed) < maxChanged {
		r.changed = append(r.changed, text)
	}
	r.noteReceived(block)
	r.reloaded = false
	return nil
}

// failRewrite stops the node after a failed write. If only a resource was missing, or the old file cannot be opened, it
// does not stop the node, and the blocks of the segment are still to be received.
func (n *Node) failRewrite(r *incomingRepair, err error) error {
	if r.rewrite == nil && errors.Is(err, ErrCannotRead) {
		return err
	}
	if w := r.rewrite; w != nil {
		w.close()
		r.rewrite = nil
		if durable.CanRetry(err) {
			_ = os.Remove(w.path) // it takes room; the next rewrite, or a start, removes it too
		}
	}
	return n.failUnlocked(err)
}

// beginRewrite opens the segment that is to be written again. If the system cannot open that file, and that is not for
// lack of descriptors or memory, its content is not needed as long as all of its blocks are to be received. It is kept
// in quarantine/ then.
func (n *Node) beginRewrite(r *incomingRepair, seg uint64) (*rewrite, error) {
	path := n.segmentPath(seg)
	w := &rewrite{n: n, seg: seg, path: path + newSuffix}
	n.mu.Lock()
	err := n.moveMisplacedSegment(path, seg) // a file cannot be renamed over a folder
	if err == nil {
		err = n.moveMisplacedSegment(w.path, seg)
	}
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	w.old, err = segment.OpenExisting(n.cfg.open, path)
	if errors.Is(err, atrest.ErrNoKey) {
		return nil, fmt.Errorf("%w: %w", ErrCannotRead, err)
	} else if durable.CannotRead(err) && !durable.NoResources(err) && n.receivesAll(r, seg) {
		n.log.Error("a segment cannot be opened: its blocks are received again, and the file is kept in quarantine/",
			"file", path, "error", err)
		w.unopened, w.keepWhole = true, true
	} else if durable.CannotRead(err) {
		return nil, cannotRead(err)
	} else if err != nil {
		return nil, err
	} else {
		err = n.reconcileOpenFile(seg, w.old)
	}
	if err == nil || w.unopened {
		w.file, err = segment.WriteHeader(n.cfg.open, n.cfg.AtRest, w.path, os.O_CREATE|os.O_TRUNC, seg)
	}
	if w.file != nil {
		w.size = segment.Start(w.file)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// receivesAll reports whether a repair receives all blocks of a segment, but for those that are known to be lost.
func (n *Node) receivesAll(r *incomingRepair, seg uint64) bool {
	left := chain.CutRanges([]chain.Range{{From: seg, To: n.index.SegmentEnd(seg)}}, r.missing)
	n.mu.Lock()
	left = chain.CutRanges(left, n.lost)
	n.mu.Unlock()
	for _, span := range left {
		for number := span.From; number < span.To; number++ {
			if p, _, ok := n.index.Get(number); ok && !p.Lost() {
				return false
			}
		}
	}
	return true
}

func (w *rewrite) close() {
	if w.old != nil {
		_ = w.old.Close() // only read
	}
	if w.file != nil {
		_ = w.file.Close() // it failed, or was synced
	}
}

// oldFrame reads the frame of a block from the old file; nil if it cannot be read. It is valid until the next call.
func (w *rewrite) oldFrame(p *blockindex.Place) []byte {
	if p.Lost() || w.old == nil {
		return nil
	}
	if info, err := w.old.Stat(); err != nil || p.End() > info.Size() {
		return nil
	}
	size := segment.FrameHeader + int(p.Length)
	w.frame = slices.Grow(w.frame[:0], size)[:size]
	if _, err := w.old.ReadAt(w.frame, p.Offset); err != nil {
		return nil // a bad sector: the bytes are lost
	}
	return w.frame
}

// encrypts reports whether the old or the new file is encrypted, so that frames cannot be copied as they are.
func (w *rewrite) encrypts() bool {
	return w.old != nil && segment.IsEncrypted(w.old) || segment.IsEncrypted(w.file)
}

// reencrypt makes the frame of a block for the new file from that of the old file. It returns nil if that is damaged.
func (w *rewrite) reencrypt(frame []byte, p *blockindex.Place) []byte {
	block, err := segment.OpenFrame(w.old, frame, p.Offset)
	if err != nil {
		return nil
	}
	if h, err := chain.ParseHeader(block); err != nil || h.Block != w.next() {
		return nil
	}
	w.sealed = segment.AppendFrameTo(w.sealed[:0], w.file, w.size, block)
	p.Length = uint32(len(w.sealed) - segment.FrameHeader)
	return w.sealed
}

// copyUpTo copies the frames before a block as they are, damaged ones included, so that nothing is lost that is not
// replaced. What cannot be read becomes a lost block, and the old file is kept then. The same holds for a damaged frame
// that is encrypted, or would have to be.
func (w *rewrite) copyUpTo(number uint64) error {
	for w.next() < number {
		p, _, ok := w.n.index.Get(w.next())
		if !ok {
			return fmt.Errorf("%w: block %d", ErrBehind, w.next())
		}
		frame := w.oldFrame(&p)
		if frame != nil && w.encrypts() {
			frame = w.reencrypt(frame, &p)
		} else if frame != nil {
			segment.SetLength(frame, p.Length)
		}
		if frame == nil {
			w.keepWhole = w.keepWhole || w.old != nil && !p.Lost()
			w.lost = audit.AddLast(w.lost, w.next())
			w.places = append(w.places, blockindex.Place{First: p.First})
			continue
		}
		p.Offset = w.size
		if err := w.write(frame, p); err != nil {
			return err
		}
	}
	return nil
}

// write appends the frame of the next block.
func (w *rewrite) write(frame []byte, p blockindex.Place) error {
	if _, err := w.file.WriteAt(frame, w.size); err != nil {
		return durable.Unchanged(fmt.Errorf("write %s: %w", w.path, err))
	}
	w.size += int64(len(frame))
	w.places = append(w.places, p)
	return nil
}

// put copies the blocks before a received one and adds that. It copies what was in its place to quarantine/, and says
// what was wrong with it.
func (w *rewrite) put(block *chain.Block) (text string, err error) {
	h := &block.Header
	if err := w.copyUpTo(h.Block); err != nil {
		return "", err
	}
	p, _, _ := w.n.index.Get(h.Block)
	old := w.oldFrame(&p)
	plain := segment.AppendFrame(nil, block.Bytes())
	was := w.inClear(old, &p)
	if text = describe(block, plain, was); w.unopened {
		text = fmt.Sprintf("block %d: its file could not be opened", h.Block)
	}
	if old == nil {
		w.keepWhole = w.keepWhole || w.old != nil
	} else if !bytes.Equal(plain, was) {
		if w.aside++; w.aside > maxAside {
			w.keepWhole = true
		} else {
			name := fmt.Sprintf("%s-block-%d", segment.Name(w.seg), h.Block)
			header := bytes.NewReader(segment.FileHeader(w.old))
			if _, err := w.n.dir.CopyAside(name, io.MultiReader(header, bytes.NewReader(old))); err != nil {
				return "", err
			}
		}
	}
	frame := segment.AppendFrameTo(nil, w.file, w.size, block.Bytes())
	length := uint32(len(frame) - segment.FrameHeader)
	p = blockindex.Place{First: h.First, Offset: w.size, Length: length, Count: h.Count}
	if err := w.write(frame, p); err != nil {
		return "", err
	}
	w.received = audit.AddLast(w.received, h.Block)
	return text, nil
}

// inClear returns an old frame with its block in clear: as it is if the old file is not encrypted, else that of the
// block, or an empty one if the block does not decrypt. old may be nil.
func (w *rewrite) inClear(old []byte, p *blockindex.Place) []byte {
	if old == nil || !segment.IsEncrypted(w.old) {
		return old
	}
	block, err := segment.OpenFrame(w.old, bytes.Clone(old), p.Offset)
	if err != nil {
		return make([]byte, segment.FrameHeader)
	}
	return segment.AppendFrame(nil, block)
}

// copyRewrite copies what is left of the segment that is being rewritten. The end of the context, whose cause is the
// error, leaves the copy as far as it is. The repair's mu is held.
func (n *Node) copyRewrite(ctx context.Context, r *incomingRepair) error {
	w := r.rewrite
	if w == nil {
		return nil
	}
	for end := n.index.SegmentEnd(w.seg); w.next() < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.copyUpTo(w.next() + 1); err != nil {
			return n.failRewrite(r, err)
		}
	}
	return nil
}

// finishRewrite completes the segment that is being rewritten, and puts it in the place of the old one. The repair's
// mu is held.
func (n *Node) finishRewrite(r *incomingRepair) error {
	w := r.rewrite
	if w == nil {
		return nil
	}
	// Most is copied and synced while blocks can be put.
	err := w.copyUpTo(n.index.SegmentEnd(w.seg))
	if err == nil {
		err = w.file.Sync()
	}
	if err == nil {
		err = n.locked(w.replace)
	}
	if err != nil {
		return n.failRewrite(r, err)
	}
	n.log.Info("a segment was repaired", "file", segment.Name(w.seg), "blocks", chain.CountBlocks(w.received))
	r.missing = chain.CutRanges(r.missing, w.received)
	for _, span := range chain.CutRanges(w.lost, r.missing) {
		r.lost = chain.AddRange(r.lost, span)
	}
	w.close()
	r.rewrite = nil
	return nil
}

// replace puts the new file in the place of the old one. The node's mu is held.
func (w *rewrite) replace() error {
	n := w.n
	if err := n.flush(); err != nil {
		return err
	}
	copied := w.size
	if err := w.copyUpTo(n.index.SegmentEnd(w.seg)); err != nil {
		return err
	}
	if w.size > copied {
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	if err := w.keepOld(); err != nil {
		return err
	}
	changed := w.changedPlaces()
	if len(changed) > 0 { // a start must not use the entries before they are right
		if err := n.indexFile.Spoil(changed[0]); err != nil {
			return err
		}
	}
	path := n.segmentPath(w.seg)
	if err := n.files.replace(w.seg, w.places, func() error { return durable.Rename(w.path, path) }); err != nil {
		return err
	}
	if len(changed) > 0 {
		err := n.indexFile.Put(changed...)
		if err == nil {
			err = n.indexFile.Sync()
		}
		if durable.CanRetry(err) { // until a check writes the entries, a start scans the segments
			n.log.Warn("entries of the index cannot be written now", "file", n.dir.Index(), "error", err)
		} else if err != nil {
			return err
		}
	}
	if n.writer == nil || n.writer.First() != w.seg {
		return nil
	}
	if err := n.continueWriter(w.seg, w.size); durable.CannotRead(err) {
		n.log.Error("a segment was repaired and cannot be opened; the next block begins a new one", "file", path,
			"error", err)
	} else if err != nil {
		return err
	}
	return nil
}

// changedPlaces lists the blocks whose place is not the one in the index.
func (w *rewrite) changedPlaces() (blocks []uint64) {
	for i := range w.places {
		if p, _, _ := w.n.index.Get(w.seg + uint64(i)); p != w.places[i] {
			blocks = append(blocks, w.seg+uint64(i))
		}
	}
	return blocks
}

// keepOld gives the old file a second name in quarantine/, if bytes of it would be lost that were not copied there one
// by one.
func (w *rewrite) keepOld() error {
	if w.unopened { // a second name needs rights on the file, another name does not
		_, err := w.n.moveAside(w.n.segmentPath(w.seg))
		return err
	}
	if w.old == nil {
		return nil
	}
	info, err := w.old.Stat()
	if err != nil {
		return err
	}
	end := segment.Start(w.old)
	for i := range w.places {
		if p, _, _ := w.n.index.Get(w.seg + uint64(i)); !p.Lost() {
			end = max(end, p.End())
		}
	}
	if !w.keepWhole && info.Size() <= end {
		return nil
	}
	return w.n.dir.LinkAside(w.n.segmentPath(w.seg))
}

// describe says what was wrong with the old frame in the place of a block's frame; "" for nothing.
func describe(block *chain.Block, frame, old []byte) string {
	number, data := block.Header.Block, block.Bytes()
	if old == nil {
		return fmt.Sprintf("block %d: was missing", number)
	}
	was := old[segment.FrameHeader:]
	if len(was) == 0 {
		return fmt.Sprintf("block %d: its encrypted frame was damaged", number)
	}
	differ, first := max(len(was), len(data))-min(len(was), len(data)), -1
	for i := range min(len(was), len(data)) {
		if was[i] != data[i] {
			if differ++; first < 0 {
				first = i
			}
		}
	}
	switch {
	case bytes.Equal(frame, old):
		return ""
	case differ == 0:
		return fmt.Sprintf("block %d: the frame around it was damaged, the block was not", number)
	case first < 0:
		first = min(len(was), len(data))
	}
	unit := "bytes"
	if differ == 1 {
		unit = "byte"
	}
	return fmt.Sprintf("block %d: %d %s differed, the first at offset %d of the block (%s)",
		number, differ, unit, first, partOf(block, first))
}

// partOf names the part of a block that a byte belongs to.
func partOf(block *chain.Block, offset int) string {
	head := chain.BlockOverhead(block.Header.Count)
	if offset < chain.HeaderSize {
		return "header"
	}
	if offset < head {
		return "table of ends"
	}
	for i := range block.Header.Count {
		if head += len(block.Encoded(i)); offset < head {
			return fmt.Sprintf("record %d", i)
		}
	}
	return "behind the last record"
}

package storagenode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// newSuffix marks a segment that is being made anew: it is of no use after a crash.
const newSuffix = ".new"

// maxAside is up to how many replaced blocks of a segment are moved aside one by one; of more the whole old file is kept.
const maxAside = 8

// rewrite makes a segment anew, with received blocks in the place of damaged and missing ones. It belongs to the goroutine that
// holds its receipt's mu. The old file stays as it is until the new one is whole and synced.
type rewrite struct {
	n   *Node
	seg uint64
	old *auditFile // nil where it is gone

	path   string // of the new file
	file   segment.File
	size   int64
	places []Place // of the blocks from seg on
	got    []chain.Range
	aside  int  // old frames that were moved aside
	whole  bool // the whole old file is to be kept
	frame  []byte
}

func (w *rewrite) next() uint64 { return w.seg + uint64(len(w.places)) }

// putHole puts a proven block into the place of one that is damaged or missing; the receipt's mu is held.
func (n *Node) putHole(r *receipt, block *chain.Block) error {
	number := block.Header.Block
	_, seg, _ := n.index.Get(number)
	if r.rewrite != nil && (r.rewrite.seg != seg || number < r.rewrite.next()) {
		if err := n.finishRewrite(r); err != nil {
			return err
		}
	}
	err := error(nil)
	if r.rewrite == nil {
		r.rewrite, err = n.beginRewrite(seg)
	}
	if err == nil {
		err = r.rewrite.copyUpTo(number)
	}
	var text string
	if err == nil {
		text, err = r.rewrite.put(block)
	}
	if err != nil {
		return n.failRewrite(r, err)
	}
	if text != "" && len(r.changed) < maxChanged {
		r.changed = append(r.changed, text)
	}
	r.blocks++
	r.bytes += uint64(len(block.Bytes()))
	r.revived = false
	return nil
}

// failRewrite stops the node after a failed write.
func (n *Node) failRewrite(r *receipt, err error) error {
	if w := r.rewrite; w != nil {
		w.close()
		r.rewrite = nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(err, ErrFailed) {
		return err
	}
	return n.fail(err)
}

func (n *Node) beginRewrite(seg uint64) (*rewrite, error) {
	a := n.newAudit(0, nil)
	w := &rewrite{n: n, seg: seg, path: a.path(seg) + newSuffix}
	n.mu.Lock()
	// No file can be renamed over a folder.
	err := errors.Join(n.clearSegment(a.path(seg), seg), n.clearSegment(w.path, seg))
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if w.old, err = a.openOnce(seg); err != nil {
		return nil, err
	}
	var there segment.File
	if w.old != nil {
		there = w.old.File
	}
	if err = n.heed(seg, there); err == nil {
		w.file, w.size, err = segment.Begin(n.cfg.open, w.path, seg)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *rewrite) close() {
	if w.old != nil {
		_ = w.old.Close() // only read
	}
	if w.file != nil {
		_ = w.file.Close() // it failed, or was synced
	}
}

// oldFrame reads the frame of a block as it stands in the old file; nil where it cannot be read. It is good until the next call.
func (w *rewrite) oldFrame(p *Place) []byte {
	if p.Lost() || w.old == nil {
		return nil
	}
	size := segment.FrameHeader + int(p.Length)
	if p.Offset+int64(size) > w.old.size {
		if info, err := w.old.Stat(); err != nil || p.Offset+int64(size) > info.Size() {
			return nil
		}
	}
	w.frame = slices.Grow(w.frame[:0], size)[:size]
	if _, err := w.old.ReadAt(w.frame, p.Offset); err != nil {
		return nil // a bad sector: the bytes are lost
	}
	return w.frame
}

// copyUpTo copies the frames before a block as they are, the damaged ones too, so that nothing is lost that is not replaced. What
// cannot be read is known as lost.
func (w *rewrite) copyUpTo(number uint64) error {
	for w.next() < number {
		p, _, ok := w.n.index.Get(w.next())
		if !ok {
			return fmt.Errorf("%w: block %d", ErrBehind, w.next())
		}
		frame := w.oldFrame(&p)
		if frame == nil {
			w.places = append(w.places, Place{First: p.First})
			continue
		}
		segment.SetLength(frame, p.Length)
		if _, err := w.file.WriteAt(frame, w.size); err != nil {
			return fmt.Errorf("write %s: %w", w.path, err)
		}
		p.Offset = w.size
		w.size += int64(len(frame))
		w.places = append(w.places, p)
	}
	return nil
}

// put adds a received block, moves what stood in its place aside, and says what was wrong with that.
func (w *rewrite) put(block *chain.Block) (text string, err error) {
	h := &block.Header
	p, _, _ := w.n.index.Get(h.Block)
	old := w.oldFrame(&p)
	data := block.Bytes()
	text = describe(block, old)
	if old == nil {
		w.whole = w.whole || w.old != nil
	} else if frame := segment.AppendFrame(nil, data); string(frame) != string(old) {
		if w.aside++; w.aside > maxAside {
			w.whole = true
		} else if err := w.keep(h.Block, old); err != nil {
			return "", err
		}
	}
	frame := segment.AppendFrame(w.frame[:0], data)
	w.frame = frame
	if _, err := w.file.WriteAt(frame, w.size); err != nil {
		return "", fmt.Errorf("write %s: %w", w.path, err)
	}
	w.places = append(w.places, Place{First: h.First, Offset: w.size, Length: uint32(len(data)), Count: h.Count})
	w.size += int64(len(frame))
	w.got = addLast(w.got, h.Block)
	return text, nil
}

// keep moves the bytes of a damaged frame to quarantine/.
func (w *rewrite) keep(number uint64, frame []byte) error {
	to, err := w.n.aside(fmt.Sprintf("%s-block-%d", segment.Name(w.seg), number))
	if err != nil {
		return err
	}
	return w.n.copyAside(to, strings.NewReader(string(frame)))
}

// finishRewrite completes the segment that is being made anew, and puts it in the place of the old one; the receipt's mu is held.
func (n *Node) finishRewrite(r *receipt) error {
	w := r.rewrite
	if w == nil {
		return nil
	}
	// Most is copied and synced while blocks can be put.
	err := w.copyUpTo(n.index.SegmentEnd(w.seg))
	if err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		return n.failRewrite(r, err)
	}
	n.mu.Lock()
	err = n.flushed()
	if err == nil && errors.Is(n.stopped, ErrFailed) {
		err = n.stopped
	}
	if err == nil {
		err = w.replace()
	}
	n.mu.Unlock()
	if err != nil {
		return n.failRewrite(r, err)
	}
	n.log.Info("a segment was repaired", "file", segment.Name(w.seg), "blocks", chain.CountBlocks(w.got))
	r.missing = chain.CutRanges(r.missing, w.got)
	w.close()
	r.rewrite = nil
	return nil
}

// replace puts the new file in the place of the old one; the node's mu is held.
func (w *rewrite) replace() error {
	n := w.n
	copied := w.size
	if err := w.copyUpTo(n.index.SegmentEnd(w.seg)); err != nil {
		return err
	}
	if w.size > copied {
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	if err := w.keepWhole(); err != nil {
		return err
	}
	changed := w.changedPlaces()
	if len(changed) > 0 {
		// Until the entries are right, the next start shall not believe them.
		if err := n.indexFile.Spoil(changed[0]); err != nil {
			return err
		}
	}
	if err := w.swap(); err != nil {
		return err
	}
	if err := durable.SyncDir(n.segmentsDir()); err != nil {
		return err
	}
	for _, block := range changed {
		p, _, _ := n.index.Get(block)
		if err := n.indexFile.Put(block, &p); err != nil {
			return err
		}
	}
	if len(changed) > 0 {
		if err := n.indexFile.Sync(); err != nil {
			return err
		}
	}
	if n.writer == nil || n.writer.First() != w.seg {
		return nil
	}
	err := n.writer.Close()
	n.writer = nil
	if err != nil {
		return err
	}
	n.writer, err = segment.Continue(n.cfg.open, n.segmentsDir(), w.seg, w.size)
	return err
}

// changedPlaces are the blocks whose place is not the one that the index has.
func (w *rewrite) changedPlaces() (blocks []uint64) {
	for i := range w.places {
		if p, _, _ := w.n.index.Get(w.seg + uint64(i)); p != w.places[i] {
			blocks = append(blocks, w.seg+uint64(i))
		}
	}
	return blocks
}

// keepWhole gives the old file a second name in quarantine/, where bytes of it would be lost that were not moved aside one by one.
func (w *rewrite) keepWhole() error {
	if w.old == nil {
		return nil
	}
	info, err := w.old.Stat()
	if err != nil {
		return err
	}
	end := int64(segment.HeaderSize)
	for i := range w.places {
		if p, _, _ := w.n.index.Get(w.seg + uint64(i)); !p.Lost() {
			end = max(end, p.End())
		}
	}
	if !w.whole && info.Size() <= end {
		return nil
	}
	to, err := w.n.aside(segment.Name(w.seg))
	if err != nil {
		return err
	}
	if err := os.Link(strings.TrimSuffix(w.path, newSuffix), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(w.n.quarantineDir())
}

// swap renames the new file and changes the places at one moment for all readers.
func (w *rewrite) swap() error {
	n := w.n
	n.files.mu.Lock()
	defer n.files.mu.Unlock()
	if err := os.Rename(w.path, strings.TrimSuffix(w.path, newSuffix)); err != nil {
		return err
	}
	n.index.AddSegment(w.seg)
	n.index.Set(w.seg, w.places)
	n.swaps.Add(1)
	if f := n.files.open[w.seg]; f != nil {
		delete(n.files.open, w.seg)
		return f.Close()
	}
	return nil
}

// steady reads something again when it failed and a segment was replaced meanwhile.
func (n *Node) steady(read func() error) error {
	for {
		swaps := n.swaps.Load()
		if err := read(); err == nil || n.swaps.Load() == swaps {
			return err
		}
	}
}

// removeNew removes what a crash left of segments that were being made anew.
func (n *Node) removeNew() error {
	left, err := filepath.Glob(filepath.Join(n.segmentsDir(), "*"+newSuffix))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// describe says what was wrong with the frame that stood in a block's place; "" for nothing.
func describe(block *chain.Block, old []byte) string {
	number, data := block.Header.Block, block.Bytes()
	if old == nil {
		return fmt.Sprintf("block %d: was missing", number)
	}
	was := old[segment.FrameHeader:]
	differ, first := max(len(was), len(data))-min(len(was), len(data)), -1
	for i := range min(len(was), len(data)) {
		if was[i] != data[i] {
			if differ++; first < 0 {
				first = i
			}
		}
	}
	switch {
	case differ == 0 && string(segment.AppendFrame(nil, data)) == string(old):
		return ""
	case differ == 0:
		return fmt.Sprintf("block %d: the frame around it was damaged, the block was not", number)
	case first < 0:
		first = min(len(was), len(data))
	}
	bytes := "bytes"
	if differ == 1 {
		bytes = "byte"
	}
	return fmt.Sprintf("block %d: %d %s differed, the first at offset %d of the block (%s)", number, differ, bytes, first, partOf(block, first))
}

// partOf names the part of a block that a byte is in.
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

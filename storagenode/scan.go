package storagenode

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// maxGap bounds how many blocks in a row may be lost: a wrong file name must not fill the memory with places.
const maxGap = 1 << 20

// scan finds the blocks behind those that the index knows, frame by frame. Damaged frames become places all the same
// when a good block follows that shows what they were; else they are left out, and settle moves them aside if nothing
// follows.
func (n *Node) scan(segments []found) error {
	for i, s := range segments {
		height := n.index.Len()
		if i+1 < len(segments) && segments[i+1].first <= height {
			continue // all of it is known
		}
		offset := int64(segment.HeaderSize)
		p, seg, ok := n.index.Last()
		if ok && seg > s.first {
			continue // a later one is, whose file is gone or was not there yet
		}
		if ok && seg == s.first && !p.Lost() {
			offset = p.Offset + segment.FrameHeader + int64(p.Length)
		}
		if s.first > height && s.first-height > maxGap {
			return fmt.Errorf("%w: the blocks from %d up to %d, where %s begins, are not here: put their segments back, or move that one away",
				ErrDamaged, height, s.first, segment.Name(s.first))
		}
		if err := n.scanSegment(s, offset); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(n.segmentsDir(), segment.Name(s.first)), err)
		}
	}
	return nil
}

// scanSegment walks over the frames of one segment from an offset on.
func (n *Node) scanSegment(s found, offset int64) error {
	return n.files.try(s.first, func(f segment.File) error {
		frames := segment.NewFrames(f, offset, s.size)
		var bad []Place // damaged frames since the last good one
		torn := true    // of them, the first may be a write that was cut short
		next := max(s.first, n.index.Len())
		for {
			frame, err := frames.Next()
			if errors.Is(err, io.EOF) || errors.Is(err, ErrDamaged) {
				n.leave(s, frames.Offset(), bad, torn)
				return nil
			}
			if err != nil {
				return err
			}
			number := next + uint64(len(bad))
			p, err := n.placeOf(&frame, number)
			if err == nil && !n.admit(p, number, bad) {
				err = fmt.Errorf("%w: its first leaf is %d", ErrDamaged, p.First)
			}
			switch {
			case errors.Is(err, chain.ErrVersion):
				return fmt.Errorf("%w: block %d: %w", ErrNewerFormat, number, err)
			case err != nil:
				n.log.Error("a frame is damaged", "file", segment.Name(s.first), "at", frame.Offset, "block", number, "error", err)
				torn = torn && frame.Err != nil
				bad = append(bad, Place{Offset: frame.Offset, Length: frame.Length})
			default:
				next, bad, torn, n.rest = number+1, nil, true, nil
			}
		}
	})
}

// leftover is what stands behind the last block that was found.
type leftover struct {
	seg    uint64
	frames []Place // damaged ones
	size   int64   // bytes
	torn   bool    // it can be a write that was cut short
}

// leave notes what of a segment belongs to no block; end is where no frame can be found any more.
func (n *Node) leave(s found, end int64, bad []Place, torn bool) {
	from := end
	if len(bad) > 0 {
		from = bad[0].Offset
		torn = torn && len(bad) == 1 && end == s.size
	}
	if from < s.size {
		n.rest = &leftover{seg: s.first, frames: bad, size: s.size - from, torn: torn}
	}
}

// placeOf reads from a frame where its block stands.
func (n *Node) placeOf(frame *segment.Frame, number uint64) (Place, error) {
	if frame.Err != nil {
		return Place{}, frame.Err
	}
	block, err := chain.ParseBlock(frame.Block)
	if err != nil {
		return Place{}, err
	}
	h := block.Header
	if h.Block != number || h.Count == 0 {
		return Place{}, fmt.Errorf("%w: block %d of %d records stands there", ErrDamaged, h.Block, h.Count)
	}
	return Place{First: h.First, Offset: frame.Offset, Length: frame.Length, Count: h.Count}, nil
}

// admit puts a good block behind the index, and before it the blocks that are missing between: those of damaged frames,
// and lost ones. It refuses a block whose first leaf does not leave room for exactly them.
func (n *Node) admit(p Place, number uint64, bad []Place) bool {
	height := n.index.Len()
	due := uint64(0)
	if last, _, ok := n.index.Last(); ok {
		due = last.Next()
	}
	missing := number - height
	if missing == 0 && p.First != due || p.First < due || (p.First-due)/2 < missing {
		return false
	}
	if missing == 1 && len(bad) == 1 && p.First-due-2 < 1<<32-1 {
		bad[0].First, bad[0].Count = due, uint32(p.First-due-1)
		n.index.Add(bad[0])
	} else {
		for range missing {
			n.index.Add(Place{First: due})
		}
	}
	n.index.Add(p)
	return true
}

// settle makes the end of the segments fit the index: what stands behind the last block is moved to quarantine/, and
// the writer is put there.
func (n *Node) settle(segments []found) error {
	last, seg, any := n.index.Last()
	for _, s := range segments {
		end := int64(segment.HeaderSize)
		if any && s.first == seg {
			end = last.Offset + segment.FrameHeader + int64(last.Length)
		}
		var err error
		switch {
		case any && s.first < seg:
			if !s.good {
				err = n.restoreHeader(s)
			}
		case any && s.first == seg:
			if !s.good {
				err = n.restoreHeader(s)
			}
			if err == nil {
				err = n.continueAt(s, end)
			}
		case s.good && s.first == n.index.Len():
			err = n.continueAt(s, end)
		case s.size <= segment.HeaderSize:
			err = n.remove(s)
		default:
			err = n.quarantine(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// continueAt puts the writer at the end of a segment's last block.
func (n *Node) continueAt(s found, end int64) error {
	if s.size > end {
		if err := n.cutTail(s, end); err != nil {
			return err
		}
	}
	if n.writer != nil {
		if err := n.writer.Close(); err != nil {
			return err
		}
	}
	w, err := segment.Continue(n.cfg.open, n.segmentsDir(), s.first, end)
	n.writer = w
	return err
}

// restoreHeader writes a segment's damaged header again, if its first block is good: the header says no more than the
// name and that.
func (n *Node) restoreHeader(s found) error {
	if _, err := n.block(s.first); err != nil {
		return nil
	}
	path := filepath.Join(n.segmentsDir(), segment.Name(s.first))
	n.log.Warn("the damaged header of a segment is written again", "file", path)
	return segment.RestoreHeader(n.cfg.open, path, s.first)
}

// remove deletes a segment that was begun and never held a block.
func (n *Node) remove(s found) error {
	n.index.DropSegment(s.first)
	if err := n.files.forget(s.first); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(n.segmentsDir(), segment.Name(s.first))); err != nil {
		return err
	}
	return durable.SyncDir(n.segmentsDir())
}

// quarantine moves a whole segment aside.
func (n *Node) quarantine(s found) error {
	n.index.DropSegment(s.first)
	if err := n.files.forget(s.first); err != nil {
		return err
	}
	from := filepath.Join(n.segmentsDir(), segment.Name(s.first))
	to, err := n.aside(segment.Name(s.first))
	if err != nil {
		return err
	}
	n.log.Error("a segment that does not belong to the chain is moved aside", "file", from, "to", to)
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(n.quarantineDir()), durable.SyncDir(n.segmentsDir()))
}

// aside is a name in quarantine/ that is free.
func (n *Node) aside(name string) (string, error) {
	return freeName(filepath.Join(n.quarantineDir(), name))
}

// freeName is a path that nothing has, made from another one.
func freeName(base string) (string, error) {
	for i := 0; ; i++ {
		path := fmt.Sprintf("%s.%d", base, i)
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return path, nil
		} else if err != nil {
			return "", err
		}
	}
}

// cutTail moves the bytes behind the last block aside, and cuts them off when they are safe there.
func (n *Node) cutTail(s found, end int64) error {
	if err := n.files.forget(s.first); err != nil {
		return err
	}
	path := filepath.Join(n.segmentsDir(), segment.Name(s.first))
	f, err := n.cfg.open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	to, err := n.aside(fmt.Sprintf("%s-from-%d", segment.Name(s.first), end))
	if err == nil {
		err = n.copyAside(to, io.NewSectionReader(f, end, s.size-end))
	}
	if err == nil {
		n.log.Warn("bytes behind the last whole block are cut off and kept aside",
			"file", path, "at", end, "bytes", s.size-end, "kept", to, "next_block", n.index.Len())
		err = f.Truncate(end)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		err = fmt.Errorf("cut the tail of %s at %d: %w", path, end, err)
	}
	return errors.Join(err, f.Close())
}

func (n *Node) copyAside(path string, from io.Reader) error {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return errors.Join(err, to.Close())
	}
	if err := errors.Join(to.Sync(), to.Close()); err != nil {
		return err
	}
	return durable.SyncDir(n.quarantineDir())
}

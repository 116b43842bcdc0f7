package storagenode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
)

func (n *Node) segmentPath(first uint64) string {
	return filepath.Join(n.dir.Segments(), segment.Name(first))
}

// fitSegmentEnds makes the segments end where the index does: what follows the last block is moved to quarantine/, and
// the writer continues there. If it is not known where the blocks end, nothing is moved.
func (n *Node) fitSegmentEnds(segments []blockindex.Segment) error {
	if n.unread != nil {
		return nil
	}
	last, seg, any := n.index.Last()
	for _, s := range segments {
		var err error
		switch {
		case any && s.First <= seg:
			if !s.HeaderGood {
				err = n.restoreHeader(s.First)
			}
			if err == nil && s.First == seg && s.Unread == nil { // else the next block begins a new segment
				err = n.continueAt(s, last.End())
			}
		case s.HeaderGood && s.First == n.index.Len():
			err = n.continueAt(s, s.Start)
		case s.Size <= s.Start:
			err = n.removeEmpty(s.First)
		default:
			err = n.quarantineSegment(s.First)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// continueAt puts the writer behind a segment's last block. A segment that is not encrypted gets no more blocks if the
// node encrypts.
func (n *Node) continueAt(s blockindex.Segment, end int64) error {
	if s.Size > end {
		err := n.cutTail(s, end)
		if durable.CanRetry(err) {
			n.log.Warn("bytes behind the last whole block stay, because a resource is exhausted",
				"file", n.segmentPath(s.First), "at", end, "error", err)
			if end == s.Start { // the next block begins a file of the same name
				return n.quarantineSegment(s.First)
			}
			return nil // the next block begins a new segment
		}
		if err != nil {
			return n.passOpen(s, end, err)
		}
	}
	switch plain := n.cfg.AtRest.Has() && !s.Encrypted; {
	case plain && end == s.Start:
		return n.removeEmpty(s.First)
	case plain:
		return nil
	}
	return n.passOpen(s, end, n.continueWriter(s.First, end))
}

// passOpen passes over the error of a segment that cannot be opened or read any more: the next block begins a new one,
// unless that would have the same name.
func (n *Node) passOpen(s blockindex.Segment, end int64, err error) error {
	failed, ok := errors.AsType[*os.PathError](err)
	if !ok || failed.Op != "open" && failed.Op != "read" || !durable.OneUnreadable(err) || durable.IsSync(err) ||
		end == s.Start {
		return err
	}
	n.log.Error("a segment cannot be opened, so the next block begins a new one",
		"file", n.segmentPath(s.First), "error", err)
	n.unclean.Store(true)
	return nil
}

// continueWriter makes a segment of that size the one that is written.
func (n *Node) continueWriter(first uint64, size int64) error {
	err := n.closeWriter()
	if err == nil {
		n.writer, err = segment.Continue(n.cfg.open, n.dir.Segments(), first, size)
	}
	return err
}

// rewriteSegments writes the segments again that have blocks from a number on, and always the last one. Before that
// number everything is synced.
func (n *Node) rewriteSegments(from uint64) error {
	segments, err := blockindex.ListSegments(n.blockFolder())
	if err != nil {
		return err
	}
	for i, s := range segments {
		if i < len(segments)-1 && n.index.SegmentEnd(s.First) <= from {
			continue
		}
		if err := n.files.forget(s.First); err != nil {
			return err
		}
		if err := segment.Rewrite(n.cfg.open, n.dir.Segments(), s.First, n.keepUnreadable); err != nil {
			return err
		}
		if n.writer != nil && n.writer.First() == s.First {
			if err := n.continueWriter(s.First, n.writer.Size()); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepUnreadable keeps a segment of which parts cannot be read.
func (n *Node) keepUnreadable(path string) error {
	n.log.Error("parts of a segment cannot be read: it is kept in quarantine/, and those parts are damaged now",
		"file", path)
	n.unclean.Store(true)
	return n.dir.LinkAside(path)
}

// rewriteSmallFiles writes the files again that Mark and sync do not write.
func (n *Node) rewriteSmallFiles() error {
	for _, path := range []string{n.dir.Lost(), n.dir.Ticket()} {
		data, err := durable.ReadFile(path)
		if durable.Absent(err) {
			continue
		}
		if durable.OneUnreadable(err) {
			n.log.Error("a file cannot be read, and is not written again", "file", path, "error", err)
			continue
		}
		if err == nil {
			err = n.cfg.writeFile(path, data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("write %s again: %w", path, err)
		}
	}
	return nil
}

// restoreHeader writes the damaged header of a segment again if its first block is good. The header says no more than
// the file's name and that block.
func (n *Node) restoreHeader(first uint64) error {
	if _, err := n.block(first); err != nil {
		return nil
	}
	n.log.Warn("the damaged header of a segment is written again", "file", n.segmentPath(first))
	return segment.RestoreHeader(n.cfg.open, n.segmentPath(first), first)
}

// removeEmpty deletes a segment that was created and never held a block.
func (n *Node) removeEmpty(first uint64) error {
	n.index.DropSegment(first)
	if err := n.files.forget(first); err != nil {
		return err
	}
	if err := os.Remove(n.segmentPath(first)); err != nil {
		return err
	}
	return durable.SyncDir(n.dir.Segments())
}

// quarantineSegment moves a whole segment to quarantine/.
func (n *Node) quarantineSegment(first uint64) error {
	n.index.DropSegment(first)
	if err := n.files.forget(first); err != nil {
		return err
	}
	to, err := n.dir.MoveAside(n.segmentPath(first))
	if err == nil {
		n.log.Error("a segment that does not belong to the chain was moved aside",
			"file", n.segmentPath(first), "to", to)
	}
	return err
}

// cutTail copies the bytes behind the last block to quarantine/, and cuts them off when they are durable there.
func (n *Node) cutTail(s blockindex.Segment, end int64) error {
	if err := n.files.forget(s.First); err != nil {
		return err
	}
	path := n.segmentPath(s.First)
	f, err := n.cfg.open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-from-%d", segment.Name(s.First), end)
	tail := io.NewSectionReader(f, end, s.Size-end)
	kept, err := n.dir.CopyAside(name, io.MultiReader(bytes.NewReader(segment.FileHeader(f)), tail))
	if err == nil {
		n.log.Warn("bytes behind the last whole block are cut off and kept aside",
			"file", path, "at", end, "bytes", s.Size-end, "kept", kept, "next_block", n.index.Len())
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

// cutChain moves the blocks from a number on to quarantine/. The chainState does not fit the files then. Segments go
// from the last to the first, so that a start after a crash finds a chain that ends earlier. life and mu are held.
func (n *Node) cutChain(keep uint64) error {
	if err := n.closeWriter(); err != nil {
		return err
	}
	segments, err := blockindex.ListSegments(n.blockFolder())
	if err != nil {
		return err
	}
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		if s.First >= keep {
			if err := n.quarantineSegment(s.First); err != nil {
				return err
			}
			continue
		}
		if end := n.endBelow(s, keep); end < s.Size {
			if err := n.cutTail(s, end); err != nil {
				return err
			}
		}
		break
	}
	return n.indexFile.Cut(keep)
}

// endBelow is where the blocks of a segment end that are below a number.
func (n *Node) endBelow(s blockindex.Segment, keep uint64) int64 {
	for block := min(keep, n.index.Len()); block > s.First; block-- {
		p, seg, ok := n.index.Get(block - 1)
		if ok && seg == s.First && !p.Lost() {
			return p.End()
		}
	}
	return s.Start
}

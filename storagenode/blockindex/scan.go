package blockindex

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// maxGap is the largest number of consecutive blocks that may be lost. A wrong file name must not fill the memory with
// places.
const maxGap = 1 << 20

// ErrUnread: the system cannot read a file, and its blocks are not in the index. How many it has is not known.
var ErrUnread = errors.New("blocks that are not in the index cannot be read")

// Found is what [Find] found in a folder.
type Found struct {
	Index    *Index
	Segments []Segment
	Entries  uint64 // entries of the index file that agree with the segments
	Known    uint64 // of them, those that Find kept; the other places come from the segments
	Rest     *Rest  // nil where nothing follows the last block

	IndexUnread error // with trim: why the index file could not be read to its end
}

// Segment is a segment of the folder.
type Segment struct {
	First      uint64
	Size       int64
	Start      int64 // where its frames begin
	Encrypted  bool
	HeaderGood bool
	Unread     error // why the system could not open the file; its bytes are not known, and Size is that of its path
}

// Rest is what follows the last block in its segment.
type Rest struct {
	Segment uint64
	Frames  []Place // damaged ones
	Size    int64   // in bytes
	Torn    bool    // it may be a write that was cut short
}

// Folder names the files that [Find] reads.
type Folder struct {
	Segments string // the folder of the segments
	Index    string // the index file, which may be missing
	Open     segment.OpenFunc
	Log      hclog.Logger
}

// Find finds the place of every block. It takes the entries of the index file as far as they agree with the segments,
// and scans the segments for the blocks after them. Find changes nothing on disk.
//
// With trim, Find drops index entries of the last segment that its bytes do not confirm, and scans that part again.
// Without trim, such blocks keep their places and are reported as damaged by an audit.
//
// With trim, a segment or an index file that the system cannot read does not end it, as long as other files show which
// blocks the segment has.
//
// The error wraps [durable.ErrNewerFormat], wraps [durable.ErrDamaged] where segments before another one are missing,
// wraps [ErrUnread] with trim, or is the disk's. After ErrDamaged and ErrUnread, what was found before is returned with
// it.
func Find(f Folder, trim bool) (*Found, error) {
	segments, err := ListSegments(f)
	if err != nil {
		return nil, err
	}
	s := scanner{Folder: f, found: &Found{Index: new(Index), Segments: segments}}
	s.index = s.found.Index
	for i := range segments {
		if err := segments[i].Unread; err != nil && !trim {
			return nil, err
		}
	}
	err = s.readIndexFile()
	if trim && durable.OneUnreadable(err) {
		s.found.IndexUnread, err = err, nil
	}
	if err != nil {
		return nil, err
	}
	s.found.Entries = s.index.Len()
	if trim {
		if err := s.trim(); err != nil {
			return nil, err
		}
	}
	s.found.Known = s.index.Len()
	err = s.scan()
	if trim && durable.OneUnreadable(err) {
		err = fmt.Errorf("%w: %w", ErrUnread, err)
	}
	return s.found, err
}

type scanner struct {
	Folder
	found *Found
	index *Index // found.Index
}

func (f *Folder) path(first uint64) string { return filepath.Join(f.Segments, segment.Name(first)) }

// ListSegments reads the header of every segment in a folder. Anything at a segment's path that is not a file is passed
// over, and a file that cannot be opened is listed as unread.
func ListSegments(f Folder) (segments []Segment, err error) {
	list, err := segment.List(f.Segments)
	if err != nil && !durable.Absent(err) {
		return nil, err
	}
	for _, first := range list {
		s, err := f.checkSegment(first)
		if durable.Absent(err) {
			f.Log.Error("the path of a segment holds something else", "file", f.path(first), "error", err)
			continue
		}
		switch {
		case err == nil:
		case errors.Is(err, durable.ErrDamaged):
			f.Log.Error("the header of a segment is damaged", "file", f.path(first), "error", err)
		case durable.OneUnreadable(err):
			f.Log.Error("a segment cannot be read", "file", f.path(first), "error", err)
			info, statErr := os.Stat(f.path(first))
			if statErr != nil {
				return nil, statErr
			}
			s.Size, s.Unread = info.Size(), fmt.Errorf("%s: %w", f.path(first), err)
		default:
			return nil, fmt.Errorf("%s: %w", f.path(first), err)
		}
		segments = append(segments, s)
	}
	return segments, nil
}

// checkSegment describes a segment. The error is that of its header, or of an open.
func (f *Folder) checkSegment(first uint64) (s Segment, err error) {
	s = Segment{First: first, Start: segment.HeaderSize}
	file, err := f.Open(f.path(first), os.O_RDONLY)
	if err != nil {
		return s, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return s, err
	}
	s.Size, s.Start, s.Encrypted = info.Size(), segment.Start(file), segment.IsEncrypted(file)
	err = segment.CheckHeader(file, first)
	if errors.Is(err, syscall.EIO) { // the header says no more than the file's name
		err = fmt.Errorf("%w: %w", durable.ErrDamaged, err)
	}
	s.HeaderGood = err == nil
	if errors.Is(err, durable.ErrDamaged) && !s.Encrypted && segment.IsUnfinished(file, s.Size) {
		s.Start = max(s.Start, s.Size)
	}
	return s, err
}

// readIndexFile takes the entries of the index file as long as they are consistent and agree with the segments.
func (s *scanner) readIndexFile() error {
	listed := make(map[uint64]bool, len(s.found.Segments))
	for _, seg := range s.found.Segments {
		listed[seg.First] = true
		s.index.AddSegment(seg.First)
	}
	var before Place
	return readFile(s.Folder.Index, func(p Place) bool {
		block := s.index.Len()
		begins := segment.IsStart(p.Offset)
		if p.Offset != segment.HeaderSize && begins && !listed[block] && block > 0 && !before.Lost() {
			begins = p.Offset != before.End() // else it follows in a segment that is not encrypted
		}
		if !p.Lost() {
			if listed[block] && !begins || block == 0 && !begins {
				return false
			}
			if block > 0 && !before.Lost() {
				if p.First != before.Next() || !begins && p.Offset != before.End() {
					return false
				}
			}
			if begins {
				// The segment may be missing. Its blocks must not be looked up in the one before it.
				s.index.AddSegment(block)
			}
		}
		if p.First < before.First {
			return false
		}
		s.index.Add(p)
		before = p
		return true
	})
}

// trim drops places in the last segment that its bytes do not confirm. The scan reads that part again.
func (s *scanner) trim() error {
	var end Segment
	if n := len(s.found.Segments); n > 0 {
		end = s.found.Segments[n-1]
	}
	for {
		p, seg, ok := s.index.Last()
		if !ok {
			return nil
		}
		height := s.index.Len()
		switch {
		case p.Lost():
		case seg > end.First || len(s.found.Segments) == 0:
		case seg < end.First:
			return nil
		case p.End() > end.Size:
		default:
			if is, err := s.isBlock(height-1, p, seg); is || err != nil {
				return err
			}
		}
		if seg == height-1 && (seg > end.First || len(s.found.Segments) == 0) {
			s.index.DropSegment(seg)
		}
		s.index.Cut(height - 1)
	}
}

// isBlock reports whether the frame at a place is whole and holds the block of that number. If the system cannot read
// it, its bytes are not known, and it keeps its place. The error is a lack of descriptors or memory.
func (s *scanner) isBlock(number uint64, p Place, seg uint64) (bool, error) {
	f, err := s.Open(s.path(seg), os.O_RDONLY)
	if err == nil {
		defer func() { _ = f.Close() }() // only read
		var frame []byte
		frame, err = segment.ReadFrame(nil, f, p.Offset, p.Length)
		if err == nil {
			h, err := chain.ParseHeader(frame[segment.FrameHeader:])
			return err == nil && h.Block == number, nil
		}
	}
	if durable.NoResources(err) {
		return false, err
	}
	return durable.CannotRead(err), nil
}

// scan finds the blocks after those that are known, frame by frame. A damaged frame becomes a place if a good block
// follows that shows what it was. Otherwise it is part of the rest.
func (s *scanner) scan() error {
	segments := s.found.Segments
	for i, seg := range segments {
		height := s.index.Len()
		if i+1 < len(segments) && segments[i+1].First <= height {
			continue // all of it is known
		}
		offset := seg.Start
		p, last, ok := s.index.Last()
		if ok && last > seg.First {
			continue // a later segment is known, whose file is missing
		}
		if ok && last == seg.First && !p.Lost() && p.End() == seg.Size {
			continue // all of it is known
		}
		if ok && last == seg.First && !p.Lost() {
			offset = p.End()
		}
		if seg.First > height && seg.First-height > maxGap {
			return fmt.Errorf("%w: blocks %d to %d, before %s, are missing: "+
				"put their segments back, or move that segment away",
				durable.ErrDamaged, height, seg.First-1, segment.Name(seg.First))
		}
		if err := s.scanSegment(seg, offset); err != nil {
			return fmt.Errorf("%s: %w", s.path(seg.First), err)
		}
	}
	return nil
}

// scanSegment reads the frames of one segment from an offset on.
func (s *scanner) scanSegment(seg Segment, offset int64) error {
	f, err := s.Open(s.path(seg.First), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	frames := segment.NewFrames(f, offset, seg.Size)
	var bad []Place // damaged frames since the last good one
	torn := true    // the first of them may be a write that was cut short
	next := max(seg.First, s.index.Len())
	for {
		frame, err := frames.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, durable.ErrDamaged) {
			s.noteRest(seg, frames.Offset(), bad, torn)
			return nil
		}
		if err != nil {
			return err
		}
		number := next + uint64(len(bad))
		p, err := placeOf(&frame, number)
		if err == nil && !s.addBehind(p, number, bad) {
			err = fmt.Errorf("%w: its first leaf is %d", durable.ErrDamaged, p.First)
		}
		switch {
		case errors.Is(err, chain.ErrVersion):
			return fmt.Errorf("%w: block %d: %w", durable.ErrNewerFormat, number, err)
		case err != nil:
			s.Log.Error("a frame is damaged",
				"file", segment.Name(seg.First), "at", frame.Offset, "block", number, "error", err)
			torn = torn && frame.Err != nil
			bad = append(bad, Place{Offset: frame.Offset, Length: frame.Length})
		default:
			next, bad, torn, s.found.Rest = number+1, nil, true, nil
		}
	}
}

// noteRest notes the bytes of a segment after its last block. No frame can be found from the offset end on.
func (s *scanner) noteRest(seg Segment, end int64, bad []Place, torn bool) {
	from := end
	if len(bad) > 0 {
		from = bad[0].Offset
		torn = torn && len(bad) == 1 && end == seg.Size
	}
	if from < seg.Size {
		s.found.Rest = &Rest{Segment: seg.First, Frames: bad, Size: seg.Size - from, Torn: torn}
	}
}

// placeOf returns the place of the block in a frame.
func placeOf(frame *segment.Frame, number uint64) (Place, error) {
	if frame.Err != nil {
		return Place{}, frame.Err
	}
	block, err := chain.ParseBlock(frame.Block)
	if err != nil {
		return Place{}, err
	}
	h := block.Header
	if h.Block != number || h.Count == 0 {
		return Place{}, fmt.Errorf("%w: the frame holds block %d with %d records", durable.ErrDamaged, h.Block, h.Count)
	}
	return Place{First: h.First, Offset: frame.Offset, Length: frame.Length, Count: h.Count}, nil
}

// addBehind adds a good block, and before it the blocks that are missing between it and the last one: those of damaged
// frames, and lost ones. It refuses a block whose first leaf does not leave room for exactly those.
func (s *scanner) addBehind(p Place, number uint64, bad []Place) bool {
	due := uint64(0)
	if last, _, ok := s.index.Last(); ok {
		due = last.Next()
	}
	missing := number - s.index.Len()
	if missing == 0 && p.First != due || p.First < due || (p.First-due)/2 < missing {
		return false
	}
	if missing == 1 && len(bad) == 1 && p.First-due-2 < 1<<32-1 {
		bad[0].First, bad[0].Count = due, uint32(p.First-due-1)
		s.index.Add(bad[0])
	} else {
		for range missing {
			s.index.Add(Place{First: due})
		}
	}
	s.index.Add(p)
	return true
}

package logstore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// Part is the end of a log that [Open] refuses, for reading: the entries from a given one on. What is in front of them
// may be damaged.
type Part struct {
	Damaged []DamagedSegment // never empty

	first  uint64
	keys   *keyring
	places []partPlace // of the entries from first on
	marked checkMark
	before uint64 // the newest entry that was seen, 0 for none
}

// DamagedSegment is a file with a part that cannot be read.
type DamagedSegment struct {
	Path string
	Err  error
}

// partPlace is where an entry is.
type partPlace struct {
	path string
	at   int64 // of its frame
}

// OpenPart reads the entries from first on, for a recovery. It changes nothing. The error wraps [durable.ErrDamaged] if
// one of them is missing or damaged, or if the mark or the list of segments is: then the end of the log is not known.
// ring has the keys of an encrypted log.
func OpenPart(dir string, first uint64, ring *atrest.Ring) (*Part, error) {
	keys, err := openKeys(keysPath(dir), ring, nil)
	if err != nil {
		return nil, err
	}
	state, err := readSegments(dir)
	if err != nil {
		return nil, lost(segmentsPath(dir), err)
	}
	newest, err := readMark(dir)
	if err != nil {
		return nil, lost(markPath(dir), err)
	}
	p := &Part{first: first, keys: keys, marked: checkMark{mark: newest}}
	for _, s := range state.Segments {
		if err := p.readSegment(segmentPath(dir, s), s); err != nil {
			return nil, err
		}
	}
	if newest.index >= first {
		p.marked.first, p.marked.last = first, p.last()
		err := p.marked.end()
		if err == nil && newest.index > p.last() {
			err = fmt.Errorf("entry %d %w", p.last()+1, errNeeded)
		}
		if err != nil {
			name := dir
			for _, d := range p.Damaged {
				name, err = d.Path, fmt.Errorf("%w: %w", err, d.Err)
			}
			return nil, fmt.Errorf("%s: %w: according to %s, %w (%s)", name, durable.ErrDamaged, markPath(dir), err,
				raftconfig.Remedy)
		}
	}
	if len(p.Damaged) == 0 {
		return nil, fmt.Errorf("%s: no segment of it is damaged", dir)
	}
	return p, nil
}

var errNeeded = errors.New("is needed and cannot be read")

// last returns the index of the last entry, or the one in front of the first.
func (p *Part) last() uint64 { return p.first + uint64(len(p.places)) - 1 }

// readSegment reads what can be read of a segment. The error says that an entry is missing.
func (p *Part) readSegment(path string, s types.SegmentInfo) error {
	sealed := !s.SealTime.IsZero()
	file, err := durable.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) && !sealed {
		return nil // it has no entry yet
	}
	if err == nil {
		err = errors.Join(p.scan(file, path, s), file.Close())
	}
	if errors.Is(err, errNeeded) {
		return fmt.Errorf("%s: %w (%s)", path, err, raftconfig.Remedy)
	}
	if durable.CannotRead(err) {
		return err
	}
	if err != nil {
		p.Damaged = append(p.Damaged, DamagedSegment{Path: path, Err: err})
	}
	if sealed && s.MaxIndex >= p.first && p.last() < s.MaxIndex {
		return fmt.Errorf("%s: %w: entry %d %w: %w (%s)", path, durable.ErrDamaged, p.last()+1, errNeeded, err,
			raftconfig.Remedy)
	}
	return nil
}

// scan reads the complete batches of a segment: those up to the first damage, and those behind the last one. Payloads
// are chosen by clients, and one may have the form of batches. So batches behind damage count only if they follow one
// another up to the end of the segment. The error is what is wrong with the rest.
func (p *Part) scan(f *os.File, path string, info types.SegmentInfo) error {
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	size, sealed := stat.Size(), !info.SealTime.IsZero()
	before := &run{scanner: scanner{info: info, in: section(f, 0, size)}}
	before.visit = before.add
	before.result.batchEnd = batchEnd{last: info.BaseIndex - 1}
	wrong := before.readBatches()
	if err := p.visitAll(path, before); err != nil {
		return err
	}
	switch {
	case wrong == nil && sealed:
		return checkSealed(info, before.result)
	case !errors.Is(wrong, errTorn):
		return wrong
	case !sealed && before.result.last >= p.marked.index:
		if err := checkTorn(f, size, before.result.end, wrong); !errors.Is(err, durable.ErrDamaged) {
			return err // nil: a write that was cut off
		}
	}
	for from := before.result.end; ; {
		next, err := nextRun(f, size, info, from, before.result.last)
		if err != nil {
			return err
		}
		if next == nil {
			return wrong
		}
		whole, err := next.isWhole(f, size)
		switch {
		case err != nil:
			return err
		case whole && (sealed || next.result.last >= p.marked.index):
			return cmp.Or(p.visitAll(path, next), wrong)
		case !sealed && next.result.last >= p.marked.index:
			// A write that was cut off may follow the last batch, or these are batches in a payload.
			return fmt.Errorf("%w: the end of the log %w: there is damage behind byte %d, and behind byte %d what is "+
				"no batch", durable.ErrDamaged, errNeeded, before.result.end, next.result.end)
		}
		from = next.result.end
	}
}

// run is a sequence of complete batches.
type run struct {
	scanner
	entries []*raft.Log
}

func (r *run) add(l *raft.Log) {
	l.Data = nil // it is read again from its place
	r.entries = append(r.entries, l)
}

// isWhole reports whether the run ends where the content of its segment ends.
func (r *run) isWhole(f io.ReaderAt, size int64) (bool, error) {
	if !r.info.SealTime.IsZero() {
		return checkSealed(r.info, r.result) == nil, nil
	}
	rest, err := contentBehind(f, r.result.end, size)
	return rest == 0, err
}

// nextRun returns the next complete batches of a segment from a place on, behind a batch that is damaged: it had the
// entry after the last one. It is nil if there are none. The search goes from frame to frame, so it does not look into
// payloads. Behind a frame that no other one follows, it tries every place.
func nextRun(f io.ReaderAt, size int64, info types.SegmentInfo, from int64, last uint64) (*run, error) {
	at := max(headerBytes, from)
	for at < size-frameBytes {
		here, err := frameAt(f, at, size)
		if err != nil {
			return nil, err
		}
		following, err := frameAt(f, at+here.size, size)
		if err != nil {
			return nil, err
		}
		if here.size == 0 || following.size == 0 {
			at += frameBytes
			continue
		}
		if count := here.index - info.BaseIndex; here.index > last+1 && count <= uint64(size)/frameBytes {
			r := &run{scanner: scanner{info: info, in: section(f, at, size), at: at, places: make([]uint32, count)}}
			r.visit = r.add
			if err := r.readFrames(); err != nil && !errors.Is(err, errTorn) {
				return nil, err
			}
			if len(r.entries) > 0 {
				return r, nil
			}
		}
		at += here.size
	}
	return nil, nil
}

// frame is what has the form of a frame.
type frame struct {
	size  int64        // with its header and padding, 0 if it is none
	index uint64       // of its entry, 0 if it has none
	kind  raft.LogType // of its entry
}

// frameAt reads the header of a frame, and the index and the type of its entry.
func frameAt(f io.ReaderAt, at, size int64) (frame, error) {
	var head [frameBytes + 3*binary.MaxVarintLen64]byte
	n, err := f.ReadAt(head[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return frame{}, err
	}
	if n < frameBytes || [3]byte(head[1:4]) != [3]byte{} {
		return frame{}, nil
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	found := frame{size: frameBytes + (length+frameBytes-1)/frameBytes*frameBytes}
	switch head[0] {
	case segment.FrameCommit:
		return frame{size: frameBytes}, nil
	case segment.FrameEntry:
		index, indexSize := binary.Uvarint(head[frameBytes:])
		_, termSize := binary.Uvarint(head[frameBytes+max(indexSize, 0):])
		kind, _ := binary.Uvarint(head[frameBytes+max(indexSize, 0)+max(termSize, 0):])
		found.index, found.kind = index, raft.LogType(kind)
	case segment.FrameIndex:
	default:
		return frame{}, nil
	}
	if length > MaxCommand+maxOverhead || at+found.size > size {
		return frame{}, nil
	}
	return found, nil
}

// visitAll notes the entries of a run. The error is that of the first one which is missing.
func (p *Part) visitAll(path string, r *run) (missing error) {
	for _, l := range r.entries {
		missing = cmp.Or(missing, p.visit(path, r.info, l, int64(r.places[l.Index-r.info.BaseIndex])))
	}
	return missing
}

// visit notes an entry.
func (p *Part) visit(path string, info types.SegmentInfo, l *raft.Log, at int64) error {
	if l.Index < info.MinIndex || !info.SealTime.IsZero() && l.Index > info.MaxIndex {
		return nil
	}
	if p.before != l.Index-1 {
		p.marked.sums = false // of entries one of which is missing
	}
	p.before = l.Index
	p.marked.visit(l)
	next := p.last() + 1
	switch {
	case l.Index < next:
		return nil
	case l.Index > next:
		return fmt.Errorf("%w: entry %d %w", durable.ErrDamaged, next, errNeeded)
	}
	p.places = append(p.places, partPlace{path: path, at: at})
	return nil
}

// FirstIndex returns the index of the first entry, 0 if there is none.
func (p *Part) FirstIndex() (uint64, error) {
	if len(p.places) == 0 {
		return 0, nil
	}
	return p.first, nil
}

// LastIndex returns the index of the last entry, 0 if there is none.
func (p *Part) LastIndex() (uint64, error) {
	if len(p.places) == 0 {
		return 0, nil
	}
	return p.last(), nil
}

// GetLog reads an entry. The error is [raft.ErrLogNotFound], or names the file.
func (p *Part) GetLog(index uint64, entry *raft.Log) (err error) {
	if index < p.first || index > p.last() {
		return raft.ErrLogNotFound
	}
	place := p.places[index-p.first]
	f, err := durable.OpenFile(place.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var head [frameBytes]byte
	if _, err := f.ReadAt(head[:], place.at); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(head[4:])
	if length > MaxCommand+maxOverhead {
		return fmt.Errorf("%s: %w: entry %d has %d bytes", place.path, durable.ErrDamaged, index, length)
	}
	content := make([]byte, length)
	if _, err := f.ReadAt(content, place.at+frameBytes); err != nil {
		return err
	}
	if *entry, err = decodeEntry(content, index); err == nil {
		err = p.keys.open(entry)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", place.path, err)
	}
	return nil
}

var errReadOnly = errors.New("a part of a log is for reading only")

// StoreLog returns an error.
func (p *Part) StoreLog(*raft.Log) error { return errReadOnly }

// StoreLogs returns an error.
func (p *Part) StoreLogs([]*raft.Log) error { return errReadOnly }

// DeleteRange returns an error.
func (p *Part) DeleteRange(_, _ uint64) error { return errReadOnly }

// Clear empties a log that [Open] may refuse. The next Open moves its segments aside.
func Clear(dir string) error {
	state, err := readSegments(dir)
	if err != nil {
		return lost(segmentsPath(dir), err)
	}
	last, err := readMark(dir)
	if err != nil {
		return lost(markPath(dir), err)
	}
	file, err := durable.OpenFile(markPath(dir), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	m := markFile{file: file, last: last}
	if err := errors.Join(m.writeSynced(mark{}), file.Close()); err != nil {
		return err
	}
	return writeSegments(dir, types.PersistentState{NextSegmentID: state.NextSegmentID})
}

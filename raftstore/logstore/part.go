package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// Part is the end of a log that [Open] refuses, for reading: the entries from a given one on. What is in front of them
// may be damaged.
type Part struct {
	Damaged []DamagedSegment // never empty

	first  uint64
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
func OpenPart(dir string, first uint64) (*Part, error) {
	state, err := readSegments(dir)
	if err != nil {
		return nil, lost(segmentsPath(dir), err)
	}
	newest, err := readMark(dir)
	if err != nil {
		return nil, lost(markPath(dir), err)
	}
	p := &Part{first: first, marked: checkMark{mark: newest}}
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

// scan reads all complete batches of a segment. The error is what is wrong with the rest.
func (p *Part) scan(f *os.File, path string, info types.SegmentInfo) error {
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	s := &scanner{info: info, in: section(f, 0, stat.Size())}
	s.result.batchEnd = batchEnd{last: info.BaseIndex - 1}
	var missing error // an entry that is needed is missing in front of another one
	visit := func(l *raft.Log) {
		if err := p.visit(path, info, l, int64(s.places[l.Index-info.BaseIndex])); err != nil && missing == nil {
			missing = err
		}
	}
	s.visit = visit
	err = s.readBatches()
	if err == nil && !info.SealTime.IsZero() {
		err = checkSealed(info, s.result)
	}
	wrong, torn := err, errors.Is(err, errTorn) && info.SealTime.IsZero()
	for errors.Is(err, errTorn) || errors.Is(err, durable.ErrDamaged) {
		next, batch, nextErr := nextBatch(f, stat.Size(), s)
		if next == nil || nextErr != nil {
			err = nextErr
			break
		}
		torn = false // a batch behind it was written after it
		s = next
		for _, l := range batch {
			visit(l)
		}
		s.visit = visit
		err = s.readFrames(nil)
	}
	switch {
	case err != nil: // of a read
		return err
	case missing != nil:
		return missing
	case torn && s.result.last >= p.marked.index:
		return nil // a write that was cut off
	}
	return wrong
}

// nextBatch returns a scanner behind the next complete batch after those of another scanner, and the entries of that
// batch. Both are nil if there is none.
func nextBatch(f io.ReaderAt, size int64, after *scanner) (*scanner, []*raft.Log, error) {
	base, end := after.info.BaseIndex, after.result.end
	for at := max(headerBytes, end+frameBytes); at < size-frameBytes; at += frameBytes {
		index, err := indexAt(f, at, size)
		if err != nil {
			return nil, nil, err
		}
		if index <= after.result.last || index-base > uint64(size)/frameBytes {
			continue
		}
		var batch []*raft.Log
		s := &scanner{info: after.info, in: section(f, at, size), at: at, places: make([]uint32, index-base),
			visit: func(l *raft.Log) { batch = append(batch, l) }}
		s.result.batchEnd = batchEnd{last: index - 1, end: at}
		for complete := false; !complete && err == nil; {
			complete, err = s.readFrame()
		}
		if err == nil {
			return s, batch, nil
		}
		if !errors.Is(err, errTorn) {
			return nil, nil, err
		}
	}
	return nil, nil, nil
}

// indexAt returns the index of the entry whose frame is at a place, 0 if there is no entry.
func indexAt(f io.ReaderAt, at, size int64) (uint64, error) {
	var head [frameBytes + binary.MaxVarintLen64]byte
	n, err := f.ReadAt(head[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	if n < frameBytes || head[0] != segment.FrameEntry || length > MaxCommand+maxOverhead || at+length > size {
		return 0, nil
	}
	index, _ := binary.Uvarint(head[frameBytes:])
	return index, nil
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
	if *entry, err = decodeEntry(content, index); err != nil {
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

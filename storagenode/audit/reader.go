package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// cacheWindow is how much of a segment's page cache is dropped at a time, before it is read: enough for read-ahead.
const cacheWindow = 8 << 20

// openSegment is a segment that is read.
type openSegment struct {
	segment.File
	dropped   int64  // up to where its page cache was dropped
	headerErr error  // what is wrong with its header
	until     uint64 // the block at which the next segment was opened
}

// unopened stands for a segment that the system cannot open: each read fails with that error.
type unopened struct {
	segment.File // nil
	err          error
}

func (u unopened) ReadAt([]byte, int64) (int, error) { return 0, u.err }
func (u unopened) Close() error                      { return nil }

// slot holds one block that is read and hashed. Its memory is used again.
type slot struct {
	number  uint64
	place   blockindex.Place
	segment uint64
	file    *openSegment // nil if it is missing

	buf     []byte // the frame
	block   chain.Block
	leaves  []chain.Hash
	parsed  bool
	missing bool
	unread  error        // the system's error, if it could not read the frame
	err     error        // wraps durable.ErrDamaged: the frame is damaged, or the block is missing
	why     wire.Message // the same as a code, if err is not nil
	ready   chan struct{}
}

// message makes the detail of a finding about the block. args may be nil; the place of the block is added.
func (s *slot) message(code string, args wire.Args) wire.Message {
	m := wire.Message{Code: code, Args: wire.Args{"file": segment.Name(s.segment), "offset": uint64(s.place.Offset)}}
	maps.Copy(m.Args, args)
	return m
}

// fileMessage makes the detail of a finding about the block's file.
func (s *slot) fileMessage(code string) wire.Message {
	return wire.Message{Code: code, Args: wire.Args{"file": segment.Name(s.segment)}}
}

// fail notes what is wrong with the frame.
func (s *slot) fail(why wire.Message) {
	s.why = why
	s.err = fmt.Errorf("%w: %s", durable.ErrDamaged, s.why.Text())
}

// load reads the block and hashes its records. It notes in the slot what is wrong.
func (s *slot) load() {
	s.parsed, s.missing, s.unread, s.err = false, false, nil, nil
	s.leaves = s.leaves[:0]
	size := segment.FrameHeader + int(s.place.Length)
	switch {
	case s.place.Lost():
		s.missing = true
		s.fail(s.fileMessage(wire.CodePlaceUnknown))
		return
	case s.file == nil:
		s.missing = true
		s.fail(s.fileMessage(wire.CodeFileMissing))
		return
	}
	s.buf = slices.Grow(s.buf[:0], size)[:size]
	if got, err := s.file.ReadAt(s.buf, s.place.Offset); err != nil && (got < size || !errors.Is(err, io.EOF)) {
		if !errors.Is(err, io.EOF) {
			if durable.CannotRead(err) {
				s.unread = err
			}
			s.fail(s.message(wire.CodeFileUnreadable, wire.Args{"detail": err.Error()}))
			return
		}
		s.missing = got == 0
		s.fail(s.message(wire.CodeFileEnds, wire.Args{"bytes": uint64(got), "size": uint64(size)}))
		return
	}
	data := s.buf[segment.FrameHeader:]
	if length := binary.BigEndian.Uint32(s.buf); length != s.place.Length {
		s.fail(s.message(wire.CodeFrameLength,
			wire.Args{"bytes": uint64(length), "size": uint64(s.place.Length)}))
	} else if durable.Checksum(data) != binary.BigEndian.Uint32(s.buf[4:]) {
		s.fail(s.message(wire.CodeFrameChecksum, nil))
	}
	data, err := segment.OpenContent(s.file.File, data, s.place.Offset)
	var block chain.Block
	if err == nil {
		block, err = chain.ParseBlock(data)
	}
	if err != nil {
		why := s.message(wire.CodeBlockForm, wire.Args{"detail": err.Error()})
		if s.err != nil {
			s.err, s.why = fmt.Errorf("%w; %w", s.err, err), twoFaults(s.why, why)
		} else {
			s.err, s.why = err, why
		}
		return
	}
	s.block, s.parsed = block, true
	s.leaves = block.Leaves(s.leaves)
}

// reader loads blocks in order. With more than one thread it loads several at a time.
type reader struct {
	a      *Audit
	slots  []*slot
	due    uint64 // the next block to load
	jobs   chan *slot
	others sync.WaitGroup
	files  []*openSegment // in order

	// Of the last block that was aimed at:
	segment uint64
	file    *openSegment // nil if it is missing
}

func newReader(a *Audit) *reader {
	r := &reader{a: a}
	count := 1
	if a.Threads > 1 {
		count = a.Threads + 1
		r.jobs = make(chan *slot, count)
		for range a.Threads {
			r.others.Go(func() {
				for s := range r.jobs {
					s.load()
					s.ready <- struct{}{}
				}
			})
		}
	}
	for range count {
		r.slots = append(r.slots, &slot{ready: make(chan struct{}, 1)})
	}
	return r
}

func (r *reader) close() {
	if r.jobs != nil {
		close(r.jobs)
		r.others.Wait()
	}
	for _, f := range r.files {
		_ = f.Close() // only read
	}
}

// next loads the block of that number, which must follow that of the previous call.
func (r *reader) next(ctx context.Context, number uint64) (*slot, error) {
	for r.due < min(r.a.Height, number+uint64(len(r.slots))) {
		s := r.slots[r.due%uint64(len(r.slots))]
		if err := r.aim(s, r.due); err != nil {
			return nil, err
		}
		r.due++
		if r.jobs == nil {
			s.load()
		} else {
			r.jobs <- s
		}
	}
	s := r.slots[number%uint64(len(r.slots))]
	if r.jobs != nil {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for len(r.files) > 0 && r.files[0] != s.file && r.files[0].until <= number {
		_ = r.files[0].Close() // only read
		r.files = r.files[1:]
	}
	if s.err != nil {
		return s, r.a.loadAgain(s)
	}
	return s, nil
}

// aim points a slot at a block. It opens the block's segment if that is not the segment of the block before.
func (r *reader) aim(s *slot, number uint64) error {
	p, seg, _ := r.a.Index.Get(number) // without it the place is that of a lost block
	if number == 0 || seg != r.segment {
		if r.file != nil {
			r.file.until = number
		}
		f, err := r.a.enterSegment(seg)
		if err != nil {
			return err
		}
		if f != nil {
			f.until = r.a.Height
			r.files = append(r.files, f)
		}
		r.segment, r.file = seg, f
	}
	s.number, s.place, s.segment, s.file = number, p, seg, r.file
	if s.file != nil && !p.Lost() {
		s.file.dropCache(p.End())
	}
	return nil
}

// unreadHeader reports a header that the system could not read with the segment's first block: to receive that block
// again replaces the file.
func (f *openSegment) unreadHeader(seg uint64) badBlock {
	args := wire.Args{"file": segment.Name(seg), "offset": uint64(0), "detail": f.headerErr.Error()}
	return badBlock{
		number: seg, what: chain.WrongFrame, err: f.headerErr,
		detail: wire.Message{Code: wire.CodeFileUnreadable, Args: args},
	}
}

// dropCache has the kernel drop the page cache of the file up to an offset and some more.
func (f *openSegment) dropCache(end int64) {
	if end <= f.dropped {
		return
	}
	if c, ok := f.File.(interface {
		DropCache(offset, length int64) error
	}); ok {
		_ = c.DropCache(f.dropped, end+cacheWindow-f.dropped) // a hint
	}
	f.dropped = end + cacheWindow
}

// loadAgain loads a bad block once more: a repair may have replaced its segment meanwhile.
func (a *Audit) loadAgain(s *slot) error {
	p, seg, ok := a.Index.Get(s.number)
	if !ok {
		return nil
	}
	f, err := a.open(seg)
	if err != nil || f == nil && s.file == nil && p == s.place {
		return err
	}
	kept := s.file
	s.place, s.segment, s.file = p, seg, nil
	if f != nil {
		defer func() { _ = f.Close() }() // only read
		s.file = &openSegment{File: f}
	}
	s.load()
	s.file = kept
	return nil
}

func (a *Audit) path(seg uint64) string { return filepath.Join(a.Segments, segment.Name(seg)) }

// open opens a segment. It returns nil if the segment is missing. With UnreadApart, the blocks of a segment that the
// system cannot open count as blocks that it cannot read, and the audit goes on behind them.
func (a *Audit) open(seg uint64) (segment.File, error) {
	f, err := segment.OpenExisting(a.Open, a.path(seg))
	if a.UnreadApart && durable.CannotRead(err) {
		return unopened{err: err}, nil
	}
	return f, err
}

// enterSegment opens a segment when its first block is due, and checks its header. It returns nil if the segment is
// missing.
func (a *Audit) enterSegment(seg uint64) (*openSegment, error) {
	f, err := a.open(seg)
	if _, cannot := f.(unopened); err == nil && a.Entered != nil && !cannot {
		err = a.Entered(seg, f)
	}
	if f == nil || err != nil {
		return nil, err
	}
	s := &openSegment{File: f, headerErr: checkHeader(f, seg)}
	if a.UnreadApart && durable.CannotRead(s.headerErr) {
		// It says no more than the first block. If that cannot be read either, it is reported with it.
		if !chain.HoldsBlock(a.Lost, seg) {
			a.addUnread(s.unreadHeader(seg), a.verifier.Head())
		}
		s.headerErr = nil
	}
	return s, nil
}

// checkHeader checks the header of a segment. It reads a damaged one of an encrypted segment again: it may have been
// written just then, under a new key.
func checkHeader(f segment.File, seg uint64) (err error) {
	for range headerReads {
		if err = segment.CheckHeader(f, seg); err == nil || !segment.IsEncrypted(f) {
			return err
		}
	}
	return err
}

// headerReads is how often a damaged header is read.
const headerReads = 3

// headerUnread returns the system's error if a block is the first of its segment, and the segment's header cannot be
// read.
func (a *Audit) headerUnread(s *slot) error {
	if s.number != s.segment {
		return nil
	}
	f, err := a.open(s.segment)
	if f == nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if err := segment.CheckHeader(f, s.segment); durable.CannotRead(err) {
		return err
	}
	return nil
}

// reread loads a block into memory of its own.
func (a *Audit) reread(number uint64) *slot {
	s := &slot{number: number}
	if err := a.loadAgain(s); err != nil {
		s.err = err
	}
	return s
}

package storagenode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// cacheWindow is how much of a segment the kernel is told to forget at a time, before it is read: enough that it reads ahead.
const cacheWindow = 8 << 20

// auditFile is a segment that is read.
type auditFile struct {
	segment.File
	path      string
	size      int64
	dropped   int64 // up to where the kernel was told to forget it
	headerErr error // its header is damaged
	until     uint64
}

// slot holds one block that is read and hashed. Its memory is used again.
type slot struct {
	number uint64
	place  Place
	seg    uint64
	file   *auditFile // nil where it is gone

	buf     []byte // the frame
	block   chain.Block
	leaves  []chain.Hash
	parsed  bool
	missing bool
	err     error // wraps ErrDamaged: the frame's checksum or length is wrong, or the block is not there
	ready   chan struct{}
}

// where names the place for people.
func (s *slot) where() string {
	return fmt.Sprintf("%s, frame at offset %d", segment.Name(s.seg), s.place.Offset)
}

// load reads the block and hashes its records; what is wrong is noted in the slot.
func (s *slot) load() {
	s.parsed, s.missing, s.err = false, false, nil
	s.leaves = s.leaves[:0]
	size := segment.FrameHeader + int(s.place.Length)
	switch {
	case s.place.Lost():
		s.missing, s.err = true, fmt.Errorf("%w: it is missing, and nobody knows where it stood", ErrDamaged)
		return
	case s.file == nil:
		s.missing, s.err = true, fmt.Errorf("%w: the file is gone", ErrDamaged)
		return
	}
	s.buf = slices.Grow(s.buf[:0], size)[:size]
	if got, err := s.file.ReadAt(s.buf, s.place.Offset); err != nil && (got < size || !errors.Is(err, io.EOF)) {
		s.missing = got == 0 && errors.Is(err, io.EOF)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the file ends after %d bytes of the frame's %d", got, size)
		}
		s.err = fmt.Errorf("%w: %w", ErrDamaged, err)
		return
	}
	data := s.buf[segment.FrameHeader:]
	if length := binary.BigEndian.Uint32(s.buf); length != s.place.Length {
		s.err = fmt.Errorf("%w: the frame names a length of %d bytes, not %d", ErrDamaged, length, s.place.Length)
	} else if segment.Checksum(data) != binary.BigEndian.Uint32(s.buf[4:]) {
		s.err = fmt.Errorf("%w: the frame's checksum is wrong", ErrDamaged)
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		if s.err == nil {
			s.err = err
		} else {
			s.err = fmt.Errorf("%w; %w", s.err, err)
		}
		return
	}
	s.block, s.parsed = block, true
	s.leaves = block.Leaves(s.leaves)
}

// auditReader loads blocks in order, several at a time where the audit has more than one thread.
type auditReader struct {
	a      *Audit
	slots  []*slot
	due    uint64 // the next block to load
	jobs   chan *slot
	others sync.WaitGroup
	files  []*auditFile // open, in order; the last is that of due
	seg    uint64
	begun  bool
}

func newAuditReader(a *Audit) *auditReader {
	r := &auditReader{a: a}
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

func (r *auditReader) close() {
	if r.jobs != nil {
		close(r.jobs)
		r.others.Wait()
	}
	for _, f := range r.files {
		if f != nil {
			_ = f.Close() // only read
		}
	}
}

// next loads the block of that number, which must be the one behind that of the call before.
func (r *auditReader) next(ctx context.Context, number uint64) (*slot, error) {
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
		return s, r.again(s)
	}
	return s, nil
}

// aim points a slot at a block, and opens its segment where it is the first of that.
func (r *auditReader) aim(s *slot, number uint64) error {
	p, seg, ok := r.a.Index.Get(number)
	if !ok {
		p = Place{}
	}
	s.number, s.place = number, p
	if !r.begun || seg != r.seg {
		if len(r.files) > 0 {
			r.files[len(r.files)-1].until = number
		}
		f, err := r.a.openSegment(seg)
		if err != nil {
			return err
		}
		r.begun, r.seg = true, seg
		if f != nil {
			f.until = r.a.Height
			r.files = append(r.files, f)
		}
		s.file = f
	} else if len(r.files) > 0 && r.files[len(r.files)-1].path == r.a.path(seg) {
		s.file = r.files[len(r.files)-1]
	} else {
		s.file = nil
	}
	s.seg = seg
	if s.file != nil && !p.Lost() {
		s.file.forget(p.Offset + segment.FrameHeader + int64(p.Length))
	}
	return nil
}

// forget has the kernel drop what it holds of the file up to an offset and some more.
func (f *auditFile) forget(end int64) {
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

// again loads a bad block once more: a repair may have replaced its segment meanwhile.
func (r *auditReader) again(s *slot) error {
	p, seg, ok := r.a.Index.Get(s.number)
	if !ok {
		return nil
	}
	f, err := r.a.openOnce(seg)
	if err != nil || f == nil && s.file == nil && p == s.place {
		return err
	}
	kept := s.file
	s.place, s.seg, s.file = p, seg, f
	s.load()
	s.file = kept
	if f != nil {
		return f.Close()
	}
	return nil
}

func (a *Audit) path(seg uint64) string { return filepath.Join(a.Dir, segment.Name(seg)) }

// openOnce opens a segment at its path; nil where there is none, or something that is no file: then its blocks are
// missing.
func (a *Audit) openOnce(seg uint64) (*auditFile, error) {
	f, err := a.Open(a.path(seg), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrNotFile) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &auditFile{File: f, path: a.path(seg), size: info.Size()}, nil
}

// openSegment opens a segment for the audit, and looks at its header.
func (a *Audit) openSegment(seg uint64) (*auditFile, error) {
	f, err := a.openOnce(seg)
	if err != nil {
		return nil, err
	}
	if a.entered != nil {
		var file segment.File
		if f != nil {
			file = f.File
		}
		if err := a.entered(seg, file); err != nil {
			return nil, err
		}
	}
	if f != nil {
		header := make([]byte, segment.HeaderSize)
		got, _ := f.ReadAt(header, 0)
		f.headerErr = segment.CheckHeader(header[:got], seg)
	}
	return f, nil
}

// reread loads a block once more, into memory of its own.
func (a *Audit) reread(number uint64) *slot {
	s := &slot{number: number}
	p, seg, ok := a.Index.Get(number)
	if !ok {
		return s
	}
	s.place, s.seg = p, seg
	f, err := a.openOnce(seg)
	s.file = f
	if err != nil {
		s.err = err
		return s
	}
	s.load()
	if f != nil {
		_ = f.Close() // only read
	}
	return s
}

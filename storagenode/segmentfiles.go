package storagenode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/recordends"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// maxOpenFiles is the number of segments that are kept open to read.
const maxOpenFiles = 512

// segmentFiles keeps segments open to read. Its methods may be called from any goroutine.
type segmentFiles struct {
	dir    string
	opener segment.OpenFunc
	index  *blockindex.Index
	most   int // files that are kept open

	// mu is held shared from the look-up of a block's place until its file was read, and exclusively to replace a
	// file together with the places of its blocks. So a reader never applies a place to the wrong file, and no file
	// is closed while it is read.
	mu     sync.RWMutex
	open   map[uint64]segment.File
	closed bool

	ends recordends.Cache // of the files as they are under mu
}

func newSegmentFiles(dir string, opener segment.OpenFunc, index *blockindex.Index) *segmentFiles {
	return &segmentFiles{
		dir: dir, opener: opener, index: index, most: maxOpenFiles, open: map[uint64]segment.File{},
	}
}

// read calls use with the place of a block and with its segment, which use must not keep. The error wraps ErrBehind if
// the block is not here, ErrCannotRead if the system could not read the file, and ErrDamaged in all other cases: to a
// reader, a lost file and a short one are the same.
func (s *segmentFiles) read(block uint64, use func(blockindex.Place, segment.File) error) error {
	for {
		seg, done, err := s.tryRead(block, use)
		if !done {
			err = s.load(seg)
		}
		switch {
		case err != nil && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrBehind)):
			return fmt.Errorf("block %d in %s: %w", block, segment.Name(seg), err)
		case errors.Is(err, atrest.ErrNoKey):
			err = errors.Join(err, syscall.EACCES) // to all callers, the system could not read it
			return fmt.Errorf("%w: block %d: %w", ErrCannotRead, block, err)
		case durable.CannotRead(err):
			// The device may be back later, and an open file of it never.
			err = errors.Join(err, s.forget(seg))
			return fmt.Errorf("%w: block %d in %s: %w", ErrCannotRead, block, segment.Name(seg), err)
		case err != nil:
			return fmt.Errorf("%w: block %d in %s: %w", ErrDamaged, block, segment.Name(seg), err)
		case done:
			return nil
		}
	}
}

// tryRead is read if the block's segment is open. Otherwise done is false.
func (s *segmentFiles) tryRead(
	block uint64, use func(blockindex.Place, segment.File) error,
) (seg uint64, done bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, seg, ok := s.index.Get(block)
	switch {
	case !ok:
		return seg, true, ErrBehind
	case p.Lost():
		return seg, true, fmt.Errorf("%w: it is lost", ErrDamaged)
	case s.open[seg] == nil:
		return seg, false, nil
	}
	return seg, true, use(p, s.open[seg])
}

func (s *segmentFiles) load(first uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	if s.open[first] != nil {
		return nil
	}
	if len(s.open) >= s.most {
		for other, f := range s.open { // any one: reads are spread evenly or go to few segments
			delete(s.open, other)
			if err := f.Close(); err != nil {
				return err
			}
			break
		}
	}
	f, err := s.opener(filepath.Join(s.dir, segment.Name(first)), os.O_RDONLY)
	if err != nil {
		return err
	}
	s.open[first] = f
	return nil
}

// replace runs a change of a segment's file, puts the places of its blocks into the index and closes the old file. No
// reader sees a part of that.
func (s *segmentFiles) replace(first uint64, places []blockindex.Place, change func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := change(); err != nil {
		return err
	}
	s.index.AddSegment(first)
	s.index.Set(first, places)
	return s.forgetLocked(first)
}

// replacedOnDisk reports whether a segment is open and is another file than the one of info, nil for none.
func (s *segmentFiles) replacedOnDisk(first uint64, info os.FileInfo) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f := s.open[first]
	if f == nil {
		return false
	}
	mine, err := f.Stat()
	return err != nil || info == nil || !os.SameFile(mine, info)
}

// forget closes a segment that is about to be moved away.
func (s *segmentFiles) forget(first uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forgetLocked(first)
}

func (s *segmentFiles) forgetLocked(first uint64) error {
	s.ends.Drop()
	f := s.open[first]
	if f == nil {
		return nil
	}
	delete(s.open, first)
	return f.Close()
}

// close closes all files. No read opens one again.
func (s *segmentFiles) close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for first := range s.open {
		err = errors.Join(err, s.forgetLocked(first))
	}
	return err
}

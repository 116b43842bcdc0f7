package storagenode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/chainstore/chainstore/storagenode/segment"
)

// maxOpenFiles bounds how many segments are kept open to read.
const maxOpenFiles = 512

// files keeps segments open to read. Its methods may be called from any goroutine.
type files struct {
	dir    string
	opener segment.OpenFunc
	most   int // files kept open

	mu   sync.RWMutex // held to read while a file is in use, so that none is closed under a reader
	open map[uint64]segment.File
	done bool
}

// with calls use with the segment of that first block, which must not be kept. The error wraps [ErrDamaged], whatever
// kept the bytes from being read: to a reader a lost file, a short one and a bad sector are the same.
func (s *files) with(first uint64, use func(segment.File) error) error {
	err := s.try(first, use)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func (s *files) try(first uint64, use func(segment.File) error) error {
	for {
		s.mu.RLock()
		if f := s.open[first]; f != nil {
			defer s.mu.RUnlock()
			return use(f)
		}
		s.mu.RUnlock()
		if err := s.load(first); err != nil {
			return err
		}
	}
}

func (s *files) load(first uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
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

// stray reports whether a segment is open that is not the file which info is of; nil for none.
func (s *files) stray(first uint64, info os.FileInfo) bool {
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
func (s *files) forget(first uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.open[first]
	if f == nil {
		return nil
	}
	delete(s.open, first)
	return f.Close()
}

func (s *files) close() error {
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	return s.forgetAll()
}

func (s *files) forgetAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.open {
		errs = append(errs, f.Close())
	}
	clear(s.open)
	return errors.Join(errs...)
}

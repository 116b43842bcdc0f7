package tiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
)

// Fix writes hashes of a stored level that are wrong in its file, and drops all tiles in memory: the next reader reads
// the files. It does not sync. It must not run beside Append.
func (s *Store) Fix(stored int, first uint64, run []chain.Hash) error {
	err := s.write(stored, first, run)
	s.gen.Add(1)
	return err
}

// CheckHeader reports whether the header in the file of a stored level is good.
func CheckHeader(f io.ReaderAt, stored int) bool {
	state, err := judgeHeader(f, stored)
	return err == nil && state == headerGood
}

// What the header of a file can be.
type headerState int

const (
	headerGood    headerState = iota
	headerBlank               // the file has nothing, or the beginning of a header or zeros in its place
	headerDamaged             // it has other bytes
)

// judgeHeader judges the header in the file of a stored level. The error is that of a read.
func judgeHeader(f io.ReaderAt, stored int) (headerState, error) {
	want := header(stored)
	got := make([]byte, headerSize+1)
	n, err := f.ReadAt(got, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return headerDamaged, err
	}
	got = got[:n]
	switch {
	case bytes.HasPrefix(got, want):
		return headerGood, nil
	case bytes.HasPrefix(want, got), n <= headerSize && len(bytes.Trim(got, "\x00")) == 0:
		return headerBlank, nil
	}
	return headerDamaged, nil
}

// FixHeader writes the header of a stored level's file again. It must not run beside Append.
func (s *Store) FixHeader(stored int) error {
	f := s.files[stored].Load()
	if f == nil {
		return nil
	}
	_, err := f.WriteAt(header(stored), 0)
	return err
}

// ReplacedOnDisk lists the stored levels whose file was removed or replaced at its path while it was open.
func (s *Store) ReplacedOnDisk() ([]int, error) {
	var list []int
	for i := range s.files {
		f := s.files[i].Load()
		if f == nil {
			continue
		}
		same, _, err := durable.AtPath(f, path(s.dir, i))
		if err != nil {
			return nil, err
		}
		if !same {
			list = append(list, i)
		}
	}
	return list, nil
}

// newSuffix marks a file that is being written again.
const newSuffix = ".new"

// Return writes the content of a stored level's open file to its path again, and uses that file from then on. It must
// not run beside Append.
func (s *Store) Return(stored int) error { return s.copyLevel(stored, nil) }

// Replace moves away what is at the path of a stored level's file, and then does what [Store.Return] does. It counts
// the hashes that are at their place again: none for a level without an open file, which the next hash begins again.
func (s *Store) Replace(stored int, aside func(path string) error) (hashes uint64, err error) {
	if s.files[stored].Load() == nil {
		return 0, aside(path(s.dir, stored))
	}
	return Complete(s.Size(), stored), s.copyLevel(stored, aside)
}

// copyLevel is Return. aside, if it is not nil, first moves away what is at the path. A copy that failed is removed.
func (s *Store) copyLevel(stored int, aside func(path string) error) (err error) {
	old := s.files[stored].Load()
	tmp := path(s.dir, stored) + newSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.open(tmp, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return durable.Unchanged(err)
	}
	renamed := false
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s again: %w", path(s.dir, stored), err), f.Close())
		}
		if err != nil && !renamed {
			_ = os.Remove(tmp) // the next copy removes it otherwise
		}
	}()
	info, err := old.Stat()
	if err != nil {
		return err
	}
	content := io.NewSectionReader(old, headerSize, max(0, info.Size()-headerSize))
	if _, err := io.Copy(io.NewOffsetWriter(f, headerSize), content); err != nil {
		return durable.Unchanged(err)
	}
	if _, err := f.WriteAt(header(stored), 0); err != nil {
		return durable.Unchanged(err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if aside != nil {
		if err := aside(path(s.dir, stored)); err != nil {
			return err
		}
	}
	if err := durable.Rename(tmp, path(s.dir, stored)); err != nil {
		renamed = errors.Is(err, durable.ErrNotSynced)
		return err
	}
	renamed = true
	s.files[stored].Store(&level{f})
	s.mu.Lock()
	s.retired = append(s.retired, old)
	s.mu.Unlock()
	s.gen.Add(1)
	return nil
}

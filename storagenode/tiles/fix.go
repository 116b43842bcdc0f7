package tiles

import (
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
	got := make([]byte, headerSize)
	_, err := f.ReadAt(got, 0)
	return err == nil && string(got) == string(header(stored))
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
func (s *Store) Return(stored int) (err error) {
	old := s.files[stored].Load()
	tmp := path(s.dir, stored) + newSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.open(tmp, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return durable.Unchanged(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s again: %w", path(s.dir, stored), err), f.Close())
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
	if err := durable.Rename(tmp, path(s.dir, stored)); err != nil {
		return err
	}
	s.files[stored].Store(&level{f})
	s.mu.Lock()
	s.retired = append(s.retired, old)
	s.mu.Unlock()
	s.gen.Add(1)
	return nil
}

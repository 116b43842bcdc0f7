package tiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

const (
	headerSize = 512
	tileBytes  = tileWidth * chain.HashSize
)

var format = durable.Format{Magic: "CSTL", Version: 1}

// Errors of this package.
var (
	// ErrMissing: the files do not hold hashes that are needed.
	ErrMissing = errors.New("hashes of the tree are missing")
	// ErrMismatch: the files hold hashes that do not fit the blocks, which are good.
	ErrMismatch = errors.New("hashes of the tree do not fit the blocks")
)

// Store holds the hashes of one tree. One goroutine at a time may call Reset, Append, Sync and Close. Readers may run
// beside it.
type Store struct {
	dir   string
	open  segment.OpenFunc
	aside func(path string) error // moves a file away and keeps it

	builder Builder // of the goroutine that appends
	raw     []byte  // its scratch

	size  atomic.Uint64                    // leaves that readers may ask for
	files [maxLevels]atomic.Pointer[level] // by stored level
	gen   atomic.Uint64                    // counts corrections: tiles read before the last one are not used
	cache cache
	pool  sync.Pool // of *Reader

	mu      sync.Mutex
	retired []segment.File // that a correction replaced; a reader may still use them
}

// level is the file of one stored level.
type level struct{ segment.File }

// path returns the path of a stored level's file in the folder dir.
func path(dir string, stored int) string {
	return filepath.Join(dir, fmt.Sprintf("%02d", tileHeight*stored))
}

func header(stored int) []byte {
	h := make([]byte, headerSize)
	h[copy(h, format.AppendHeader(nil))] = byte(tileHeight * stored)
	return h
}

// CheckVersion checks the headers of all files in the folder. The error wraps [durable.ErrNewerFormat] and names the
// file, if a newer ChainStore wrote one, or says that no descriptor or memory is left. A file that cannot be read is
// passed over.
func CheckVersion(dir string) error {
	for i := range maxLevels {
		f, err := durable.OpenFile(path(dir, i), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if durable.Absent(err) || durable.OneUnreadable(err) {
			continue
		}
		if err != nil {
			return err
		}
		var h [6]byte
		n, readErr := f.ReadAt(h[:], 0) // a header that cannot be read is judged by Open
		_ = f.Close()                   // only read
		if durable.NoResources(readErr) {
			return readErr
		}
		if err := format.CheckHeader(h[:n]); errors.Is(err, durable.ErrNewerFormat) {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

// OffsetOf returns the offset of a hash in the file of its level.
func OffsetOf(hash uint64) int64 { return headerSize + int64(hash)*chain.HashSize }

// Complete returns the number of hashes that a tree of size leaves has at a stored level, counted from 0 as in
// [Builder.Append].
func Complete(size uint64, level int) uint64 { return size >> (tileHeight * level) }

// Paths lists all files that a store may have in a folder, unfinished ones included.
func Paths(dir string) []string {
	var list []string
	for i := range maxLevels {
		list = append(list, path(dir, i), path(dir, i)+newSuffix)
	}
	return list
}

// Files opens the files of a folder to read. Both lists are by stored level: files has nil for one that is missing or
// cannot be opened, and unopened the system's errors of those that cannot be opened.
func Files(open segment.OpenFunc, dir string) (files []segment.File, unopened []error) {
	files, unopened = make([]segment.File, maxLevels), make([]error, maxLevels)
	for i := range files {
		f, err := open(path(dir, i), os.O_RDONLY|syscall.O_NOFOLLOW)
		switch {
		case err == nil:
			files[i] = f
		case !durable.Absent(err):
			unopened[i] = err
		}
	}
	return files, unopened
}

// CloseFiles closes what [Files] opened.
func CloseFiles(files []segment.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // only read
		}
	}
}

// Open opens the files of a folder. The store is empty until [Store.Reset] sets how much of them is good. No file is
// truncated. One whose header is damaged is copied to a new file with a good header, and aside moves the damaged one
// away. So does one that cannot be opened, without a copy. If only the header cannot be read, or nothing can be copied,
// the file is used as it is: the hashes are proven by the blocks.
func Open(open segment.OpenFunc, dir string, aside func(path string) error) (*Store, error) {
	s := Empty(open, dir)
	s.aside = aside
	for i := range maxLevels {
		if _, err := os.Stat(path(dir, i)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err := s.openLevel(i)
		if durable.OneUnreadable(err) && s.files[i].Load() == nil {
			if err = aside(path(dir, i)); err == nil {
				continue // the hashes are computed again
			}
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Empty returns a store without open files.
func Empty(open segment.OpenFunc, dir string) *Store {
	s := &Store{dir: dir, open: open}
	s.pool.New = func() any { return &Reader{store: s} }
	return s
}

// openLevel opens or creates the file of a stored level.
func (s *Store) openLevel(i int) error {
	f, err := s.open(path(s.dir, i), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return durable.Unchanged(err)
	}
	switch state, err := judgeHeader(f, i); {
	case durable.NoResources(err):
		return errors.Join(err, f.Close())
	case err != nil: // it says no more than the name of the file
	case state == headerBlank:
		if _, err := f.WriteAt(header(i), 0); err != nil {
			return errors.Join(durable.Unchanged(fmt.Errorf("create %s: %w", path(s.dir, i), err)), f.Close())
		}
	case state == headerDamaged && s.aside != nil:
		s.files[i].Store(&level{f})
		err := s.copyLevel(i, s.aside)
		if durable.CanRetry(err) || durable.OneUnreadable(err) && !durable.IsSync(err) {
			return nil // the check writes the header again
		}
		return err
	}
	s.files[i].Store(&level{f})
	return nil
}

// Reset sets the size of the store. The files must hold the hashes of that many leaves: the error wraps [ErrMissing] if
// they do not. Later hashes stay in the files until they are overwritten, and [Reader.Tree] can still read them.
func (s *Store) Reset(size uint64) error {
	var b Builder
	b.size = size
	for i := range maxLevels {
		n := size >> (tileHeight * i)
		if n == 0 {
			break
		}
		if held := n % tileWidth; held > 0 {
			raw := make([]byte, held*chain.HashSize)
			if err := s.read(raw, i, n-held); err != nil {
				return err
			}
			decode(b.open[i][:held], raw)
		}
	}
	s.builder = b
	s.size.Store(size)
	return nil
}

// Size returns the number of leaves.
func (s *Store) Size() uint64 { return s.size.Load() }

// Append adds leaf hashes without syncing them; subtrees are as for [Builder.Append]. After an error nothing must be
// appended any more, unless the error wraps [durable.ErrExhausted]: then the store is as before.
func (s *Store) Append(leaves, subtrees []chain.Hash) error {
	if err := s.builder.Append(leaves, subtrees, s.write); err != nil {
		if !durable.CanRetry(err) {
			return err
		}
		if resetErr := s.Reset(s.Size()); resetErr != nil {
			return fmt.Errorf("%w, after %v", resetErr, err) //nolint:errorlint // the store is not as before
		}
		return err
	}
	s.size.Store(s.builder.size)
	return nil
}

func (s *Store) write(stored int, first uint64, run []chain.Hash) error {
	f := s.files[stored].Load()
	if f == nil {
		if err := s.openLevel(stored); err != nil {
			return err
		}
		f = s.files[stored].Load()
	}
	s.raw = s.raw[:0]
	for i := range run {
		s.raw = append(s.raw, run[i][:]...)
	}
	if _, err := f.WriteAt(s.raw, OffsetOf(first)); err != nil {
		return durable.Unchanged(fmt.Errorf("write %s: %w", path(s.dir, stored), err))
	}
	return nil
}

// Rewrite writes the hashes again that a tree of one size has and a smaller tree does not have, so that [Store.Sync]
// syncs them. It passes over hashes that cannot be read.
func (s *Store) Rewrite(from, to uint64) error {
	const most = 4096 // hashes at a time
	for i := range maxLevels {
		f := s.files[i].Load()
		if f == nil {
			break
		}
		for hash, end := Complete(from, i), Complete(to, i); hash < end; {
			n := min(end-hash, most)
			raw := make([]byte, n*chain.HashSize)
			if err := s.read(raw, i, hash); err != nil {
				break
			}
			if _, err := f.WriteAt(raw, OffsetOf(hash)); err != nil {
				return fmt.Errorf("write %s: %w", path(s.dir, i), err)
			}
			hash += n
		}
	}
	return nil
}

// Sync makes everything that was appended durable. The error wraps [durable.ErrExhausted] if it did not begin for want
// of a resource.
func (s *Store) Sync() (err error) {
	folder, err := os.Open(s.dir)
	if err != nil {
		return durable.Unchanged(err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	for i := range s.files {
		if f := s.files[i].Load(); f != nil {
			if err := f.DataSync(); err != nil {
				return fmt.Errorf("sync %s: %w", path(s.dir, i), err)
			}
		}
	}
	return folder.Sync()
}

// Close closes the files without syncing them. No reader may be in use.
func (s *Store) Close() error {
	var errs []error
	for i := range s.files {
		if f := s.files[i].Swap(nil); f != nil {
			errs = append(errs, f.Close())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.retired {
		errs = append(errs, f.Close())
	}
	s.retired = nil
	return errors.Join(errs...)
}

// read reads hashes of a stored level, from one on.
func (s *Store) read(raw []byte, stored int, first uint64) error {
	f := s.files[stored].Load()
	if f == nil {
		return fmt.Errorf("%w: %s does not exist", ErrMissing, path(s.dir, stored))
	}
	if _, err := f.ReadAt(raw, OffsetOf(first)); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %s ends before hash %d",
				ErrMissing, path(s.dir, stored), first+uint64(len(raw)/chain.HashSize))
		}
		return fmt.Errorf("read %s: %w", path(s.dir, stored), err)
	}
	return nil
}

func decode(dst []chain.Hash, raw []byte) {
	for i := range dst {
		dst[i] = chain.Hash(raw[i*chain.HashSize:])
	}
}

// Leaves appends the hashes of count leaves, from one on, to dst. They are as they are on disk: nothing is proven.
func (s *Store) Leaves(dst []chain.Hash, first uint64, count int) ([]chain.Hash, error) {
	raw, err := s.Row(make([]byte, 0, count*chain.HashSize), 0, first, count)
	if err != nil {
		return dst, err
	}
	dst = slices.Grow(dst, count)[:len(dst)+count]
	decode(dst[len(dst)-count:], raw)
	return dst, nil
}

// Row appends the bytes of count hashes of a stored level, from one on, to dst: level is 0 for the leaves, 1 for the
// roots of 16 leaves and so on. They are as they are on disk: nothing is proven. The error wraps [ErrMissing], or is
// the disk's.
func (s *Store) Row(dst []byte, level int, first uint64, count int) ([]byte, error) {
	if first+uint64(count) > Complete(s.Size(), level) {
		return dst, fmt.Errorf("%w: hashes %d to %d of level %d",
			ErrMissing, first, first+uint64(count), tileHeight*level)
	}
	start := len(dst)
	dst = slices.Grow(dst, count*chain.HashSize)[:start+count*chain.HashSize]
	if err := s.read(dst[start:], level, first); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

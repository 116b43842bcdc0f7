package records

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// fanOut runs of a similar size are merged into one, so that an entry is rewritten once each time its run grows by that
// factor. A run of at least fullRun leaves is not merged any more. A look-up searches every run.
const (
	fanOut  = 8
	fullRun = 1 << 19
)

// level is the size class of a run for merging.
func (r *run) level() int { return bits.Len64(r.leaves()) / 3 }

// Index is the index of the first blocks of a chain. One goroutine at a time may call Add, Cut, Mend and Close.
// Look-ups and Check may run in any goroutine.
type Index struct {
	dir  string
	keys *atrest.Ring
	// bad is the first block of a run that could not be read, or nothingBad.
	bad atomic.Uint64

	mu    sync.RWMutex  // guards all below; held shared while files of runs are read
	runs  []*run        // in order, without a gap between their blocks, from block 0 on
	grown chan struct{} // closed at the next Add
}

const nothingBad = ^uint64(0)

// Open opens the index in a folder, as far as it is good. It creates the folder if it is missing. aside moves a run
// away that the system cannot read. With keys, new runs are encrypted. The error is the disk's, or wraps
// durable.ErrNewerFormat or atrest.ErrNoKey: then nothing was changed.
func Open(dir string, keys *atrest.Ring, aside func(path string) error) (*Index, error) {
	x := &Index{dir: dir, keys: keys, grown: make(chan struct{})}
	x.bad.Store(nothingBad)
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.run*"))
	if err != nil {
		return nil, err
	}
	var found []*run
	var unread []string
	for _, path := range names {
		if filepath.Ext(path) != ".run" {
			continue // it was being written when the process ended
		}
		r, err := openRun(path, keys)
		if errors.Is(err, ErrDamaged) {
			continue
		}
		if durable.OneUnreadable(err) {
			unread = append(unread, path)
			continue
		}
		if err != nil {
			return nil, errors.Join(err, eachRun(found, (*run).close))
		}
		found = append(found, r)
	}
	x.runs = x.fitting(found)
	for _, path := range names {
		if !slices.ContainsFunc(x.runs, func(r *run) bool { return r.path == path }) {
			drop := os.Remove
			if slices.Contains(unread, path) {
				drop = aside
			}
			if err := drop(path); err != nil {
				return nil, errors.Join(err, x.Close())
			}
		}
	}
	return x, nil
}

// CheckVersion checks the headers of all runs in a folder. The error names the file. It wraps durable.ErrNewerFormat if
// a newer ChainStore wrote one, and atrest.ErrNoKey if a key is missing.
func CheckVersion(dir string, keys *atrest.Ring) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.run"))
	if err != nil {
		return err
	}
	for _, path := range names {
		r, err := openRun(path, keys)
		if err == nil {
			err = r.file.Close()
		}
		if errors.Is(err, durable.ErrNewerFormat) || errors.Is(err, atrest.ErrNoKey) {
			return err
		}
	}
	return nil
}

// Reencrypt brings one run under the current key that is not: an encrypted one gets a new header, and one in clear is
// written again. It reports whether there was one. It counts as a call of Add.
func (x *Index) Reencrypt() (done bool, err error) {
	if !x.keys.Has() {
		return false, nil
	}
	current := x.keys.Current()
	at := slices.IndexFunc(x.runs, func(r *run) bool { return r.key == nil || r.id != current })
	if at < 0 {
		return false, nil
	}
	old := x.runs[at]
	if old.key != nil {
		return true, x.rewrap(old)
	}
	written, err := mergeRuns(x.dir, x.keys, []*run{old}) // it replaces the file
	if errors.Is(err, ErrDamaged) {
		x.damaged(old)
	}
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	x.runs = slices.Clone(x.runs)
	x.runs[at] = written
	x.mu.Unlock()
	return true, errors.Join(written.file.Sync(), durable.SyncDir(x.dir), old.file.Close())
}

// rewrap writes the key header of a run again and syncs it: the old key may be thrown away after this.
func (x *Index) rewrap(r *run) error {
	header := x.keys.Wrap(r.key, r.name)
	f, err := durable.OpenFile(r.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	x.mu.Lock() // a check reads the header
	_, err = f.WriteAt(encryptedFormat.Append(nil, r.name[8:], header), 0)
	x.mu.Unlock()
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the header of %s: %w", r.path, err)
	}
	x.mu.Lock()
	r.id = atrest.IDOf(header)
	x.mu.Unlock()
	return nil
}

// fitting returns the runs that follow each other from block 0 on, and closes the others. If a merge has not removed
// its parts, the largest run counts.
func (x *Index) fitting(found []*run) (runs []*run) {
	var next, leaf uint64
	for {
		var best *run
		for _, r := range found {
			follows := r.from == next && r.first >= leaf && r.path == runPath(x.dir, &r.head)
			if follows && (best == nil || r.to > best.to) {
				best = r
			}
		}
		if best == nil {
			break
		}
		runs = append(runs, best)
		next, leaf = best.to, best.end
	}
	for _, r := range found {
		if !slices.Contains(runs, r) {
			_ = r.file.Close() // only read
		}
	}
	return runs
}

// eachRun calls do for all runs, whatever it returns.
func eachRun(runs []*run, do func(*run) error) (err error) {
	for _, r := range runs {
		err = errors.Join(err, do(r))
	}
	return err
}

func (r *run) close() error { return r.file.Close() }

// End returns the number of blocks and leaves that are indexed, and the hash of the last block.
func (x *Index) End() (blocks, leaves uint64, last chain.Hash) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if n := len(x.runs); n > 0 {
		r := x.runs[n-1]
		return r.to, r.end, r.last
	}
	return 0, 0, chain.Hash{}
}

// Grown returns a channel that is closed when the index grows after the call.
func (x *Index) Grown() <-chan struct{} {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.grown
}

// Add indexes the blocks of a batch, which must begin after the last indexed block. After an error the index is as
// before, or smaller.
func (x *Index) Add(b *Batch) error {
	if blocks, _, _ := x.End(); b.from != blocks || b.to <= b.from {
		return fmt.Errorf("records: a batch of blocks %d to %d after %d blocks", b.from, b.to, blocks)
	}
	r, err := b.write(x.dir, x.keys)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.runs = append(x.runs, r)
	close(x.grown)
	x.grown = make(chan struct{})
	x.mu.Unlock()
	return x.merge()
}

// merge merges the last runs while there are enough that are no larger than the last one.
func (x *Index) merge() error {
	for {
		n := len(x.runs)
		from := n
		for from > 0 && x.runs[from-1].level() <= x.runs[n-1].level() && x.runs[from-1].leaves() < fullRun {
			from--
		}
		if n-from < fanOut {
			return nil
		}
		parts := x.runs[from:]
		merged, err := mergeRuns(x.dir, x.keys, parts)
		if errors.Is(err, ErrDamaged) {
			x.damaged(parts[0]) // one of them is
		}
		if err != nil {
			return err
		}
		x.mu.Lock()
		x.runs = append(x.runs[:from:from], merged)
		x.mu.Unlock()
		if err := eachRun(parts, (*run).remove); err != nil {
			return err
		}
	}
}

// remove closes and removes the file of a run that is not read any more.
func (r *run) remove() error {
	err := errors.Join(r.file.Close(), os.Remove(r.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// damaged notes that a run cannot be read.
func (x *Index) damaged(r *run) {
	for {
		was := x.bad.Load()
		if r.from >= was || x.bad.CompareAndSwap(was, r.from) {
			return
		}
	}
}

// Cut drops the runs that go beyond a number of blocks.
func (x *Index) Cut(blocks uint64) error {
	x.mu.Lock()
	n := len(x.runs)
	for n > 0 && x.runs[n-1].to > blocks {
		n--
	}
	gone := x.runs[n:]
	x.runs = x.runs[:n:n]
	x.mu.Unlock()
	return eachRun(gone, (*run).remove)
}

// Mend drops the first run that was found damaged, and all after it, and reports whether there was one.
func (x *Index) Mend() (mended bool, err error) {
	bad := x.bad.Swap(nothingBad)
	if bad == nothingBad {
		return false, nil
	}
	return true, x.Cut(bad)
}

// Check reads the whole index, one run at a time. The error wraps ErrDamaged, and Mend drops that run then; or it is
// that of the context.
func (x *Index) Check(ctx context.Context) error {
	x.mu.RLock()
	runs := x.runs
	x.mu.RUnlock()
	for _, r := range runs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := x.checkRun(r); err != nil {
			x.damaged(r)
			return err
		}
	}
	return nil
}

// checkRun reads a run, if it still belongs to the index.
func (x *Index) checkRun(r *run) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !slices.Contains(x.runs, r) {
		return nil // it was merged meanwhile
	}
	return r.check()
}

// Close closes the files.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	runs := x.runs
	x.runs = nil
	return eachRun(runs, (*run).close)
}

package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/storagenode/inbox"
	"github.com/chainstore/chainstore/storagenode/records"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// keysPause is the time between two looks at the file of keys.
const keysPause = 10 * time.Second

// encryptMost is the longest number of pauses between two passes over all files.
const encryptMost = 64

const (
	// convertStep is the number of blocks that are converted at a time.
	convertStep = 64
	// convertRate bounds the bytes per second that a running node converts. It is that of a check by default.
	convertRate = 32 << 20
)

// errPutOff: a file cannot be encrypted again now.
var errPutOff = errors.New("it is encrypted again later")

// followKeys reads the file of keys again when it changes, and brings all files under the first key: encrypted ones get
// new headers, and others are encrypted. The index of records is left to its own goroutine.
//
// The passes over the files become rarer and do not end: a repair that began before the key was replaced, or a check
// that restores a header, may leave a file under another key, and a damaged file is put off. They need no file of keys:
// it may be there at the start only.
func (n *Node) followKeys(ctx context.Context) {
	var reading, encrypting onceLogger
	wait, longer := 0, 1 // pauses until the next pass, and after that
	for {
		changed, err := n.cfg.AtRest.Reload()
		reading.log(n.log, "the file of at-rest keys is not used as it is, the keys that it had still are", err)
		if changed {
			n.log.Info("the file of at-rest keys has changed", "key", n.cfg.AtRest.Current())
			wait, longer = 0, 1
		}
		if wait--; wait < 0 {
			err := n.encryptAll(ctx, false, n.cfg.convertRate)
			if errors.Is(err, ErrFailed) || ctx.Err() != nil {
				return
			}
			encrypting.log(n.log, "files are not under the current at-rest key", err)
			wait, longer = longer, min(2*longer, encryptMost)
		}
		n.indexer.chainGrew() // it may have runs to encrypt
		select {
		case <-ctx.Done():
			return
		case <-time.After(n.cfg.keysPause):
		}
	}
}

// Reencrypt writes all blocks again under new data keys, and begins the index of records again. It must not run beside
// Close. The error wraps ErrFailed, or says what could not be encrypted again.
func (n *Node) Reencrypt(ctx context.Context) error {
	if !n.cfg.AtRest.Has() {
		return errors.New("the node has no at-rest keys")
	}
	err := n.encryptAll(ctx, true, 0)
	if errors.Is(err, ErrFailed) || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, n.indexer.renew())
}

// encryptAll brings segments, inbox and quarantine under the current key. With data, encrypted segments and the inbox
// get new data keys too. rate bounds the bytes of segments per second, 0 for no limit. The error wraps ErrFailed, or
// names files that could not be encrypted now.
func (n *Node) encryptAll(ctx context.Context, data bool, rate int64) error {
	firsts, err := segment.List(n.dir.Segments())
	if err != nil {
		return err
	}
	var errs []error
	n.encrypting.Lock()
	defer n.encrypting.Unlock()
	for _, first := range firsts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		plain, err := n.rewrapSegment(first)
		if err == nil && (data || plain) {
			err = n.convert(ctx, first, rate)
		}
		if errors.Is(err, ErrFailed) {
			return err
		}
		errs = append(errs, err)
	}
	errs = append(errs, n.encryptInbox(ctx, data), n.rewrapQuarantine())
	return errors.Join(errs...)
}

// rewrapSegment writes the header of an encrypted segment under the current key. plain reports that the segment is not
// encrypted. The error wraps ErrFailed if a write failed, and errPutOff if the header is damaged.
func (n *Node) rewrapSegment(first uint64) (plain bool, err error) {
	n.life.RLock()
	defer n.life.RUnlock()
	path := n.segmentPath(first)
	err = n.locked(func() error {
		f, err := n.cfg.open(path, os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was moved away
		}
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // what was written is synced
		if plain = !segment.IsEncrypted(f); plain {
			if err := segment.CheckHeader(f, first); err != nil {
				plain = false
				return fmt.Errorf("%w: %w", err, errPutOff) // a check restores it
			}
		}
		changed, err := segment.Rewrap(f, n.cfg.AtRest)
		if changed {
			n.log.Debug("a header is encrypted with the current at-rest key", "file", path)
		}
		return n.fail(err)
	})
	return plain, err
}

// encryptInbox writes the blocks of the inbox again that are not under the current key, or all of them. Nothing waits
// for more than one of them.
func (n *Node) encryptInbox(ctx context.Context, all bool) error {
	n.life.RLock()
	n.mu.Lock()
	numbers := n.inbox.Numbers()
	n.mu.Unlock()
	n.life.RUnlock()
	var errs []error
	for _, number := range numbers {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := n.encryptWaiting(number, all)
		if errors.Is(err, ErrFailed) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// encryptWaiting writes a block of the inbox again if it is still there, and not under the current key or to be written
// in any case.
func (n *Node) encryptWaiting(number uint64, always bool) error {
	n.life.RLock()
	defer n.life.RUnlock()
	return n.locked(func() error {
		if !n.inbox.Has(number) || !always && n.inbox.IsCurrent(number) {
			return nil
		}
		data, err := n.inbox.Read(number)
		if err != nil {
			return fmt.Errorf("%s: %w", n.inbox.Path(number), err) // its turn in the chain judges it
		}
		return n.fail(n.inbox.Rewrite(number, data, n.cfg.writeFile))
	})
}

// rewrapQuarantine writes the headers of encrypted files in quarantine/ under the current key. Everything else in them
// stays as it is.
func (n *Node) rewrapQuarantine() error {
	var errs []error
	for _, dir := range n.quarantines() {
		entries, err := os.ReadDir(dir)
		if err != nil && !durable.Absent(err) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue
			}
			path := filepath.Join(dir, e.Name())
			if err := n.rewrapAside(path); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", path, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (n *Node) quarantines() []string {
	return []string{n.dir.Quarantine(), filepath.Join(n.dir.Segments(), filepath.Base(n.dir.Quarantine()))}
}

// rewrapAside writes the header of a file in quarantine/ under the current key.
func (n *Node) rewrapAside(path string) error {
	f, err := segment.OpenAny(path, os.O_RDWR, n.cfg.AtRest)
	if err != nil {
		return err
	}
	_, err = segment.Rewrap(f, n.cfg.AtRest)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return inbox.Rewrap(path, n.cfg.AtRest, n.cfg.writeFile)
}

// convert writes a segment again under a new data key, as a repair does that receives nothing. It gives way to a
// repair. A segment with blocks that cannot be read stays as it is. The error wraps ErrFailed, or errPutOff.
func (n *Node) convert(ctx context.Context, first uint64, rate int64) error {
	c := &conversion{n: n, first: first}
	began := time.Now()
	for !c.done {
		if err := keepRate(ctx, rate, began, c.bytes); err != nil {
			return errors.Join(err, c.abandon())
		}
		if err := c.step(); err != nil {
			return errors.Join(fmt.Errorf("encrypt %s: %w", n.segmentPath(first), err), c.abandon())
		}
	}
	n.log.Info("a segment is encrypted", "file", segment.Name(first), "key", n.cfg.AtRest.Current())
	return nil
}

// conversion is one segment that is written again. It belongs to one goroutine.
type conversion struct {
	n     *Node
	first uint64
	state *chainState    // the one of the first step
	own   incomingRepair // receives nothing
	bytes uint64         // that were written
	done  bool
}

// step converts some blocks, and replaces the file after the last one. Between two steps a repair may begin, or the
// chain may be cut.
func (c *conversion) step() error {
	n := c.n
	n.life.RLock()
	defer n.life.RUnlock()
	if r := n.lastRepair(); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.rewrite != nil || !r.closed && len(r.missing) > 0 {
			return fmt.Errorf("a repair is open: %w", errPutOff)
		}
	}
	if c.state == nil {
		c.state = n.chainState
	}
	if c.state != n.chainState || n.blocked != nil {
		return fmt.Errorf("its blocks are not known: %w", errPutOff)
	}
	if c.own.rewrite == nil {
		if err := n.cfg.Room(); err != nil {
			return err
		}
		w, err := n.beginRewrite(&c.own, c.first)
		if err != nil {
			return n.failRewrite(&c.own, err)
		}
		c.own.rewrite = w
	}
	w := c.own.rewrite
	end := n.index.SegmentEnd(c.first)
	if err := w.copyUpTo(min(end, w.next()+convertStep)); err != nil {
		return n.failRewrite(&c.own, err)
	}
	if w.old == nil || w.keepWhole && c.losesBlocks() {
		return fmt.Errorf("a block cannot be read, which a repair replaces: %w", errPutOff)
	}
	c.bytes = uint64(w.size)
	if w.next() < end {
		return nil
	}
	c.done = true
	return n.finishRewrite(&c.own)
}

// losesBlocks reports whether a block could not be copied that is not confirmed as lost. If all are confirmed, the old
// file is kept in quarantine/.
func (c *conversion) losesBlocks() bool {
	for _, span := range c.own.rewrite.lost {
		for number := span.From; number < span.To; number++ {
			if p, _, _ := c.n.index.Get(number); !p.Lost() && !c.n.confirmedLost(number) {
				return true
			}
		}
	}
	return false
}

// abandon closes an unfinished conversion, and removes its file unless that may belong to a repair now.
func (c *conversion) abandon() error {
	n, w := c.n, c.own.rewrite
	if w == nil {
		return nil
	}
	n.life.RLock()
	defer n.life.RUnlock()
	w.close()
	c.own.rewrite = nil
	if r := n.lastRepair(); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.rewrite != nil {
			return nil
		}
	}
	if err := os.Remove(w.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// AtRestFiles counts the files of a data folder by the key that they need.
type AtRestFiles struct {
	Keys       map[atrest.ID]int // encrypted files, by the id of the key
	Plain      int               // segments, blocks of the inbox and runs of the index of records in clear
	Quarantine int               // files in quarantine/ that are not encrypted
	Unread     []error           // files that cannot be read
}

// CountAtRest counts the files of a data folder. It needs no key, and a node may run in the folder.
func CountAtRest(path string) (AtRestFiles, error) {
	dir := folder.Dir(path)
	files := AtRestFiles{Keys: map[atrest.ID]int{}}
	if used, err := dir.IsUsed(); err != nil || !used {
		return files, errors.Join(fmt.Errorf("%s is not the data folder of a storage node", path), err)
	}
	for _, kind := range []struct {
		dir, pattern string
		plain        *int
	}{
		{dir.Segments(), "*.seg*", &files.Plain}, {dir.Inbox(), "*.block", &files.Plain},
		{dir.Records(), "*.run*", &files.Plain},
		{dir.Quarantine(), "*", &files.Quarantine},
		{filepath.Join(dir.Segments(), filepath.Base(dir.Quarantine())), "*", &files.Quarantine},
	} {
		paths, err := filepath.Glob(filepath.Join(kind.dir, kind.pattern))
		if err != nil {
			return files, err
		}
		for _, path := range paths {
			switch ids, err := keysOf(path); {
			case errors.Is(err, fs.ErrNotExist): // it was removed meanwhile
			case err != nil:
				files.Unread = append(files.Unread, err)
			case len(ids) == 0:
				*kind.plain++
			default:
				for _, id := range ids {
					files.Keys[id]++
				}
			}
		}
	}
	return files, nil
}

// keysOf returns the ids of the keys that a file needs, none if it is not encrypted.
func keysOf(path string) ([]atrest.ID, error) {
	f, err := durable.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if ids, encrypted := segment.KeyIDs(f); encrypted {
		return ids, nil
	}
	var start [256]byte
	n, err := f.ReadAt(start[:], 0)
	if err != nil && n == 0 && !errors.Is(err, fs.ErrClosed) {
		return nil, nil // it is empty
	}
	if id, encrypted := records.KeyID(start[:n]); encrypted {
		return []atrest.ID{id}, nil
	}
	id, encrypted, err := inbox.KeyID(path)
	if !encrypted {
		return nil, err
	}
	return []atrest.ID{id}, nil
}

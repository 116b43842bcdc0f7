package storagenode

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/records"
)

// Bounds of what is indexed at a time.
const (
	batchLeaves = 1 << 16
	batchBytes  = 16 << 20
)

// followPause is how long the index waits before it tries again what failed: a damaged block that a repair may bring back, a full disk.
const followPause = 2 * time.Second

// follower keeps the index of records up to the chain, in a goroutine of its own: no block waits for it. A failure costs the lists that
// this node answers, and nothing else.
type follower struct {
	n     *Node
	index *records.Index
	wake  chan struct{} // holds one: the chain has grown
	job   job
	once  sync.Once // of stop

	mu    sync.Mutex // guards all below
	grown chan struct{}
	said  string // the last failure that was logged
}

func (n *Node) recordsDir() string { return filepath.Join(n.cfg.Dir, "records") }

// openFollower opens the index and starts to follow the chain.
func (n *Node) openFollower() error {
	index, err := records.Open(n.recordsDir())
	if err != nil {
		return err
	}
	f := &follower{n: n, index: index, wake: make(chan struct{}, 1), grown: make(chan struct{})}
	f.job = startJob(f.run)
	n.follower.Store(f)
	f.poke()
	return nil
}

// stop ends the goroutine and closes the index. Nobody may hold life, which the goroutine takes.
func (f *follower) stop() (err error) {
	f.once.Do(func() {
		f.job.stop()
		err = f.index.Close()
	})
	return err
}

// poke tells that the chain may have grown.
func (f *follower) poke() {
	if f == nil {
		return // the node is still being opened
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) run(ctx context.Context) {
	timer := time.NewTimer(followPause)
	defer timer.Stop()
	for {
		more, err := f.step(ctx)
		f.tell(err)
		if more && err == nil {
			continue
		}
		timer.Reset(followPause)
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
			if err == nil {
				continue
			}
			select { // what failed would fail again at once
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		case <-timer.C:
		}
	}
}

// tell logs a failure once.
func (f *follower) tell(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.said {
		f.n.log.Warn("the index of records waits", "because", err)
	}
	f.said = text
}

// step brings the index nearer to the chain, and reports whether there is more to do.
func (f *follower) step(ctx context.Context) (more bool, err error) {
	if ctx.Err() != nil {
		return false, nil
	}
	batch, err := f.next()
	if batch == nil || batch.Empty() {
		return false, err
	}
	// Should the chain be cut meanwhile, the next step finds that out.
	if err := f.index.Add(batch); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.grown)
	f.grown = make(chan struct{})
	return true, nil
}

// next reads what is to be indexed next.
func (f *follower) next() (*records.Batch, error) {
	f.n.life.RLock()
	defer f.n.life.RUnlock()
	if err := f.fit(); err != nil {
		return nil, err
	}
	from, _, _ := f.index.End()
	return f.gather(from)
}

// fit forgets what was found damaged, and what is not of this chain.
func (f *follower) fit() error {
	mended, err := f.index.Mend()
	if mended {
		f.n.log.Error("the index of records was damaged, and is written again from the blocks", "folder", f.n.recordsDir())
	}
	if err != nil {
		return err
	}
	for {
		blocks, _, last := f.index.End()
		if blocks == 0 {
			return nil
		}
		if blocks <= f.n.Status().Height {
			r := f.n.reader()
			h, err := r.header(f.n, blocks-1)
			r.release(f.n)
			if err == nil && h.Hash() == last {
				return nil
			}
			if errors.Is(err, ErrDamaged) {
				return err // whether it fits is known when the block is repaired
			}
		} else if f.n.barred {
			return nil // the chain is there, and cannot be proven as far at the moment
		}
		f.n.log.Warn("the index of records goes beyond the chain, or is another one's, and is cut", "blocks", blocks)
		if err := f.index.Cut(blocks - 1); err != nil {
			return err
		}
	}
}

// gather reads blocks from a number on. A block that is lost for good is passed over; the error is that of the first that cannot be
// read, before which the batch ends.
func (f *follower) gather(from uint64) (*records.Batch, error) {
	batch := records.NewBatch(from)
	b := blockReader{n: f.n}
	bytes := 0
	var leaves []chain.Hash
	for number := from; number < f.n.Status().Height && batch.Leaves() < batchLeaves && bytes < batchBytes; number++ {
		data, err := b.block(number)
		if err != nil {
			if f.n.lostForGood(number) {
				continue
			}
			return batch, err
		}
		block, err := chain.ParseBlock(data)
		if err != nil {
			return batch, fmt.Errorf("%w: block %d: %w", ErrDamaged, number, err)
		}
		if leaves, err = f.n.tiles.Leaves(leaves[:0], block.Header.First, int(block.Header.Count)); err != nil {
			return batch, err
		}
		batch.Add(&block, leaves)
		bytes += len(data)
	}
	return batch, nil
}

// lostForGood reports whether a person confirmed that a block is lost.
func (n *Node) lostForGood(number uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.lost {
		if r.Holds(number) {
			return true
		}
	}
	return false
}

// await waits until the index goes up to a leaf, or ctx ends.
func (f *follower) await(ctx context.Context, leaf uint64) {
	for {
		f.mu.Lock()
		grown := f.grown
		f.mu.Unlock()
		if _, end, _ := f.index.End(); end >= leaf {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-grown:
		}
	}
}

// checkRecords reads the index of records, and has written again what is damaged.
func (n *Node) checkRecords(ctx context.Context) error {
	f := n.follower.Load()
	if f == nil {
		return nil
	}
	err := f.index.Check(ctx)
	if errors.Is(err, records.ErrDamaged) {
		n.log.Error("the check found damage in the index of records", "error", err)
		f.poke()
		return nil
	}
	return err
}

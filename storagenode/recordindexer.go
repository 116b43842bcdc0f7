package storagenode

import (
	"context"
	"errors"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/records"
)

// Bounds of what is indexed at a time.
const (
	batchLeaves = 1 << 16
	batchBytes  = 16 << 20
)

// indexerPause is how long the indexer waits before it tries again what failed: a damaged block that a repair may
// replace, a full disk.
const indexerPause = 2 * time.Second

// recordIndexer keeps the index of records up to the chain, in a goroutine of its own: no block waits for it. A failure
// costs the lists that this node answers, and nothing else.
type recordIndexer struct {
	n      *Node
	index  *records.Index
	wake   chan struct{} // holds one value if the chain has grown
	job    *job
	logged onceLogger // of the goroutine
}

// startRecordIndexer opens the index and starts to follow the chain.
func startRecordIndexer(n *Node) (*recordIndexer, error) {
	index, err := records.Open(n.dir.Records(), n.cfg.AtRest, func(path string) error {
		n.unclean.Store(true)
		to, err := n.dir.MoveAside(path)
		n.log.Error("a file of the index of records cannot be read, and is written again", "file", path, "kept", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	x := &recordIndexer{n: n, index: index, wake: make(chan struct{}, 1)}
	x.chainGrew()
	x.job = startJob(nil, x.run)
	return x, nil
}

// stop ends the goroutine and closes the index. The caller must not hold life, which the goroutine takes.
func (x *recordIndexer) stop() error {
	x.job.stop()
	return x.index.Close()
}

// renew drops the whole index. The goroutine writes it again.
func (x *recordIndexer) renew() error {
	x.job.stop()
	err := x.index.Cut(0)
	x.chainGrew()
	x.job = startJob(nil, x.run)
	return err
}

// chainGrew wakes the indexer.
func (x *recordIndexer) chainGrew() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *recordIndexer) run(ctx context.Context) {
	for {
		more, err := x.step(ctx)
		x.logged.log(x.n.log, "the index of records waits", err)
		if durable.IsSync(err) {
			_ = x.n.failUnlocked(err) // the role reports it
			return
		}
		if more && err == nil {
			continue
		}
		wake := x.wake
		if err != nil {
			wake = nil // what failed would fail again at once
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(indexerPause):
		}
	}
}

// step indexes the next blocks, and reports whether there may be more.
func (x *recordIndexer) step(ctx context.Context) (more bool, err error) {
	if ctx.Err() != nil {
		return false, nil
	}
	batch, err := x.next()
	if batch == nil || batch.Empty() {
		if err == nil {
			return x.index.Reencrypt()
		}
		return false, err
	}
	// If the chain is cut meanwhile, the next step cuts the index.
	return true, x.index.Add(batch)
}

// next reads what is to be indexed next.
func (x *recordIndexer) next() (*records.Batch, error) {
	x.n.life.RLock()
	defer x.n.life.RUnlock()
	if err := x.cutToChain(); err != nil {
		return nil, err
	}
	from, _, _ := x.index.End()
	return x.readBatch(from)
}

// cutToChain drops from the index what is damaged and what is not of this chain.
func (x *recordIndexer) cutToChain() error {
	mended, err := x.index.Mend()
	if mended {
		x.n.log.Error("the index of records was damaged, and is written again from the blocks",
			"folder", x.n.dir.Records())
	}
	if err != nil {
		return err
	}
	for {
		blocks, _, last := x.index.End()
		if blocks == 0 {
			return nil
		}
		if blocks <= x.n.Status().Height {
			h, err := x.n.header(blocks - 1)
			if err == nil && h.Hash() == last {
				return nil
			}
			if errors.Is(err, ErrDamaged) || durable.CannotRead(err) {
				return err // whether it fits is known when the block can be read
			}
		} else if x.n.blocked != nil {
			return nil // the chain is there, and cannot be proven up to that block now
		}
		x.n.log.Warn("the index of records goes beyond the chain, or is that of another one, and is cut",
			"blocks", blocks)
		if err := x.index.Cut(blocks - 1); err != nil {
			return err
		}
	}
}

// readBatch reads blocks from a number on. It passes over blocks that are confirmed as lost. The error is that of the
// first block that cannot be read; the batch ends before it.
func (x *recordIndexer) readBatch(from uint64) (*records.Batch, error) {
	batch := records.NewBatch(from)
	b := blockReader{n: x.n}
	bytes := 0
	var leaves []chain.Hash
	for number := from; number < x.n.Status().Height && batch.Leaves() < batchLeaves && bytes < batchBytes; number++ {
		block, err := b.parsed(number)
		if err != nil {
			if x.n.confirmedLost(number) {
				continue
			}
			return batch, err
		}
		leaves, err = x.n.tiles.Leaves(leaves[:0], block.Header.First, int(block.Header.Count))
		if err != nil {
			return batch, err
		}
		batch.Add(&block, leaves)
		bytes += len(block.Bytes())
	}
	return batch, nil
}

// confirmedLost reports whether a person confirmed that a block is lost.
func (n *Node) confirmedLost(number uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return chain.HoldsBlock(n.lost, number)
}

// awaitQuery is await for as long as a query waits.
func (x *recordIndexer) awaitQuery(ctx context.Context, leaf uint64) {
	ctx, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	x.await(ctx, leaf)
}

// await waits until the index goes up to a leaf, or ctx ends.
func (x *recordIndexer) await(ctx context.Context, leaf uint64) {
	for {
		grown := x.index.Grown()
		if _, end, _ := x.index.End(); end >= leaf {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-grown:
		}
	}
}

// checkRecords reads the index of records, and has the indexer write again what is damaged.
func (n *Node) checkRecords(ctx context.Context) error {
	err := n.indexer.index.Check(ctx)
	if errors.Is(err, records.ErrDamaged) {
		n.log.Error("the check found damage in the index of records", "error", err)
		n.indexer.chainGrew()
		return nil
	}
	return err
}

package masternode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// bundles reads the entries below the tiles of the lowest level. A storage node makes them from the records, payloads and all, and anybody may ask
// for them, so they are not to keep the nodes from records: few are read at a time, each once for all who wait for it and as wide as there is one,
// and a node that is slow with them is so for bundles alone.
type bundles struct {
	tree    *tree
	reads   batch.SingleFlight[uint64, bundle]
	waiting counter       // reads that are under way, or wait for making
	making  chan struct{} // holds one for each that is under way

	mu   sync.Mutex // guards all below
	kept *lru.Cache[uint64, bundle]
	slow map[string]time.Time // node id: ask for a bundle last before
}

// bundle is a run of entries that were proven.
type bundle struct {
	entries int
	data    []byte
}

const (
	// keptBundles are 13 KiB each where records are many to a block, and at most wire.MaxBundle.
	keptBundles = 1024
	// bundleReads is how many bundles are read from storage nodes at a time, bundleWaits how many more may wait for that.
	bundleReads, bundleWaits = 8, 64
	// bundleTimeout is how long a storage node may take for the entries of a bundle.
	bundleTimeout = 15 * time.Second
)

func newBundles(t *tree) *bundles {
	kept, err := lru.New[uint64, bundle](keptBundles)
	if err != nil {
		panic(err) // of a size that is not positive
	}
	return &bundles{
		tree: t, waiting: counter{limit: bundleReads + bundleWaits}, making: make(chan struct{}, bundleReads), kept: kept, slow: map[string]time.Time{},
	}
}

// first is the first width entries of a bundle. Errors: ErrLost where a block of them is lost, ErrUnavailable, ErrBusy.
func (b *bundles) first(ctx context.Context, index uint64, width int) ([]byte, error) {
	for {
		found, ok := b.known(index)
		if ok && found.entries >= width {
			return firstEntries(found.data, width), nil
		}
		widest, err := b.readable(ctx, index, width)
		if err != nil {
			return nil, err
		}
		// Whoever asked first may not have known of so many entries yet.
		found, err = b.reads.Do(ctx, index, 2*bundleTimeout, func(ctx context.Context) (bundle, error) { return b.read(ctx, index, widest) })
		if err != nil {
			return nil, err
		}
		if found.entries >= width {
			return firstEntries(found.data, width), nil
		}
	}
}

func (b *bundles) known(index uint64) (bundle, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept.Get(index)
}

// keep keeps a bundle unless a wider one is kept.
func (b *bundles) keep(index uint64, found bundle) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if have, _ := b.kept.Peek(index); have.entries < found.entries {
		b.kept.Add(index, found)
	}
}

// firstEntries cuts a bundle, which has so many, behind its first entries.
func firstEntries(data []byte, count int) []byte {
	rest := data
	for range count {
		_, rest, _ = wire.NextEntry(rest) // it was read to its end before
	}
	size := len(data) - len(rest)
	return data[:size:size]
}

// readable is how many entries of a bundle can be read: those that are stored, before the first of a block that is lost. The error tells that they are
// fewer than width.
func (b *bundles) readable(ctx context.Context, index uint64, width int) (int, error) {
	t, first := b.tree, index*wire.TileWidth
	end := first + uint64(t.widest(0, index, width))
	var view masterfsm.View
	t.prover.ledger.Read(func(s *masterfsm.State) { view = s.View() })
	for _, lost := range view.Lost {
		block, start := lost.From, uint64(0)
		if block > 0 {
			h, err := t.prover.header(ctx, block-1)
			if err != nil {
				continue // a storage node has to say that it cannot read them
			}
			start = h.Size()
		}
		if start >= end {
			break
		}
		if start < first {
			if h, err := t.prover.header(ctx, lost.To); err == nil && h.First <= first {
				continue // it ends before
			} else if err != nil && lost.To < view.Head.Height {
				continue
			}
			block = lost.To - 1
		}
		if end = max(start, first); end-first < uint64(width) {
			return 0, t.prover.orLost(block, fmt.Errorf("%w: entry %d of the bundle", ErrUnavailable, end-first))
		}
		break
	}
	return int(end - first), nil
}

// read reads and proves a bundle of so many entries.
func (b *bundles) read(ctx context.Context, index uint64, width int) (bundle, error) {
	if !b.waiting.enter() {
		return bundle{}, fmt.Errorf("%w: %d bundles of entries are being read or wait for it, the limit; try again in a moment", ErrBusy, b.waiting.limit)
	}
	defer b.waiting.leave()
	leaves, err := b.tree.tile(ctx, 0, index, width)
	if err != nil {
		return bundle{}, err
	}
	select {
	case b.making <- struct{}{}:
		defer func() { <-b.making }()
	case <-ctx.Done():
		return bundle{}, context.Cause(ctx)
	}
	data, err := b.entries(ctx, index*wire.TileWidth, leaves)
	if err != nil {
		return bundle{}, err
	}
	found := bundle{entries: width, data: data}
	b.keep(index, found)
	return found, nil
}

// entries gets the entries of the leaves from one on from the first node whose entries have those hashes.
func (b *bundles) entries(ctx context.Context, first uint64, leaves []byte) ([]byte, error) {
	p := b.tree.prover
	for _, node := range b.candidates() {
		if ctx.Err() != nil {
			break
		}
		tryCtx, cancel := context.WithTimeout(ctx, bundleTimeout)
		answer, err := p.workers.Entries(tryCtx, worker(node), first, len(leaves)/tlog.HashSize)
		cancel()
		switch {
		case err != nil:
			b.noAnswer(ctx, node, err)
		case answer.Status == wire.ReadBehind:
		case answer.Status == wire.ReadBad && p.lost(answer.Block): // where those end could not be proven before
		case answer.Status != wire.ReadFound:
			p.distrust(node, "leaves that it cannot read", fmt.Errorf("block %d: read status %d", answer.Block, answer.Status))
		default:
			wrong := checkEntries(answer.Bundle, leaves)
			if wrong == nil {
				return answer.Bundle, nil
			}
			p.distrust(node, "entries that it cannot prove", wrong)
		}
	}
	return nil, unavailable(ctx, "entries from leaf %d on", first)
}

// candidates are the prover's, those last that were slow with bundles.
func (b *bundles) candidates() []masterfsm.Storage {
	nodes := b.tree.prover.candidates(func(n masterfsm.Storage) bool { return n.Height > 0 })
	now := b.tree.prover.clock()
	b.mu.Lock()
	defer b.mu.Unlock()
	rank := func(n masterfsm.Storage) int {
		if now.Before(b.slow[n.ID]) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(nodes, func(x, y masterfsm.Storage) int { return cmp.Compare(rank(x), rank(y)) })
	return nodes
}

// noAnswer asks a node last for bundles for a while; a reader who went away is no fault of it.
func (b *bundles) noAnswer(ctx context.Context, node masterfsm.Storage, err error) {
	if ctx.Err() != nil {
		return
	}
	rest := unwellFor
	if errors.Is(err, context.DeadlineExceeded) {
		rest = hungFor
	}
	b.tree.prover.log.Warn("storage node passed over for entries", "node", node.ID, "url", node.URL, "for", rest, "error", err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slow[node.ID] = b.tree.prover.clock().Add(rest)
}

// checkEntries holds the entries of a bundle against their leaf hashes.
func checkEntries(data, leaves []byte) error {
	for i := 0; len(leaves) > 0; i++ {
		entry, rest, err := wire.NextEntry(data)
		if err != nil {
			return err
		}
		if hash := tlog.RecordHash(entry); !bytes.Equal(hash[:], leaves[:tlog.HashSize]) {
			return fmt.Errorf("entry %d does not have the leaf's hash", i)
		}
		data, leaves = rest, leaves[tlog.HashSize:]
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes behind the last entry", len(data))
	}
	return nil
}

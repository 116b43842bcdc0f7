package prover

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// bundles reads the entries below the tiles of the lowest level. A storage node makes them from the records with their
// payloads, and no token is needed to request them, so they must not keep the nodes from reading records: few bundles
// are read at a time, each once for all callers and as wide as it is stored, and a node that is slow with bundles is
// asked last for bundles alone.
type bundles struct {
	prover  *Prover
	kept    *runCache[uint64]
	waiting chan struct{}        // holds a token for each read that is in flight or waits for making
	making  chan struct{}        // holds a token for each read that is in flight
	slow    map[string]time.Time // by node id: ask last for a bundle until then; guarded by the prover's mu
}

const (
	// keptBundles are 13 KiB each with many records to a block, and at most wire.MaxBundle.
	keptBundles = 1024
	// bundleReads is how many bundles are read from storage nodes at a time, bundleWaits how many more may wait for
	// that.
	bundleReads, bundleWaits = 8, 64
	// bundleTimeout is how long a storage node may take for the entries of a bundle.
	bundleTimeout = 15 * time.Second
)

func newBundles(p *Prover) *bundles {
	return &bundles{
		prover: p, kept: newRunCache[uint64](keptBundles), slow: map[string]time.Time{},
		waiting: make(chan struct{}, bundleReads+bundleWaits), making: make(chan struct{}, bundleReads),
	}
}

// Entries returns the first width entries of a bundle. Errors: wire.ErrLost if the block of one of them is lost,
// wire.ErrUnavailable, ErrBusy.
func (p *Prover) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	b := p.bundles
	found, ok := b.kept.known(index, width)
	if !ok {
		widest, err := b.readable(ctx, index, width)
		if err != nil {
			return nil, err
		}
		found, err = b.kept.get(ctx, index, width, 2*bundleTimeout, func(ctx context.Context) (run, error) {
			return b.read(ctx, index, widest)
		})
		if err != nil {
			return nil, err
		}
	}
	return firstEntries(found.data, width), nil
}

// firstEntries returns the first entries of a bundle that has at least that many.
func firstEntries(data []byte, count int) []byte {
	rest := data
	for range count {
		_, rest, _ = wire.NextEntry(rest) // it was parsed when it was proven
	}
	size := len(data) - len(rest)
	return data[:size:size]
}

// readable returns how many entries of a bundle can be read: the stored ones, up to the first of a lost block. It
// returns an error if they are fewer than width.
func (b *bundles) readable(ctx context.Context, index uint64, width int) (int, error) {
	p, first := b.prover, index*wire.TileWidth
	end := first + uint64(p.widest(tileID{0, index}, width))
	var view masterfsm.View
	p.cfg.Ledger.Read(func(s *masterfsm.State) { view = s.View() })
	for _, lost := range view.Lost {
		block, start := lost.From, uint64(0)
		if block > 0 {
			h, err := p.Header(ctx, block-1)
			if err != nil {
				continue // the storage node reports that it cannot read them
			}
			start = h.Size()
		}
		if start >= end {
			break
		}
		if start < first {
			if h, err := p.Header(ctx, lost.To); err == nil && h.First <= first {
				continue // the lost blocks end before the bundle
			} else if err != nil && lost.To < view.Head.Height {
				continue
			}
			block = lost.To - 1
		}
		if end = max(start, first); end-first < uint64(width) {
			err := fmt.Errorf("%w: entry %d of the bundle", wire.ErrUnavailable, end-first)
			return 0, p.ExplainLost(block, err)
		}
		break
	}
	return int(end - first), nil
}

// read reads and proves the first width entries of a bundle.
func (b *bundles) read(ctx context.Context, index uint64, width int) (run, error) {
	select {
	case b.waiting <- struct{}{}:
		defer func() { <-b.waiting }()
	default:
		return run{}, fmt.Errorf("%w: %d bundles of entries are being read or wait for it, the limit; "+
			"try again in a moment",
			ErrBusy, cap(b.waiting))
	}
	leaves, err := b.prover.Tile(ctx, 0, index, width)
	if err != nil {
		return run{}, err
	}
	select {
	case b.making <- struct{}{}:
		defer func() { <-b.making }()
	case <-ctx.Done():
		return run{}, context.Cause(ctx)
	}
	data, err := b.entries(ctx, index*wire.TileWidth, leaves)
	if err != nil {
		return run{}, err
	}
	found := run{width: width, data: data}
	b.kept.keep(index, found)
	return found, nil
}

// entries reads the entries of leaves from the first node whose entries have those hashes. first is the index of the
// first leaf.
func (b *bundles) entries(ctx context.Context, first uint64, leaves []byte) ([]byte, error) {
	p := b.prover
	for node := range p.nodes(ctx, 1, b.slow) {
		tryCtx, cancel := context.WithTimeout(ctx, bundleTimeout)
		answer, err := p.cfg.Storages.Entries(tryCtx, workerOf(node), first, len(leaves)/tlog.HashSize)
		cancel()
		switch {
		case err != nil:
			p.noAnswer(ctx, b.slow, node, "no answer for entries", err)
		case answer.Status == wire.ReadBehind:
		case answer.Status == wire.ReadFailed:
			failed := fmt.Errorf("block %d", answer.Block)
			p.noAnswer(ctx, b.slow, node, "entries that its system cannot read now", failed)
		case answer.Status == wire.ReadBad && p.lost(answer.Block):
			// readable could not prove where the lost blocks end
		case answer.Status != wire.ReadFound:
			bad := fmt.Errorf("block %d: read status %d", answer.Block, answer.Status)
			p.Distrust(node, "leaves that it cannot read", bad)
		default:
			wrong := checkEntries(answer.Bundle, leaves)
			if wrong == nil {
				return answer.Bundle, nil
			}
			p.Distrust(node, "entries that it cannot prove", wrong)
		}
	}
	return nil, Unavailable(ctx, "entries from leaf %d on", first)
}

// checkEntries checks the entries of a bundle against their leaf hashes.
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
		return fmt.Errorf("%d bytes after the last entry", len(data))
	}
	return nil
}

package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Bounds of the memory for payloads. A block with more leaves is skipped and reported.
const (
	maxPayloadLeaves = 1 << 20
	maxPage          = 64 << 20 // bytes of one page of records
	payloadParallel  = 4        // blocks that are checked, and pages that are held, at once
)

// payloads are the blocks whose payloads are to be checked. The zero value is ready.
type payloads struct {
	open    []chain.Hash // leaves of the block that is not yet sealed
	over    bool         // it has too many
	blocks  []sealedBlock
	held    int // leaves of blocks
	checked uint64
	hidden  uint64
}

// due reports whether there are enough blocks to check several at once.
func (p *payloads) due() bool { return len(p.blocks) >= payloadParallel || p.held >= maxPayloadLeaves }

// sealedBlock is a block whose payloads are checked, and the result.
type sealedBlock struct {
	number          uint64
	leaves          []chain.Hash
	checked, hidden uint64 // records
	err             error
}

func (p *payloads) add(leaves []chain.Leaf) {
	for i := range leaves {
		p.addHash(leaves[i].Hash())
	}
}

// addHash adds a leaf to the open block.
func (p *payloads) addHash(leaf chain.Hash) {
	if p.over = p.over || len(p.open) == maxPayloadLeaves; p.over {
		p.open = nil
		return
	}
	p.open = append(p.open, leaf)
}

// sealed ends the open block. It returns false for one that is skipped.
func (p *payloads) sealed(h *chain.Header) bool {
	over := p.over
	if len(p.open) > 0 {
		p.blocks = append(p.blocks, sealedBlock{number: h.Block, leaves: p.open})
		p.held += len(p.open)
	}
	p.drop()
	return !over
}

// drop discards the open block.
func (p *payloads) drop() { p.open, p.over = nil, false }

// errPayload: a record does not match its leaf.
var errPayload = errors.New("does not fit")

// checkPayloads fetches the records of the sealed blocks that the token may read, and compares each with its leaf.
// After it everything up to the verifier's head is checked.
func (a *audit) checkPayloads(ctx context.Context) error {
	blocks := a.payloads.blocks
	a.payloads.blocks, a.payloads.held = nil, 0
	var checking errgroup.Group
	checking.SetLimit(payloadParallel)
	for i := range blocks {
		b := &blocks[i]
		checking.Go(func() error {
			b.err = a.f.records(ctx, b)
			return nil
		})
	}
	_ = checking.Wait() // the errors are in the blocks
	var failed error
	for _, b := range blocks { // a finding counts more than a block before it that cannot be read
		a.payloads.checked += b.checked
		a.payloads.hidden += b.hidden
		switch {
		case errors.Is(b.err, errPayload):
			return a.fail(CodePayload, "%v", b.err)
		case isProblem(b.err, wire.ErrLost):
			a.unchecked = chain.AddRange(a.unchecked, chain.Range{From: b.number, To: b.number + 1})
		case b.err != nil && failed == nil:
			failed = b.err
		}
	}
	if failed != nil {
		return failed
	}
	a.done = a.verifier.Head()
	return nil
}

// records reads a block's records page by page, and counts those that match their leaves and those that are hidden.
func (f *fetcher) records(ctx context.Context, b *sealedBlock) error {
	for from := uint64(0); from < uint64(len(b.leaves)); {
		data, err := f.get(ctx, fmt.Sprintf("v1/blocks/%d/records?from=%d&limit=%d", b.number, from, wire.MaxPage),
			maxPage)
		if isProblem(err, wire.ErrForbidden) {
			b.hidden += uint64(len(b.leaves)) - from
			return nil
		}
		if err != nil {
			return err
		}
		var page wire.BlockRecords
		if err := exchange.CheckLists(data); err != nil {
			return fmt.Errorf("the records of block %d: %w", b.number, err)
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return fmt.Errorf("the records of block %d: %w", b.number, err)
		}
		if len(page.Records) == 0 {
			return fmt.Errorf("the records of block %d: the page from offset %d is empty", b.number, from)
		}
		for i := range page.Records {
			r := &page.Records[i]
			if uint64(r.Offset) != from || from >= uint64(len(b.leaves)) {
				return fmt.Errorf("the records of block %d: offset %d where %d of %d is due", b.number, r.Offset, from,
					len(b.leaves))
			}
			switch {
			case r.Hidden:
				b.hidden++
			case r.Record == nil:
				return fmt.Errorf("record %d of block %d: the log shows neither its content nor that it is hidden",
					from, b.number)
			default:
				if err := fits(r.Record, b.leaves[from]); err != nil {
					return fmt.Errorf("record %d of block %d: %w", from, b.number, err)
				}
				b.checked++
			}
			from++
		}
	}
	return nil
}

// fits compares a record with its leaf.
func fits(r *wire.Record, leaf chain.Hash) error {
	record := chain.Record{Project: r.ProjectID, Time: r.Time, Key: r.Key, Type: r.Type, Payload: r.Payload}
	err := record.Check()
	if copy(record.Salt[:], r.Salt); len(r.Salt) != chain.SaltSize {
		err = fmt.Errorf("a salt of %d bytes", len(r.Salt))
	}
	if err != nil {
		return fmt.Errorf("what the log gives as its payload %w its leaf: %w", errPayload, err)
	}
	if record.Leaf().Hash() != leaf {
		return fmt.Errorf("what the log gives as its payload, salt, key, type, time and project %w its leaf",
			errPayload)
	}
	return nil
}

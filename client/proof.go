package client

import (
	"cmp"
	"context"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Proof reads the proof of the record of a leaf index, and checks it with [CheckProof]. The error wraps
// [wire.ErrNotSealed] if the record's block has no proof of work yet, and [wire.ErrNotFound] if there is no record.
func (c *Client) Proof(ctx context.Context, index uint64) (wire.Proof, error) {
	return c.proof(ctx, atIndex(index))
}

// ProofAt is Proof for the record at a position.
func (c *Client) ProofAt(ctx context.Context, block uint64, offset uint32) (wire.Proof, error) {
	return c.proof(ctx, atPosition(block, offset))
}

func (c *Client) proof(ctx context.Context, record place) (wire.Proof, error) {
	return read(ctx, c, record.path+"/proof", exchange.MaxSmall, func(p *wire.Proof) error {
		return cmp.Or(record.check(p.Block, p.Offset, p.Index), CheckProof(p))
	})
}

// CheckProof checks, by hashes only, that a record with the leaf p.Leaf is at p.Block and p.Offset in the tree of
// p.Size leaves with the root p.Root, in a block with proof of work. The caller must trust that root for another
// reason. For the leaf of a record's content see [chain.Record.Leaf]. The error wraps [ErrMismatch].
func CheckProof(p *wire.Proof) error {
	leaf, err := chain.ParseLeaf(p.LeafData)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	hash := leaf.Hash()
	header := p.Header.Header()
	switch {
	case hash != p.Leaf:
		return fmt.Errorf("%w: the leaf hash is %v, that of the leaf's data is %v", ErrMismatch, p.Leaf, hash)
	case p.Block != header.Block || p.Offset >= header.Count || p.Index != header.First+uint64(p.Offset):
		return fmt.Errorf("%w: record %d of block %d, index %d, under the header of block %d", ErrMismatch, p.Offset,
			p.Block, p.Index, header.Block)
	case p.SealIndex != header.Seal():
		return fmt.Errorf("%w: the seal's index is %d, the header's is %d", ErrMismatch, p.SealIndex, header.Seal())
	}
	if err := checkHeader(&p.Header); err != nil {
		return err
	}
	sealed := chain.SealedProof{Header: header, RecordPath: p.RecordPath, Size: p.Size, SealPath: p.SealPath}
	if err := sealed.Check(p.Index, hash, p.Root); err != nil {
		return fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	return nil
}

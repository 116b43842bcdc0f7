package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	formats "github.com/transparency-dev/formats/log"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Receipt reads the receipt of the record of a leaf index, and checks it with [CheckReceipt]. The signature of its
// checkpoint is not verified: see package verify. The error wraps [wire.ErrNotSealed] or [wire.ErrNotCovered] for a
// record that is too young, and [wire.ErrNotFound] if there is none.
func (c *Client) Receipt(ctx context.Context, index uint64) (wire.Receipt, error) {
	return c.receipt(ctx, atIndex(index))
}

// ReceiptAt is Receipt for the record at a position.
func (c *Client) ReceiptAt(ctx context.Context, block uint64, offset uint32) (wire.Receipt, error) {
	return c.receipt(ctx, atPosition(block, offset))
}

func (c *Client) receipt(ctx context.Context, record place) (wire.Receipt, error) {
	return read(ctx, c, record.path+"/receipt", exchange.MaxSmall, func(r *wire.Receipt) error {
		return cmp.Or(record.check(r.Block, r.Offset, r.Index), CheckReceipt(r))
	})
}

// CheckReceipt checks, by hashes only, that a record with that content is at its place in the tree of the receipt's
// checkpoint. It checks neither the checkpoint's signature nor the payload. The error wraps [ErrMismatch].
func CheckReceipt(r *wire.Receipt) error {
	var checkpoint formats.Checkpoint
	if _, err := checkpoint.Unmarshal([]byte(r.Checkpoint)); err != nil {
		return fmt.Errorf("%w: the checkpoint: %w", ErrMismatch, err)
	}
	leaf := chain.Leaf{Project: r.ProjectID, Time: r.Time, Size: r.Size, Commit: r.Commit}
	switch {
	case r.Format != wire.FormatReceipt:
		return fmt.Errorf("%w: a receipt of the format %q; this program knows %q", ErrMismatch, r.Format,
			wire.FormatReceipt)
	case len(r.Salt) != chain.SaltSize:
		return fmt.Errorf("%w: the salt has %d bytes, not %d", ErrMismatch, len(r.Salt), chain.SaltSize)
	case !bytes.Equal(r.LeafData, leaf.AppendTo(nil)):
		return fmt.Errorf("%w: the leaf's data are not those of project, time, size and commitment", ErrMismatch)
	case checkpoint.Origin != r.Origin || checkpoint.Size != r.TreeSize || !bytes.Equal(checkpoint.Hash, r.Root[:]):
		return fmt.Errorf("%w: the checkpoint is of %s, %d leaves, not of %s, %d leaves, with that root",
			ErrMismatch, checkpoint.Origin, checkpoint.Size, r.Origin, r.TreeSize)
	}
	return CheckProof(&wire.Proof{
		Index: r.Index, Block: r.Block, Offset: r.Offset, Leaf: r.Leaf, LeafData: r.LeafData, Header: r.Header,
		RecordPath: r.RecordPath, SealIndex: r.SealIndex, SealPath: r.SealPath, Size: r.TreeSize, Root: r.Root,
	})
}

// ownReceipt decodes the receipt in the answer to an append of e, which has the position at, and checks it. It returns
// nil for null.
func ownReceipt(data []byte, at *wire.Position, e *Entry) (*wire.Receipt, error) {
	var r *wire.Receipt
	if err := json.Unmarshal(data, &r); err != nil || r == nil {
		return nil, err
	}
	if err := CheckReceipt(r); err != nil {
		return nil, err
	}
	own := chain.Record{Salt: [chain.SaltSize]byte(r.Salt), Key: e.Key, Type: e.Type, Payload: e.Payload}
	if e.Type == "" {
		own.Type = r.Type // the master's default
	}
	switch {
	case r.Index != at.Index || r.Block != at.Block || r.Offset != at.Offset || r.Leaf != at.Leaf || r.Time != at.Time:
		return nil, fmt.Errorf("%w: the receipt of index %d for a record at index %d", ErrMismatch, r.Index, at.Index)
	case r.Key != own.Key || r.Type != own.Type || r.Size != uint32(len(e.Payload)) || own.Commit() != r.Commit:
		return nil, fmt.Errorf("%w: the receipt at index %d is of another content than what was appended", ErrMismatch,
			r.Index)
	}
	return r, nil
}

// TlogProof reads the proof of the record of a leaf index in the form of C2SP tlog-proof, with the newest checkpoint.
// It is not checked. Errors are those of [Client.Receipt].
func (c *Client) TlogProof(ctx context.Context, index uint64) ([]byte, error) {
	return c.text(ctx, atIndex(index).path+"/proof", checkTlogProof)
}

// TlogProofAt is TlogProof for the record at a position.
func (c *Client) TlogProofAt(ctx context.Context, block uint64, offset uint32) ([]byte, error) {
	return c.text(ctx, atPosition(block, offset).path+"/proof", checkTlogProof)
}

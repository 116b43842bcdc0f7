package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// Prove returns the proof of a record, which must have been read with permission. It is at the newest checkpoint if
// that covers the record's block. Otherwise, after confirming that with the leader, it is at a committed block boundary
// without a signature. Errors: wire.ErrNotSealed, wire.ErrLost, wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) Prove(ctx context.Context, r Record) (_ wire.Proof, err error) {
	defer n.cfg.Histograms.Proof.Done(time.Now(), &err)
	r, at, err := n.covered(ctx, r)
	switch {
	case errors.Is(err, wire.ErrNotCovered) || errors.Is(err, signing.ErrNoCheckpoint):
		at = Checkpoint{Boundary: n.boundaryAfter(r.At.Block)}
	case err != nil:
		return wire.Proof{}, err
	}
	return n.proveAt(ctx, r, at)
}

// sealed returns the record if its block is mined. Another master may know that before this one.
func (n *Node) sealed(ctx context.Context, r Record) (Record, error) {
	if r.Sealed {
		return r, nil
	}
	if err := n.confirm(ctx); err != nil {
		return Record{}, err
	}
	again, err := n.anyRecord(ctx, r.At.Block, r.At.Offset)
	switch {
	case err != nil:
		return Record{}, err
	case !again.Sealed:
		return Record{}, fmt.Errorf("%w: block %d", wire.ErrNotSealed, r.At.Block)
	}
	again.ProjectName = r.ProjectName
	return again, nil
}

// boundaryAfter returns a boundary that includes a mined block: the newest stored one, or else the block's own, or the
// newest of all if the table no longer has that.
func (n *Node) boundaryAfter(block uint64) (b masterfsm.Boundary) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		if b = s.Checkpoint(); b.Height > block {
			return
		}
		var ok bool
		if b, ok = s.BoundaryAt(block + 1); !ok {
			b, _ = s.BoundaryAt(s.Head().Height)
		}
	})
	return b
}

// proveAt proves a sealed record in the tree of a boundary that includes its block.
func (n *Node) proveAt(ctx context.Context, r Record, at Checkpoint) (wire.Proof, error) {
	h, err := n.Block(ctx, r.At.Block)
	if err != nil {
		return wire.Proof{}, n.prover.ExplainLost(r.At.Block, err)
	}
	record, err := n.prover.Inclusion(ctx, r.At.Index, h.Seal())
	if err != nil {
		return wire.Proof{}, err
	}
	seal, err := n.prover.Inclusion(ctx, h.Seal(), at.Boundary.Size)
	if err != nil {
		return wire.Proof{}, err
	}
	leaf := r.Record.Leaf()
	return wire.Proof{
		Index: r.At.Index, Block: r.At.Block, Offset: r.At.Offset,
		Leaf: leaf.Hash(), LeafData: leaf.AppendTo(nil), Header: wire.NewBlock(h),
		RecordPath: record, SealIndex: h.Seal(), SealPath: seal,
		Size: at.Boundary.Size, Root: at.Boundary.Root, Checkpoint: string(at.Note),
	}, nil
}

// covered returns a record once its block is mined, with the newest checkpoint that covers it, preferably one with
// cosignatures. That there is none is confirmed with the leader. Errors: wire.ErrNotSealed, and with the record
// wire.ErrNotCovered, signing.ErrNoCheckpoint, signing.ErrNoLogKey, wire.ErrNoLeader.
func (n *Node) covered(ctx context.Context, r Record) (Record, Checkpoint, error) {
	r, err := n.sealed(ctx, r)
	if err != nil {
		return r, Checkpoint{}, err
	}
	at, err := n.checkpointHere()
	if err != nil || r.At.Block >= at.Boundary.Height {
		if at, err = n.Checkpoint(ctx); err != nil {
			return r, Checkpoint{}, err
		}
	}
	if r.At.Block >= at.Boundary.Height {
		return r, Checkpoint{}, fmt.Errorf("%w: block %d, and the newest one covers %d",
			wire.ErrNotCovered, r.At.Block, at.Boundary.Height)
	}
	if witnessed, err := n.witnessedHere(); err == nil && r.At.Block < witnessed.Boundary.Height {
		return r, witnessed, nil
	}
	return r, at, nil
}

// LogProof is the inclusion proof of a record's leaf in the tree of a signed checkpoint (C2SP tlog-proof).
type LogProof struct {
	Index uint64
	Path  []chain.Hash
	Note  []byte
}

// LogProof returns the proof of a record in the newest checkpoint. The record must have been read with permission.
// Errors: wire.ErrNotSealed, wire.ErrNotCovered, signing.ErrNoLogKey, wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) LogProof(ctx context.Context, r Record) (_ LogProof, err error) {
	defer n.cfg.Histograms.Proof.Done(time.Now(), &err)
	r, at, err := n.covered(ctx, r)
	if err != nil {
		return LogProof{}, err
	}
	path, err := n.prover.Inclusion(ctx, r.At.Index, at.Boundary.Size)
	return LogProof{Index: r.At.Index, Path: path, Note: at.Note}, err
}

// Receipt returns the receipt of a record, which must have been read with permission. Errors: as LogProof, and
// wire.ErrLost.
func (n *Node) Receipt(ctx context.Context, r Record) (_ wire.Receipt, err error) {
	defer n.cfg.Histograms.Proof.Done(time.Now(), &err)
	r, at, err := n.covered(ctx, r)
	if err != nil {
		return wire.Receipt{}, err
	}
	p, err := n.proveAt(ctx, r, at)
	if err != nil {
		return wire.Receipt{}, err
	}
	origin, _, _ := strings.Cut(p.Checkpoint, "\n")
	return wire.Receipt{
		Format: wire.FormatReceipt, Origin: origin, Index: p.Index, Block: p.Block, Offset: p.Offset,
		Time: r.Time, ProjectID: r.Project, Size: uint32(len(r.Payload)), Key: r.Key, Type: r.Type,
		Salt: r.Salt[:], Commit: r.Commit,
		Leaf: p.Leaf, LeafData: p.LeafData, Header: p.Header,
		RecordPath: p.RecordPath, SealIndex: p.SealIndex, SealPath: p.SealPath,
		TreeSize: p.Size, Root: p.Root, Checkpoint: p.Checkpoint,
	}, nil
}

// WaitReceipt waits until a checkpoint covers a record that was just appended, and returns its receipt. It waits out
// temporary failures. No permission is needed, since the caller has appended the record. Errors:
// signing.ErrNoCheckpoint, signing.ErrNoLogKey, wire.ErrLost, and the cause of the end of ctx with the last failure.
func (n *Node) WaitReceipt(ctx context.Context, at wire.Position) (wire.Receipt, error) {
	if _, err := n.checkpointHere(); err != nil { // a key, or what was lost, may take long to come
		return wire.Receipt{}, err
	}
	// Many may wait at a time, so this signs nothing when the state changes.
	published := func(s *masterfsm.State) bool { return at.Block < s.Published().Boundary.Height }
	if err := n.waitFor(ctx, published); err != nil {
		return wire.Receipt{}, fmt.Errorf("%w: %w", err, wire.ErrNotCovered)
	}
	for pause := retryPause; ; pause = min(2*pause, receiptPause) {
		r, err := n.anyRecord(ctx, at.Block, at.Offset)
		if err == nil {
			var receipt wire.Receipt
			if receipt, err = n.Receipt(ctx, r); err == nil {
				return receipt, nil
			}
		}
		if !isTransient(err) {
			return wire.Receipt{}, err
		}
		select {
		case <-ctx.Done():
			return wire.Receipt{}, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// receiptPause bounds the time between two tries to make a receipt.
const receiptPause = time.Second

// isTransient reports whether a proof that failed for this reason may succeed soon.
func isTransient(err error) bool {
	if errors.Is(err, signing.ErrNoCheckpoint) {
		return false // although it wraps wire.ErrUnavailable
	}
	return slices.ContainsFunc([]error{
		wire.ErrUnavailable, wire.ErrNoLeader, wire.ErrNotCovered, wire.ErrNotSealed, context.DeadlineExceeded,
	}, func(passing error) bool { return errors.Is(err, passing) })
}

package storagenode

import (
	"context"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// ReadBlocks hands over the blocks from one number up to another, in order and as they are on disk; what is handed over is good until
// the next. Errors: ErrBehind, ErrDamaged, and those of give and of the context.
func (n *Node) ReadBlocks(ctx context.Context, from, to uint64, give func(block []byte) error) error {
	b := &blockReader{n: n}
	for number := from; number < to; number++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		block, err := b.block(number)
		if err != nil {
			return err
		}
		if err := give(block); err != nil {
			return err
		}
	}
	return nil
}

// ReadFolder hands over the blocks of a data folder from block 0 to its end, each held against the chain before it and with the head that it leads to, and returns the last. As
// [Verify] it changes nothing, a node may be at work in the folder, and progress, which may be nil, is told of bytes. What is handed over is good until the next.
//
// The first block that is not good ends it with a [*chain.BlockError], one that is confirmed as lost too. Other errors are those of give, the disk and the context.
func ReadFolder(ctx context.Context, dir string, progress func(done, total int64), give func(*chain.Block, chain.Head) error) (chain.Head, error) {
	v, err := openVerification(dir, progress)
	if err != nil {
		return chain.Head{}, err
	}
	head, err := v.handOver(ctx, give)
	return head, errors.Join(err, v.close())
}

func (v *verification) handOver(ctx context.Context, give func(*chain.Block, chain.Head) error) (chain.Head, error) {
	verifier := chain.NewVerifier(chain.Head{})
	reader := newAuditReader(v.audit)
	defer reader.close()
	for number := range v.audit.Height {
		s, err := reader.next(ctx, number)
		if err != nil {
			return verifier.Head(), err
		}
		if s.err != nil {
			return verifier.Head(), &chain.BlockError{Block: number, Err: fmt.Errorf("%s: %w", s.where(), s.err)}
		}
		if _, err := verifier.TakeHashed(&s.block, s.leaves); err != nil {
			return verifier.Head(), err
		}
		if err := give(&s.block, verifier.Head()); err != nil {
			return verifier.Head(), err
		}
		if err := v.audit.read(ctx, segment.FrameHeader+int64(s.place.Length)); err != nil {
			return verifier.Head(), err
		}
	}
	v.progress(v.total, v.total)
	return verifier.Head(), nil
}

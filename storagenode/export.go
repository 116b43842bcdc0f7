package storagenode

import "context"

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

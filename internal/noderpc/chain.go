package noderpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// maxChainBlock bounds a block's bytes, so that a wrong length does not fill the memory.
const maxChainBlock = 256 << 20

// ChainStatus asks a storage node for the height of its chain, for a recovery of the masters.
func (m *Masters) ChainStatus(ctx context.Context, url string) (wire.ChainStatus, error) {
	return decode[wire.ChainStatus](m.at(url, false).get(ctx, wire.PathChain, exchange.MaxSmall))
}

// NewEpoch makes a storage node refuse the leaders of all epochs below the given one, and returns its status
// afterwards. The error wraps [wire.ErrForbidden] if a leader has given it orders recently, [wire.ErrFenced] if it has
// that epoch already, [wire.ErrOtherGroup] if it belongs to another group.
func (m *Masters) NewEpoch(ctx context.Context, url string, order wire.NewEpoch) (wire.ChainStatus, error) {
	return decode[wire.ChainStatus](m.at(url, false).post(ctx, wire.PathChainEpoch, order, exchange.MaxSmall))
}

// Bounds of one answer with blocks of a chain. It is read to its end, which proves it, before a block of it is used.
const (
	maxChainRange      = 64       // blocks
	maxChainRangeBytes = 16 << 20 // of more than one block
)

// ChainBlocks reads the blocks from number from up to but not including to from a storage node, and passes each to
// take, in order. A block is passed on only after the node has proved the answer that it came in. That does not prove
// the block; take does, and its error ends the call.
func (m *Masters) ChainBlocks(ctx context.Context, url string, from, to uint64, take func(chain.Block) error) error {
	for count := uint64(1); from < to; {
		asked := min(count, to-from)
		blocks, size, err := m.chainRange(ctx, url, from, from+asked)
		for _, b := range blocks {
			if err := take(b); err != nil {
				return fmt.Errorf("%s: %w", url, err)
			}
			from++
		}
		switch {
		case err == nil:
			count = chainRangeAfter(asked, size)
		case asked == 1 || ctx.Err() != nil:
			return err
		default:
			count = 1 // one of the blocks is large, or cannot be read: those before it are requested alone
		}
	}
	return nil
}

// chainRangeAfter returns how many blocks are requested after an answer with count blocks of size bytes: up to twice as
// many, if so many blocks of that size are not too large.
func chainRangeAfter(count uint64, size int) uint64 {
	average := max(1, uint64(size)/count)
	return max(1, min(2*count, maxChainRange, maxChainRangeBytes/2/average))
}

// chainRange requests blocks with one call. It returns the blocks before an error too, and the bytes of the answer.
func (m *Masters) chainRange(
	ctx context.Context, url string, from, to uint64,
) (blocks []chain.Block, size int, err error) {
	limit := maxChainRangeBytes
	if to-from == 1 {
		limit = maxChainBlock + 4
	}
	path := wire.PathChainBlocks + "?from=" + strconv.FormatUint(from, 10) + "&to=" + strconv.FormatUint(to, 10)
	a, err := m.at(url, false).get(ctx, path, limit)
	if err != nil {
		return nil, 0, err
	}
	left := a.Body
	for number := from; number < to; number++ {
		var block chain.Block
		if block, left, err = readChainBlock(left); err != nil {
			return blocks, len(a.Body), fmt.Errorf("%s: block %d: %w", url, number, err)
		}
		blocks = append(blocks, block)
	}
	if len(left) > 0 {
		return nil, 0, fmt.Errorf("%s: %w: %d bytes after block %d", url, exchange.ErrAnswer, len(left), to-1)
	}
	return blocks, len(a.Body), nil
}

// readChainBlock reads length u32 ‖ block, and returns what follows. The block does not keep the bytes that it reads.
func readChainBlock(data []byte) (block chain.Block, left []byte, err error) {
	if len(data) < 4 {
		return chain.Block{}, nil, errBrokenOff
	}
	size := binary.BigEndian.Uint32(data)
	if data = data[4:]; uint64(size) > uint64(len(data)) {
		return chain.Block{}, nil, errBrokenOff
	}
	if block, err = chain.ParseBlock(bytes.Clone(data[:size])); err != nil {
		return chain.Block{}, nil, fmt.Errorf("%w: %w", exchange.ErrAnswer, err)
	}
	return block, data[size:], nil
}

// errBrokenOff is the error of an answer that ends early. A node ends it at a block that it cannot read.
var errBrokenOff = fmt.Errorf("%w: the answer broke off", wire.ErrNoAnswer)

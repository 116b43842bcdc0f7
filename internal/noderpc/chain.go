package noderpc

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
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

// ChainBlocks reads the blocks from number from up to but not including to from a storage node, and passes each to
// take, in order. It proves nothing; take does, and its error ends the call.
func (m *Masters) ChainBlocks(ctx context.Context, url string, from, to uint64, take func(chain.Block) error) error {
	path := wire.PathChainBlocks + "?from=" + strconv.FormatUint(from, 10) + "&to=" + strconv.FormatUint(to, 10)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, url, err)
	}
	r.Header = nodeHeader()
	response, err := m.transport.As(m.auth)(r)
	if err != nil {
		return exchange.NoAnswer(url, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		a, err := exchange.Read(url, response, exchange.MaxSmall)
		if err != nil {
			return err
		}
		return cmp.Or(a.Problem(), fmt.Errorf("%s: %w: status %d", url, exchange.ErrAnswer, a.Status))
	}
	stream := bufio.NewReaderSize(response.Body, 256<<10)
	for number := from; number < to; number++ {
		block, err := readChainBlock(stream)
		if err != nil {
			return fmt.Errorf("%s: block %d: %w", url, number, err)
		}
		if err := take(block); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
	return nil
}

// readChainBlock reads length u32 ‖ block.
func readChainBlock(r io.Reader) (chain.Block, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return chain.Block{}, brokenOff(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxChainBlock {
		return chain.Block{}, fmt.Errorf("%w: a block of %d bytes", exchange.ErrAnswer, size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return chain.Block{}, brokenOff(err)
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		return chain.Block{}, fmt.Errorf("%w: %w", exchange.ErrAnswer, err)
	}
	return block, nil
}

// brokenOff is the error of an answer that ends early. A node ends it at a block that it cannot read.
func brokenOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: the answer broke off: %w", wire.ErrNoAnswer, err)
}

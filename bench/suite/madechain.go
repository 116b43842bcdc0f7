package suite

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode"
)

const (
	// blobSize is the payload size of a record in a chain for checks and repairs, blobsPerBlock the records of a block.
	blobSize      = 1 << 10
	blobsPerBlock = 4096
)

// built is a chain that was made in a storage node's folder without a cluster.
type built struct {
	dir    string
	height uint64
	hash   chain.Hash // of the last block
}

func (c built) records() uint64  { return c.height * blobsPerBlock }
func (c built) payloads() uint64 { return c.records() * blobSize } // bytes

// build makes a chain with at least that many bytes of payloads in a new folder. Its blocks have difficulty 0, since a
// check costs the same for them.
func build(ctx context.Context, dir string, payloads uint64, progress func(done uint64)) (c built, err error) {
	n, err := storagenode.Open(storagenode.Config{Dir: dir})
	if err != nil {
		return c, err
	}
	c.dir = dir
	m := blockMaker{verifier: chain.NewVerifier(chain.Head{}), random: rand.New(rand.NewPCG(1, 2))}
	for c.payloads() < payloads {
		if err = ctx.Err(); err != nil {
			break
		}
		var block chain.Block
		if block, err = m.next(); err != nil {
			break
		}
		if _, err = n.Put(ctx, c.height, block.Bytes()); err != nil {
			break
		}
		c.height++
		c.hash = block.Header.Hash()
		progress(c.payloads())
	}
	if closeErr := n.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return c, fmt.Errorf("making a chain in %s: %w", dir, err)
	}
	return c, nil
}

// blockMaker makes the blocks of a chain in order.
type blockMaker struct {
	verifier *chain.Verifier
	random   *rand.Rand
	body     []byte
}

func (m *blockMaker) next() (chain.Block, error) {
	head := m.verifier.Head()
	now := 1_700_000_000_000 + 1000*head.Height // unix milliseconds; only has to go up
	r := chain.Record{Project: 1, Time: now, Type: "application/octet-stream", Payload: make([]byte, blobSize)}
	ends := make([]uint32, 0, blobsPerBlock)
	leaves := make([]chain.Hash, 0, blobsPerBlock)
	m.body = m.body[:0]
	for range blobsPerBlock {
		for i := range r.Salt {
			r.Salt[i] = byte(m.random.Uint32())
		}
		for i := range r.Payload {
			r.Payload[i] = byte(i)
		}
		copy(r.Payload, r.Salt[:]) // no two are the same
		m.body = r.AppendTo(m.body)
		ends = append(ends, uint32(len(m.body)))
		leaves = append(leaves, r.Leaf().Hash())
	}
	block, err := chain.NewBlock(chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: blobsPerBlock,
		Prev: head.Hash, Root: head.Tree.Append(leaves...).Root(), Time: now,
	}, ends, m.body)
	if err != nil {
		return block, err
	}
	_, err = m.verifier.Take(&block)
	return block, err
}

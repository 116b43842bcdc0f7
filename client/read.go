package client

import (
	"context"
	"fmt"
	"strconv"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Get reads the record at a position. The record was checked: its commitment was computed again from salt, key, type
// and payload, and its leaf hash from that and project, time and size. Only the master has checked that the leaf is at
// that place in the chain; see [Client.Proof] and [Client.Receipt]. A record that does not match is requested from the
// other masters; if none has a better one the error wraps [ErrMismatch]. It wraps [wire.ErrNotFound] if there is no
// such record.
func (c *Client) Get(ctx context.Context, block uint64, offset uint32) (wire.Record, error) {
	return c.get(ctx, atPosition(block, offset))
}

// GetIndex reads the record of a leaf index, and checks it as [Client.Get] does. The error wraps [wire.ErrSealIndex] if
// the index is that of a block's seal.
func (c *Client) GetIndex(ctx context.Context, index uint64) (wire.Record, error) {
	return c.get(ctx, atIndex(index))
}

func (c *Client) get(ctx context.Context, p place) (wire.Record, error) {
	return read(ctx, c, p.path, exchange.MaxRecords, func(r *wire.Record) error {
		if err := p.check(r.Block, r.Offset, r.Index); err != nil {
			return err
		}
		if err := checkRecord(r); err != nil {
			return fmt.Errorf("block %d, offset %d: %w", r.Block, r.Offset, err)
		}
		return nil
	})
}

// place names a record by its position or by its leaf index.
type place struct {
	path    string // of the record
	byIndex bool
	block   uint64
	offset  uint32
	index   uint64
}

func atIndex(index uint64) place {
	return place{path: "/v1/records/" + strconv.FormatUint(index, 10), byIndex: true, index: index}
}

func atPosition(block uint64, offset uint32) place {
	return place{path: fmt.Sprintf("/v1/blocks/%d/records/%d", block, offset), block: block, offset: offset}
}

// check returns an error that wraps [ErrMismatch] if an answer is about another record.
func (p place) check(block uint64, offset uint32, index uint64) error {
	if p.byIndex && index != p.index || !p.byIndex && (block != p.block || offset != p.offset) {
		return fmt.Errorf("%w: asked for %s, got block %d, offset %d, index %d", ErrMismatch, p.path, block, offset,
			index)
	}
	return nil
}

// checkRecord compares a record with its commitment and its leaf hash. The error wraps [ErrMismatch].
func checkRecord(r *wire.Record) error {
	if len(r.Salt) != chain.SaltSize {
		return fmt.Errorf("%w: the salt has %d bytes, not %d", ErrMismatch, len(r.Salt), chain.SaltSize)
	}
	record := chain.Record{
		Project: r.ProjectID, Time: r.Time, Salt: [chain.SaltSize]byte(r.Salt), Key: r.Key, Type: r.Type,
		Payload: r.Payload,
	}
	if err := record.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if uint64(r.Size) != uint64(len(r.Payload)) {
		return fmt.Errorf("%w: size %d with a payload of %d bytes", ErrMismatch, r.Size, len(r.Payload))
	}
	leaf := record.Leaf()
	if leaf.Commit != r.Commit {
		return fmt.Errorf("%w: the commitment is %v, the content's is %v", ErrMismatch, r.Commit, leaf.Commit)
	}
	if hash := leaf.Hash(); hash != r.Leaf {
		return fmt.Errorf("%w: the leaf hash is %v, the content's is %v", ErrMismatch, r.Leaf, hash)
	}
	return nil
}

// Blocks reads a page of headers, the newest first: cursor "" for the first page, then [wire.Blocks].Next; limit 0
// leaves the page's size to the master. The hash and the proof of work of each header were checked.
func (c *Client) Blocks(ctx context.Context, cursor string, limit int) (wire.Blocks, error) {
	path := "/v1/blocks"
	if v := pageValues(cursor, limit); len(v) > 0 {
		path += "?" + v.Encode()
	}
	return read(ctx, c, path, exchange.MaxMedium, func(page *wire.Blocks) error {
		for i := range page.Blocks {
			if err := checkHeader(&page.Blocks[i]); err != nil {
				return err
			}
			if i > 0 && page.Blocks[i].Block >= page.Blocks[i-1].Block {
				return fmt.Errorf("%w: the blocks of a page are not in order", ErrAnswer)
			}
		}
		return checkPage(page.Blocks, "blocks", limit)
	})
}

// Block reads a block's header and checks its hash and its proof of work. The error wraps [wire.ErrNotMined]
// for a block that is committed and has no hash yet, [wire.ErrNotFound] for one that does not exist, [wire.ErrLost] for
// one whose header is lost.
func (c *Client) Block(ctx context.Context, number uint64) (wire.Block, error) {
	path := "/v1/blocks/" + strconv.FormatUint(number, 10)
	return read(ctx, c, path, exchange.MaxSmall, func(b *wire.Block) error {
		if b.Block != number {
			return fmt.Errorf("%w: asked for block %d, got block %d", ErrMismatch, number, b.Block)
		}
		return checkHeader(b)
	})
}

// checkHeader checks the hash and the proof of work of a header. The error wraps [ErrMismatch].
func checkHeader(b *wire.Block) error {
	header := b.Header()
	if hash := header.Hash(); hash != b.Hash {
		return fmt.Errorf("%w: block %d: the hash is %v, the header's is %v", ErrMismatch, b.Block, b.Hash, hash)
	}
	if !chain.Mined(b.Hash, b.Difficulty) {
		return fmt.Errorf("%w: block %d: %v has fewer than %d leading zero bits", ErrMismatch, b.Block, b.Hash,
			b.Difficulty)
	}
	return nil
}

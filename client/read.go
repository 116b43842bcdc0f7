package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Get reads the record at a position. What it returns was checked: the commitment was computed again from salt, key,
// type and payload, the leaf hash from that and project, time and size. That the leaf stands in the chain at that place
// is what the master has checked; a proof that needs no master's word is another call's. A record that does not match
// is asked of the other masters; if none has a better one the error wraps [ErrMismatch]. [wire.ErrNotFound] where there
// is no such record.
func (c *Client) Get(ctx context.Context, block uint64, offset uint32) (wire.Record, error) {
	return c.get(ctx, placePath(block, offset), func(r *wire.Record) error {
		if r.Block != block || r.Offset != offset {
			return fmt.Errorf("%w: asked for block %d, offset %d, got block %d, offset %d",
				ErrMismatch, block, offset, r.Block, r.Offset)
		}
		return nil
	})
}

// GetIndex reads the record of a leaf index; it checks what it gets as [Client.Get] does. The error wraps
// [wire.ErrSealIndex] where the index is that of a block's seal.
func (c *Client) GetIndex(ctx context.Context, index uint64) (wire.Record, error) {
	return c.get(ctx, indexPath(index), func(r *wire.Record) error {
		if r.Index != index {
			return fmt.Errorf("%w: asked for index %d, got index %d", ErrMismatch, index, r.Index)
		}
		return nil
	})
}

func (c *Client) get(ctx context.Context, path string, meant func(*wire.Record) error) (wire.Record, error) {
	var r wire.Record
	err := c.read(ctx, path, exchange.MaxRecords, func(a *exchange.Answer) error {
		r = wire.Record{}
		if err := a.Decode(&r); err != nil {
			return err
		}
		if err := meant(&r); err != nil {
			return fmt.Errorf("%s: %w", a.Base, err)
		}
		if err := checkRecord(&r); err != nil {
			return fmt.Errorf("%s: block %d, offset %d: %w", a.Base, r.Block, r.Offset, err)
		}
		return nil
	})
	if err != nil {
		return wire.Record{}, err
	}
	return r, nil
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
// leaves the page's size to the master. Each header was held against its hash and its proof of work.
func (c *Client) Blocks(ctx context.Context, cursor string, limit int) (wire.Blocks, error) {
	v := url.Values{}
	if cursor != "" {
		v.Set("cursor", cursor)
	}
	if limit != 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	path := "/v1/blocks"
	if len(v) > 0 {
		path += "?" + v.Encode()
	}
	var page wire.Blocks
	err := c.read(ctx, path, exchange.MaxMedium, func(a *exchange.Answer) error {
		page = wire.Blocks{}
		if err := a.Decode(&page); err != nil {
			return err
		}
		for i := range page.Blocks {
			if err := checkHeader(&page.Blocks[i]); err != nil {
				return fmt.Errorf("%s: %w", a.Base, err)
			}
		}
		return nil
	})
	if err != nil {
		return wire.Blocks{}, err
	}
	return page, nil
}

// Block reads a block's header and checks its hash and its proof of work. The error wraps [wire.ErrNotMined]
// for a block that is committed and has no hash yet, [wire.ErrNotFound] for one that does not exist.
func (c *Client) Block(ctx context.Context, number uint64) (wire.Block, error) {
	var b wire.Block
	err := c.read(ctx, "/v1/blocks/"+strconv.FormatUint(number, 10), exchange.MaxSmall, func(a *exchange.Answer) error {
		b = wire.Block{}
		if err := a.Decode(&b); err != nil {
			return err
		}
		if b.Block != number {
			return fmt.Errorf("%s: %w: asked for block %d, got block %d", a.Base, ErrMismatch, number, b.Block)
		}
		if err := checkHeader(&b); err != nil {
			return fmt.Errorf("%s: %w", a.Base, err)
		}
		return nil
	})
	if err != nil {
		return wire.Block{}, err
	}
	return b, nil
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

// read is a GET of JSON; to ask it twice does no harm.
func (c *Client) read(ctx context.Context, path string, limit int, take func(*exchange.Answer) error) error {
	q := c.newQuery(http.MethodGet, path, limit)
	q.header["Accept"] = exchange.TypeJSON
	_, err := c.do(ctx, q, take)
	return err
}
